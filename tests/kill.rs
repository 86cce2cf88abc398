//! The kill test (`examples/kill`) in its short form, and that it notices what it is there to notice.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails"
)]
#![expect(clippy::print_stdout, reason = "measured figures")]

#[path = "../examples/kill/check.rs"]
mod check;
#[path = "kill/found.rs"]
mod found;
#[path = "../examples/kill/job.rs"]
#[allow(
    dead_code,
    reason = "the program's own module, of which this needs a part"
)]
mod job;
#[path = "../examples/kill/ledger.rs"]
#[allow(
    dead_code,
    reason = "the program's own module, of which this needs a part"
)]
mod ledger;
#[path = "../examples/kill/mix/mod.rs"]
#[allow(
    dead_code,
    reason = "the program's own modules, of which this needs a part"
)]
mod mix;
#[path = "kill/mix.rs"]
mod mix_traces;
#[path = "suite/process.rs"]
#[allow(dead_code, reason = "the suite's module, of which this needs a part")]
mod process;
#[path = "kill/traces.rs"]
mod traces;

use std::{process::Stdio, time::Duration};

use bson::{Bson, Document, doc, oid::ObjectId};
use rocketjob::JobDocument;
use serde_json::Value;

use crate::{
    check::{Findings, check},
    job::retries,
    ledger::{Entry, Event},
};

/// No run takes longer; one that hangs fails.
const CAP: Duration = Duration::from_mins(10);

/// Runs are made one after the other: each is to be disturbed by its own faults only.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn run(arguments: &[&str]) -> Value {
    let _alone = ALONE.lock().await;
    let program = process::example("kill")
        .args(arguments)
        .arg("--json")
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the example can be started");
    let output = tokio::time::timeout(CAP, program.wait_with_output()).await;
    let output = output.expect("it ends in time").unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    println!("{told}");
    assert!(output.status.success(), "{}: {told}", output.status);
    serde_json::from_str(&told).expect("one JSON object")
}

fn plain(store: &str) -> [&str; 6] {
    ["--store", store, "--jobs", "4000", "--arrival", "20"]
}

fn mixed(store: &str) -> [&str; 5] {
    ["--store", store, "--mix", "--arrival", "20"]
}

fn assert_harmed(report: &Value) {
    let figure = |name: &str| report[name].as_u64().unwrap();
    assert_eq!(report["violations"], Value::Array(Vec::new()));
    assert_eq!(report["folder"], Value::Null);
    assert!(report["seconds"].as_f64().unwrap() >= 15.0);
    assert!(figure("kills") >= 5);
    assert!(figure("pauses") >= 3);
    assert!(figure("begins") > figure("jobs"));
    assert!(
        figure("repeated_begins") > 0,
        "no server was killed in the middle of its work"
    );
    assert!(
        figure("reincarnations") > 0,
        "no server came back by itself"
    );
}

#[tokio::test]
async fn nothing_is_lost_on_sqlite() {
    let report = run(&plain("sqlite")).await;
    assert_harmed(&report);
    assert_eq!(report["jobs"], 4000);
}

#[tokio::test]
async fn nothing_is_lost_on_mongo() {
    let report = run(&plain("mongodb")).await;
    assert_harmed(&report);
    assert_eq!(report["jobs"], 4000);
    assert_eq!(report["store_kills"], 2);
}

#[tokio::test]
async fn all_concerns_keep_their_word_on_sqlite() {
    let report = run(&mixed("sqlite")).await;
    assert_harmed(&report);
}

#[tokio::test]
async fn all_concerns_keep_their_word_on_mongo() {
    let report = run(&mixed("mongodb")).await;
    assert_harmed(&report);
    // One more every three minutes, where the machine is slow.
    assert!(report["store_kills"].as_u64().unwrap() >= 2);
}

const JOBS: i64 = 60;
const SERVER: &str = "000000000000000000000001";
const OTHER: &str = "000000000000000000000002";
/// When all jobs were done.
const DONE: i64 = 1_000_000;

/// What a run leaves, in the documents and in the ledger.
struct Traces {
    documents: Vec<Document>,
    ledger: Vec<Entry>,
}

impl Traces {
    /// Of a run in which all went well.
    fn sound() -> Self {
        let mut traces = Self {
            documents: Vec::new(),
            ledger: Vec::new(),
        };
        for number in 0..JOBS {
            let id = ObjectId::new();
            let attempts = retries(number) + 1;
            traces.documents.push(doc! {
                "_id": id, "_type": "KillJob", "state": "completed", "worker_name": Bson::Null,
                "claim": format!("{SERVER}:{}", number * 10 + attempts),
                "failure_count": retries(number), "number": number, "accepted": attempts,
            });
            for attempt in 1..=attempts {
                let last = attempt == attempts;
                let begun = Entry {
                    event: Event::Begun,
                    number,
                    job: id.to_hex(),
                    attempt: attempt.unsigned_abs(),
                    accepted: attempt - 1,
                    claim: format!("{SERVER}:{}", number * 10 + attempt),
                    process: 7,
                    thread: "host:7:1".into(),
                    at: DONE - 50,
                };
                let ended = Entry {
                    event: if last { Event::Done } else { Event::Again },
                    at: DONE,
                    ..begun.clone()
                };
                traces.ledger.extend([begun, ended]);
            }
        }
        traces
    }

    fn check(self) -> Findings {
        let documents = self.documents.into_iter().map(JobDocument::new);
        let documents: Vec<_> = documents.map(Result::unwrap).collect();
        check(JOBS, &documents, &self.ledger)
    }

    /// The line with which the job with this number is last begun.
    fn begun(&mut self, number: i64) -> &mut Entry {
        let lines = self.ledger.iter_mut().rev();
        lines
            .filter(|line| line.number == number)
            .find(|line| line.event == Event::Begun)
            .unwrap()
    }

    /// A server that was killed then had begun the job with this number before.
    fn begun_before(&mut self, number: i64, at: i64) {
        self.also_begun(number, at);
        if let Some(line) = self.ledger.pop() {
            self.ledger.insert(0, line);
        }
    }

    /// Somebody else begins the job with this number as well, at this time, and notes it last.
    fn also_begun(&mut self, number: i64, at: i64) {
        let line = Entry {
            claim: format!("{OTHER}:{number}"),
            process: 8,
            at,
            ..self.begun(number).clone()
        };
        self.ledger.push(line);
    }
}

#[test]
fn traces_of_a_run_that_went_well_show_no_violation() {
    let mut traces = Traces::sound();
    traces.begun_before(3, DONE - 4000);
    let findings = traces.check();
    assert_eq!(findings.violations, Vec::<String>::new());
    assert_eq!(findings.repeated, 1);
    assert_eq!(findings.reincarnations, 0);
    assert_eq!(
        findings.begins,
        usize::try_from(JOBS + 1 + (0..JOBS).map(retries).sum::<i64>()).unwrap()
    );
}

#[test]
fn a_process_that_goes_on_as_another_server_is_counted() {
    let mut traces = Traces::sound();
    traces.also_begun(3, DONE - 4000);
    traces.ledger.last_mut().unwrap().process = 7;
    assert_eq!(traces.check().reincarnations, 1);
}

#[test]
fn every_violation_is_noticed() {
    type Damage = fn(&mut Traces);
    let damages: &[(&str, Damage)] = &[
        ("job 4 is missing", |traces| {
            traces.documents.remove(4);
        }),
        (
            "is in the ledger, last at 1000000, and not in the store",
            |traces| {
                traces.documents.remove(4);
            },
        ),
        ("was created more than once", |traces| {
            let twin = traces.documents[4].clone();
            traces.documents.push(twin);
        }),
        ("is failed, not completed", |traces| {
            traces.documents[4].insert("state", "failed");
        }),
        ("has 2 accepted outcomes, not 1", |traces| {
            traces.documents[4].insert("accepted", 2);
        }),
        ("has failed 1 times, not 0", |traces| {
            traces.documents[4].insert("failure_count", 1);
        }),
        ("still has `worker_name`", |traces| {
            traces.documents[4].insert("worker_name", "host:7:1");
        }),
        ("still has `hold`", |traces| {
            traces.documents[4].insert("hold", "limit:kill:few");
        }),
        ("still has `successors`", |traces| {
            traces.documents[4].insert("successors", vec![doc! {}]);
        }),
        ("was never begun in attempt 1", |traces| {
            traces.ledger.retain(|line| line.number != 4);
        }),
        (
            "was claimed again after it had completed, and begun",
            |traces| {
                traces.also_begun(4, DONE + 10);
                traces.begun(4).accepted = 1;
            },
        ),
        (
            "was begun as attempt 1 after 1 accepted outcomes",
            |traces| {
                // Number 53 fails once before it is done.
                assert!(retries(53) > 0);
                traces.also_begun(53, DONE - 10);
                let line = traces.begun(53);
                (line.attempt, line.accepted) = (1, 1);
            },
        ),
        ("was begun twice under claim", |traces| {
            let line = traces.begun(4).clone();
            traces.ledger.push(line);
        }),
        ("under which the ledger has 0 ends and not one", |traces| {
            let ended = |line: &Entry| line.number == 4 && line.event == Event::Done;
            traces.ledger.retain(|line| !ended(line));
        }),
        ("behind that of its end under claim", |traces| {
            // Begun in time, and noted when another server had done it.
            traces.also_begun(4, DONE - 40);
        }),
        ("1 µs after it was done under claim", |traces| {
            traces.also_begun(4, DONE + 1);
        }),
    ];
    for (expected, damage) in damages {
        let mut traces = Traces::sound();
        damage(&mut traces);
        let findings = traces.check();
        assert!(
            findings
                .violations
                .iter()
                .any(|violation| violation.contains(expected)),
            "`{expected}` is not among {:?}",
            findings.violations
        );
    }
}

#[test]
fn a_line_that_was_cut_spoils_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.txt");
    let mut traces = Traces::sound();
    traces.ledger.truncate(3);
    let ledger = ledger::Ledger::open(&path).unwrap();
    for entry in &traces.ledger {
        ledger.note(entry).unwrap();
    }
    assert_eq!(ledger::read(&path).unwrap(), (traces.ledger.clone(), 0));
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.truncate(text.len() - 4);
    std::fs::write(&path, text).unwrap();
    ledger.note(&traces.ledger[0]).unwrap();
    let (entries, cut) = ledger::read(&path).unwrap();
    traces.ledger[2] = traces.ledger[0].clone();
    assert_eq!(entries, traces.ledger);
    assert_eq!(cut, 1);
}
