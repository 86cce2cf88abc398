//! What `examples/perf` prints, from a tiny run of each section: that all jobs were done, and that
//! what it concludes follows from what it measured. How fast anything is, is none of this.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails"
)]

#[path = "suite/process.rs"]
#[allow(dead_code, reason = "the suite's module, of which this needs a part")]
mod process;
#[path = "../examples/perf/statistics.rs"]
mod statistics;

use std::{
    process::{Output, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::statistics::{largest, median, number, percentile, slope};

/// No run takes longer; one that hangs fails.
const CAP: Duration = Duration::from_mins(4);

async fn run(arguments: &[&str]) -> Output {
    let program = process::example("perf")
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the example can be started");
    let output = tokio::time::timeout(CAP, program.wait_with_output()).await;
    output.expect("it ends in time").unwrap()
}

/// The section of a run that measures nothing else.
async fn section(name: &str, arguments: &[&str]) -> Value {
    let output = run(&[&[name, "--json"], arguments].concat()).await;
    let told = String::from_utf8_lossy(&output.stdout);
    let progress = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {progress}", output.status);
    let mut report: Value = serde_json::from_str(&told).expect("one JSON object");
    assert!(report["machine"]["cores"].as_u64().unwrap() > 0);
    assert!(report["machine"]["memory_gib"].as_u64().is_some());
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    let stores: Vec<_> = report["stores"].as_array().unwrap().iter().collect();
    assert!(stores[0].as_str().unwrap().starts_with("MongoDB "));
    assert!(stores[1].as_str().unwrap().starts_with("SQLite "));
    let sections = report["sections"].as_object_mut().unwrap();
    assert_eq!(sections.len(), 1);
    let section = sections.remove(name).unwrap();
    assert_it_follows(&section);
    section
}

/// What the section concludes follows from the results, and these from the rounds.
fn assert_it_follows(section: &Value) {
    let result = |way: &str, figure: &str| section["results"][way][figure].as_f64().unwrap();
    for finding in section["findings"].as_array().unwrap() {
        let figure = finding["figure"].as_str().unwrap();
        let of_way = result(finding["way"].as_str().unwrap(), figure);
        let expected = match finding["base"].as_str() {
            Some(base) => of_way / result(base, figure),
            None => of_way,
        };
        let value = finding["value"].as_f64().unwrap();
        assert_close(&finding["value"], expected);
        if let Some(bounds) = finding["bound"].as_object() {
            let (relation, bound) = bounds.iter().next().unwrap();
            let bound = bound.as_f64().unwrap();
            let met = match relation.as_str() {
                "at_least" => value >= bound,
                "above" => value > bound,
                "at_most" => value <= bound,
                "below" => value < bound,
                other => panic!("an unknown relation: {other}"),
            };
            assert_eq!(finding["met"], met, "{finding}");
        }
    }
    for (way, figures) in section["results"].as_object().unwrap() {
        for (figure, value) in figures.as_object().unwrap() {
            let rounds = samples(section, way).filter_map(|round| round[figure].as_f64());
            let rounds: Vec<f64> = rounds.collect();
            // Of pickups all rounds are looked at as one; their test does so as well.
            if !samples(section, way).any(|round| round["p50"].is_f64()) {
                assert_close(value, median(&rounds));
            }
        }
    }
}

/// The same figure but for what printing and reading it costs.
fn assert_close(found: &Value, expected: f64) {
    let found = found.as_f64().unwrap();
    let far = (found - expected).abs() > 1e-9 * expected.abs().max(1.0);
    assert!(!far, "{found} is not {expected}");
}

fn samples<'s>(section: &'s Value, way: &'s str) -> impl Iterator<Item = &'s Value> {
    let rounds = section["rounds"].as_array().unwrap().iter();
    rounds.filter(move |round| round["way"] == way)
}

/// All ways were measured in each of so many rounds.
fn assert_ways(section: &Value, rounds: usize, ways: &[&str]) {
    let results = section["results"].as_object().unwrap();
    let mut found: Vec<_> = results.keys().map(String::as_str).collect();
    let mut ways = ways.to_vec();
    found.sort_unstable();
    ways.sort_unstable();
    assert_eq!(found, ways);
    for way in ways {
        let found = samples(section, way).map(|sample| sample["round"].as_u64().unwrap());
        assert_eq!(
            found.collect::<Vec<_>>(),
            (1..=rounds as u64).collect::<Vec<_>>()
        );
    }
}

/// In each measurement all its jobs were settled, and the rate is that of so many in the time.
fn assert_done(section: &Value) {
    for sample in section["rounds"].as_array().unwrap() {
        let figure = |name: &str| sample[name].as_f64().unwrap();
        // Those that were handed back on the way count once more.
        assert!(figure("settled") >= figure("jobs"), "{sample}");
        assert_close(&sample["rate"], figure("jobs") / figure("seconds"));
    }
}

fn jobs(section: &Value, way: &str) -> u64 {
    samples(section, way).next().unwrap()["jobs"]
        .as_u64()
        .unwrap()
}

#[tokio::test]
async fn throughput() {
    let arguments = ["--rounds", "2", "--jobs", "600", "--classic-jobs", "40"];
    let section = section("throughput", &arguments).await;
    let mut ways = Vec::new();
    for what in ["bare protocol", "classic loop", "1 process"] {
        ways.extend(["kept", "deleted"].map(|kept| format!("{what}, {kept}")));
    }
    for count in [2, 4, 8] {
        ways.extend(["kept", "deleted"].map(|kept| format!("{count} processes, {kept}")));
    }
    let ways: Vec<_> = ways.iter().map(String::as_str).collect();
    assert_ways(&section, 2, &ways);
    assert_done(&section);
    assert_eq!(jobs(&section, "8 processes, kept"), 600);
    assert_eq!(jobs(&section, "classic loop, kept"), 40);
    for kept in ["kept", "deleted"] {
        // The bare protocol takes what the system took in the round before.
        let system = samples(&section, &format!("1 process, {kept}"))
            .next()
            .unwrap()["group"]
            .clone();
        let bare = samples(&section, &format!("bare protocol, {kept}"))
            .nth(1)
            .unwrap()["group"]
            .clone();
        assert_eq!(bare, system);
        let eight = samples(&section, &format!("8 processes, {kept}"))
            .next()
            .unwrap()
            .clone();
        assert_eq!(eight["cpu_of_each"].as_array().unwrap().len(), 8);
        assert!(eight["store_cpu"].as_f64().is_some() && eight["lost"].as_f64().is_some());
    }
}

#[tokio::test]
async fn sqlite() {
    let section = section("sqlite", &["--rounds", "1", "--jobs", "600"]).await;
    let ways = [
        "bare loop, 1 process, kept",
        "bare loop, 1 process, deleted",
        "bare loop, 2 processes, kept",
        "bare loop, 2 processes, deleted",
        "1 process, kept",
        "1 process, deleted",
        "2 processes, kept",
        "2 processes, deleted",
    ];
    assert_ways(&section, 1, &ways);
    assert_done(&section);
}

#[tokio::test]
async fn enqueue() {
    let section = section("enqueue", &["--rounds", "2", "--jobs", "500"]).await;
    let ways = [
        ("mongodb, create_many", 500),
        ("mongodb, insert_many", 500),
        ("mongodb, create", 100),
        ("mongodb, insert_one", 100),
        ("sqlite, create_many", 500),
        ("sqlite, bare, 1000 in a transaction", 500),
        ("sqlite, create", 100),
        ("sqlite, bare, 1 in a transaction", 100),
    ];
    assert_ways(&section, 2, &ways.map(|(way, _)| way));
    for (way, count) in ways {
        for sample in samples(&section, way) {
            assert_eq!(sample["jobs"], count);
            assert_eq!(sample["found"], count);
        }
    }
}

#[tokio::test]
async fn scale() {
    let section = section("scale", &["--rounds", "1", "--waiting-jobs", "30"]).await;
    let ways = ["1 process", "2 processes", "4 processes", "8 processes"];
    assert_ways(&section, 1, &ways);
    assert_done(&section);
    for (way, processes) in ways.into_iter().zip([1, 2, 4, 8]) {
        assert_eq!(jobs(&section, way), 30 * processes);
        let sample = samples(&section, way).next().unwrap();
        let idle = sample["idle_times"].as_u64().unwrap();
        // Before its first job a worker has ended none.
        assert!(idle >= 20 * processes && idle < 30 * processes, "{sample}");
    }
}

#[tokio::test]
async fn pickup() {
    let section = section("pickup", &["--rounds", "2", "--pickups", "6"]).await;
    let ways = [
        "mongodb",
        "mongodb, scheduled",
        "mongodb, same process",
        "sqlite",
        "sqlite, scheduled",
        "sqlite, same process",
    ];
    assert_ways(&section, 2, &ways);
    for way in ways {
        let all =
            samples(&section, way).flat_map(|sample| sample["milliseconds"].as_array().unwrap());
        let all: Vec<f64> = all.map(|latency| latency.as_f64().unwrap()).collect();
        assert_eq!(all.len(), 6);
        let result = &section["results"][way];
        assert_close(&result["p50"], median(&all));
        assert_close(&result["p99"], percentile(&all, 99));
        assert_close(&result["largest"], largest(&all));
        // Nothing begins before its time.
        assert!(!way.ends_with("scheduled") || all.iter().all(|latency| *latency >= 0.0));
    }
}

#[tokio::test]
async fn idle() {
    let section = section("idle", &["--idle-servers", "2", "--idle-seconds", "3"]).await;
    assert_ways(&section, 1, &["mongodb", "sqlite"]);
    for way in ["mongodb", "sqlite"] {
        let sample = samples(&section, way).next().unwrap();
        for list in ["cpu_of_each", "memory_of_each"] {
            assert_eq!(sample[list].as_array().unwrap().len(), 2);
        }
        let memory = sample["memory_of_each"].as_array().unwrap().iter();
        assert!(memory.clone().all(|memory| memory.as_f64().unwrap() > 1.0));
        assert!(sample["calls"].as_f64().unwrap() > 0.0);
    }
    let mongo = samples(&section, "mongodb").next().unwrap();
    let by_kind = mongo["operations_by_kind"].as_object().unwrap().values();
    let all: f64 = by_kind.filter_map(Value::as_f64).sum();
    assert_close(&mongo["operations"], all);
}

#[tokio::test]
async fn depth() {
    let section = section("depth", &["--rounds", "1", "--depth", "3000"]).await;
    for store in ["mongodb", "sqlite"] {
        for (length, count) in [("short", 1000), ("long", 3000)] {
            let way = format!("{store}, {length} queue");
            let sample = samples(&section, &way).next().unwrap();
            assert_eq!(sample["jobs"], count);
            let times = sample["milliseconds"].as_array().unwrap();
            let times: Vec<f64> = times.iter().filter_map(Value::as_f64).collect();
            assert_eq!(times.len(), 20);
            assert_close(&sample["claim_ms"], median(&times));
        }
    }
    assert_eq!(section["rounds"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn ahead() {
    let section = section("ahead", &["--rounds", "1", "--ahead", "300"]).await;
    for store in ["mongodb", "sqlite"] {
        for (ahead, count) in [
            ("nothing ahead", 0),
            ("scheduled", 300),
            ("throttled kind", 300),
            ("out of its window", 300),
            ("dependent", 300),
            ("keys, nothing ahead", 0),
            ("keys, a throttled one", 300),
        ] {
            let way = format!("{store}, {ahead}");
            let sample = samples(&section, &way).next().unwrap();
            assert_eq!(sample["ahead"], count, "{way}");
            let times = sample["milliseconds"].as_array().unwrap();
            let times: Vec<f64> = times.iter().filter_map(Value::as_f64).collect();
            assert_eq!(times.len(), 20);
            assert_close(&sample["claim_ms"], median(&times));
        }
    }
    assert_eq!(section["findings"].as_array().unwrap().len(), 10);
}

#[tokio::test]
async fn mixed() {
    let section = section("mixed", &["--rounds", "2", "--jobs", "300"]).await;
    let ways = [
        "mongodb, 1 worker",
        "mongodb, 1 worker beside 9 in long jobs",
        "sqlite, 1 worker",
        "sqlite, 1 worker beside 9 in long jobs",
    ];
    assert_ways(&section, 2, &ways);
    assert_done(&section);
    for way in ways {
        let long = if way.contains("beside") { 9 } else { 0 };
        assert!(samples(&section, way).all(|sample| sample["long_jobs"] == long));
    }
}

#[tokio::test]
async fn soak() {
    let section = section("soak", &["--minutes", "0.1"]).await;
    assert_ways(&section, 1, &["server 1", "server 2", "mongod"]);
    let mut settled = 0;
    for sample in section["rounds"].as_array().unwrap() {
        let looks = sample["looks"].as_array().unwrap();
        assert!(looks.len() >= 2, "{sample}");
        let points = looks
            .iter()
            .map(|look| (look[0].as_f64().unwrap(), look[1].as_f64().unwrap()));
        let points: Vec<_> = points.collect();
        let megabytes: Vec<_> = points.iter().map(|point| point.1).collect();
        assert_close(&sample["first"], megabytes[0]);
        assert_close(&sample["last"], megabytes[megabytes.len() - 1]);
        assert_close(&sample["peak"], largest(&megabytes));
        assert_close(&sample["slope"], slope(&points) * 60.0);
        settled += sample["settled"].as_u64().unwrap_or(0);
    }
    let created = samples(&section, "mongod").next().unwrap()["created"]
        .as_u64()
        .unwrap();
    assert!(created > 0 && settled >= created, "{settled} of {created}");
}

#[tokio::test]
async fn tables_are_for_people() {
    let output = run(&["depth", "--rounds", "1", "--depth", "1500"]).await;
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
    assert!(
        told.contains("- MongoDB ") && told.contains("- SQLite "),
        "{told}"
    );
    assert!(told.contains("### depth"), "{told}");
    let row = told
        .lines()
        .find(|line| line.starts_with("| mongodb, long queue"));
    assert!(row.unwrap().contains("1,500"), "{told}");
    let finding = told
        .lines()
        .find(|line| line.contains("of sqlite, short queue"));
    let finding = finding.unwrap();
    assert!(finding.contains("≤ 1.25 ×"), "{told}");
    assert!(
        finding.contains("met") || finding.contains("NOT MET"),
        "{told}"
    );
    assert!(
        told.lines()
            .filter(|line| line.starts_with('|'))
            .all(|line| line.chars().count() <= 100)
    );
}

#[tokio::test]
async fn what_cannot_be_measured_is_refused() {
    for arguments in [&["everything"][..], &["depth", "--rounds", "0"]] {
        let output = run(arguments).await;
        assert!(!output.status.success());
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains("soak") || told.contains("above 0"), "{told}");
    }
}

#[test]
fn figures_are_put_together_rightly() {
    assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    assert!((median(&[4.0, 1.0, 3.0, 2.0]) - 2.5).abs() < f64::EPSILON);
    assert!(median(&[]).is_nan());
    let hundred: Vec<_> = (1..=100).map(number).collect();
    assert!((percentile(&hundred, 99) - 99.0).abs() < f64::EPSILON);
    assert!((percentile(&[5.0], 99) - 5.0).abs() < f64::EPSILON);
    assert!((largest(&[1.0, 3.0, 2.0]) - 3.0).abs() < f64::EPSILON);
    let line: Vec<_> = hundred.iter().map(|x| (*x, 3.0 * x + 7.0)).collect();
    assert!((slope(&line) - 3.0).abs() < 1e-9);
}
