//! The main job on a real file: the same result on the embedded store and on a real MongoDB.

use crate::{
    process,
    stores::{self, Fixture, Kind},
};

/// What the file holds, counted by other means.
fn expected() -> String {
    let file = include_str!("../../examples/data/zone-changes.csv");
    let mut zones = std::collections::BTreeMap::new();
    for line in file.lines().skip(1) {
        *zones.entry(line.split(',').next().unwrap()).or_insert(0) += 1;
    }
    let rows: i32 = zones.values().sum();
    let (busiest, changes) = zones
        .iter()
        .rev()
        .max_by_key(|(_, changes)| **changes)
        .unwrap();
    format!(
        "State:    completed\nImported: {rows} changes of {} zones\nBusiest:  {busiest} with {changes} changes\nRejected: 0 rows\n",
        zones.len()
    )
}

async fn imports_the_file_and_sums_it_up(fixture: &Fixture) {
    let output = process::example("import")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["--store", &fixture.address, "--database"])
        .arg(fixture.path("zones.db"))
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        text.ends_with(&expected()),
        "{text}\nin place of\n{}",
        expected()
    );
    let jobs = fixture
        .store
        .find(&rocketjob::Query::new(rocketjob::Filter::all()))
        .await
        .unwrap();
    assert_eq!(jobs.len(), 1);
    assert_eq!(
        (jobs[0].kind(), jobs[0].percent_complete()),
        ("ImportJob", 100)
    );
}

async fn says_what_is_wrong_with_a_file_that_is_not_there(fixture: &Fixture) {
    let output = process::example("import")
        .args([
            "--store",
            &fixture.address,
            "no-such-file.csv",
            "--database",
        ])
        .arg(fixture.path("zones.db"))
        .output()
        .await
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("Failed:   std::io::error::Error: No such file"),
        "{text}"
    );
}

#[test]
fn on_sqlite() {
    stores::run(
        Kind::Sqlite,
        "import::on_sqlite",
        imports_the_file_and_sums_it_up,
    );
}

#[test]
fn on_mongo() {
    stores::run(
        Kind::Mongo,
        "import::on_mongo",
        imports_the_file_and_sums_it_up,
    );
}

#[test]
fn of_a_missing_file() {
    let name = "import::of_a_missing_file";
    stores::run(
        Kind::Sqlite,
        name,
        says_what_is_wrong_with_a_file_that_is_not_there,
    );
}
