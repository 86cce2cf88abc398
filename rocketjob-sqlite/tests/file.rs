//! The file: what is refused and how, and that it keeps what was acknowledged.

use std::{fs, path::Path, time::Duration};

use jiff::SignedDuration;
use rocketjob_core::{Error, InspectStore, JobStore, Store};
use rocketjob_sqlite::{Options, SqliteStore, Synchronous};
use rocketjob_testing::job;
use rusqlite::Connection;
use tempfile::TempDir;

async fn refusal(path: impl AsRef<Path>) -> String {
    match SqliteStore::open(path).await {
        Err(Error::Configuration(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_folder_that_does_not_exist_is_named() {
    let folder = TempDir::new().unwrap();
    let missing = folder.path().join("missing");
    let text = refusal(missing.join("jobs.db")).await;
    let expected = format!("the folder `{}` does not exist", missing.display());
    assert!(
        text.contains(&expected) && text.contains("create it"),
        "{text}"
    );
    assert!(!missing.exists());
}

#[tokio::test]
async fn a_folder_in_place_of_a_file_is_refused() {
    let folder = TempDir::new().unwrap();
    let text = refusal(folder.path()).await;
    assert!(text.contains("is a folder"), "{text}");
}

#[tokio::test]
async fn a_file_of_another_kind_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("notes.txt");
    let content = "not a database\n".repeat(1000);
    fs::write(&path, &content).unwrap();
    let text = refusal(&path).await;
    assert!(text.contains("is not an SQLite database"), "{text}");
    assert!(text.contains(&path.display().to_string()), "{text}");
    assert_eq!(fs::read_to_string(&path).unwrap(), content);
}

#[tokio::test]
async fn the_database_of_another_program_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("other.db");
    let other = Connection::open(&path).unwrap();
    other
        .execute_batch("CREATE TABLE bookmarks (url TEXT)")
        .unwrap();
    let text = refusal(&path).await;
    assert!(text.contains("another program"), "{text}");
    let tables: i64 = other
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .unwrap();
    assert_eq!(tables, 1);
}

#[tokio::test]
async fn a_newer_layout_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("jobs.db");
    SqliteStore::open(&path).await.unwrap();
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    let text = refusal(&path).await;
    assert!(
        text.contains("newer version") && text.contains("layout 99"),
        "{text}"
    );
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_place_where_nobody_may_write_is_refused() {
    let text = refusal("/proc/jobs.db").await;
    assert!(text.contains("cannot open `/proc/jobs.db`"), "{text}");
    assert!(text.contains("readable and writable"), "{text}");
}

#[tokio::test]
async fn what_is_no_path_or_address_is_refused() {
    assert!(refusal("").await.contains("no path of a file"));
    assert!(refusal(":memory:").await.contains("no path of a file"));
    let error = SqliteStore::connect("mongodb://localhost")
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("`mongodb://localhost`"),
        "{error}"
    );
}

#[tokio::test]
async fn an_address_leads_to_the_file_that_its_path_names() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("jobs.db");
    let url = format!("sqlite://{}", path.display());
    let store = SqliteStore::connect(&format!("{url}?synchronous=normal"))
        .await
        .unwrap();
    assert_eq!(store.address(), url);
    assert!(path.is_file());
}

#[tokio::test]
async fn what_was_acknowledged_is_there_when_the_file_is_opened_again() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("jobs.db");
    let store = Store::new(SqliteStore::open(&path).await.unwrap());
    let inserted = job("Mail").set("recipient", "ann").insert(&store).await;
    drop(store);
    let again = SqliteStore::open(&path).await.unwrap();
    let found = again.get(inserted.id()).await.unwrap();
    assert_eq!(found, Some(inserted));
}

#[tokio::test]
async fn a_writer_that_takes_too_long_makes_the_store_unavailable_for_a_while() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("jobs.db");
    let store = Options::new()
        .busy_timeout(Duration::from_millis(50))
        .open(&path)
        .await
        .unwrap();
    let wrapped = Store::new(store.clone());
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = store.insert(vec![job("Mail").build(&wrapped)]).await;
    let error = refused.unwrap_err();
    assert!(matches!(&error, Error::Unavailable { .. }), "{error:?}");
    assert!(
        error.is_transient() && error.chain().contains("locked"),
        "{error:?}"
    );
    other.execute_batch("COMMIT").unwrap();
    job("Mail").insert(&wrapped).await;
}

#[tokio::test]
async fn many_may_open_a_new_file_at_the_same_time() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("jobs.db");
    let opening: Vec<_> = (0..16)
        .map(|_| tokio::spawn(SqliteStore::open(path.clone())))
        .collect();
    for store in opening {
        let store = Store::new(store.await.unwrap().unwrap());
        job("Mail").insert(&store).await;
    }
}

#[tokio::test]
async fn a_file_as_it_should_be_has_no_problems() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("jobs.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let inspection = store.inspect().await.unwrap();
    assert_eq!(inspection.problems(), Vec::<String>::new());
    assert!(
        inspection.product.starts_with("SQLite 3."),
        "{inspection:?}"
    );
    let (file, mode) = inspection.topology.split_once(" of ").unwrap();
    assert_eq!(file, format!("file {}", path.display()));
    assert!(mode.ends_with(" MiB in WAL mode"), "{mode}");
    assert!(inspection.durability.contains("synchronous=full"));
    assert!(inspection.clock_offset.abs() < SignedDuration::from_secs(1));
    let careless = Options::new().synchronous(Synchronous::Normal);
    let inspection = careless.open(&path).await.unwrap().inspect().await.unwrap();
    assert!(inspection.durability.contains("power cut"));
    assert_eq!(inspection.problems(), Vec::<String>::new());
}

#[tokio::test]
async fn an_index_that_was_dropped_or_changed_is_named_with_what_brings_it_back() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("jobs.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let other = Connection::open(&path).unwrap();
    other
        .execute_batch(
            "DROP INDEX jobs_ready; DROP INDEX jobs_claimed;
             CREATE INDEX jobs_claimed ON jobs (claim, id);
             CREATE INDEX of_somebody_else ON jobs (created_at);",
        )
        .unwrap();
    let problems = store.inspect().await.unwrap().problems();
    let [claimed, ready] = problems.as_slice() else {
        panic!("{problems:#?}");
    };
    assert!(
        claimed.contains("`jobs_claimed` is not as it should be"),
        "{claimed}"
    );
    assert!(ready.contains("`jobs_ready` is missing"), "{ready}");
    for problem in &problems {
        assert!(problem.contains(&path.display().to_string()), "{problem}");
        let (_, remedy) = problem.split_once("run `").unwrap();
        other.execute_batch(remedy.trim_end_matches('`')).unwrap();
    }
    assert_eq!(
        store.inspect().await.unwrap().problems(),
        Vec::<String>::new()
    );
}
