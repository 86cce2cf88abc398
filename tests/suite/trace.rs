//! Traces that go from whoever creates a job to whoever performs it.

use std::{collections::HashMap, io::Write, sync::Arc};

use bson::Document;
use parking_lot::Mutex;
use rocketjob::{Error, Kinds, MemoryStore, NewJobOptions, Registry, Trace, prelude::*};
use serde::{Deserialize, Serialize};
use tracing_subscriber::fmt::{MakeWriter, format::FmtSpan};

use crate::{
    process,
    stores::{self, Fixture, Kind, on_every_store},
};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "TracedJob", keep_completed)]
struct TracedJob {
    seen: Option<String>,
}

impl Perform for TracedJob {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        let trace = job.trace();
        self.seen = trace.map(|trace| format!("{} {:?}", trace.traceparent(), trace.tracestate()));
        Ok(())
    }
}

on_every_store! {
    /// Beside the job's own fields, through failure and retry.
    async fn a_job_carries_the_trace_that_it_was_given(fixture: &Fixture) {
        let trace = Trace::new(PARENT).unwrap().with_state("congo=t61rcWkgMzE");
        let mut job = TracedJob { seen: None }.trace(trace.clone()).create(&fixture.store).await.unwrap();
        let mut plain = TracedJob { seen: None }.create(&fixture.store).await.unwrap();
        assert_eq!(job.document().trace(), Some(trace.clone()));
        assert_eq!(plain.document().get(rocketjob::name::TRACE), None);
        job.fail("for a test").await.unwrap();
        job.retry().await.unwrap();
        let server = fixture.server::<TracedJob>().start().await.unwrap();
        server.run_until_idle().await.unwrap();
        job.reload().await.unwrap();
        let seen = format!("{PARENT} Some(\"congo=t61rcWkgMzE\")");
        assert_eq!((job.state(), job.seen.as_deref()), (State::Completed, Some(seen.as_str())));
        assert_eq!(job.document().trace(), Some(trace));
        plain.reload().await.unwrap();
        assert_eq!((plain.state(), plain.seen.as_deref()), (State::Completed, None));
    }
}

#[test]
fn what_is_no_trace_is_refused() {
    let wrong = [
        "",
        "00",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-02",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
    ];
    for text in wrong {
        let error = Trace::new(text).unwrap_err();
        assert!(matches!(error, Error::Configuration(_)), "{text}");
        assert!(error.to_string().contains("is no `traceparent`"), "{error}");
    }
    // A later version of the form may have more at its end.
    let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
    let trace = Trace::new(later).unwrap();
    assert_eq!(trace.parent_id(), "00f067aa0ba902b7");
    for state in [String::new(), "x".repeat(513), "a=ü".into()] {
        assert_eq!(trace.clone().with_state(state).tracestate(), None);
    }
}

/// Also a job that is created without its Rust type.
#[test]
fn a_job_from_json_is_created_in_a_span() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(lines.clone())
        .with_ansi(false)
        .with_span_events(FmtSpan::CLOSE)
        .finish();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let job = tracing::subscriber::with_default(subscriber, || {
        runtime.block_on(async {
            let store = Store::new(MemoryStore::new());
            let mut registry = Registry::new();
            registry.register::<TracedJob>().unwrap();
            let kinds = Kinds::of(&store, registry).await.unwrap();
            let options = NewJobOptions::default();
            rocketjob::enqueue(&store, &kinds, "TracedJob", Document::new(), &options).await
        })
    });
    let span = format!("enqueue{{kind=\"TracedJob\" id={}}}", job.unwrap().id());
    let lines = lines.text();
    assert!(lines.contains(&span), "{lines}");
}

/// Lines as they are written.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// A span as the example prints it.
#[derive(Debug)]
struct Exported {
    name: String,
    trace: String,
    id: String,
    parent: String,
    job: String,
}

async fn exported(fixture: &Fixture, part: &str) -> Vec<Exported> {
    let mut command = process::example("opentelemetry");
    command.args(["--store", &fixture.address, "--export", "memory", part]);
    let output = command.output().await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let parse = |line: &str| {
        let mut parts = line.split(' ').map(str::to_owned);
        let mut next = || parts.next().unwrap();
        Exported {
            name: next(),
            trace: next(),
            id: next(),
            parent: next(),
            job: next(),
        }
    };
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(parse).collect()
}

fn named<'a>(spans: &'a [Exported], name: &str) -> Vec<&'a Exported> {
    spans.iter().filter(|span| span.name == name).collect()
}

/// One process creates jobs in a span, another performs them.
async fn continues(fixture: &Fixture) {
    let created = exported(fixture, "enqueue").await;
    let performed = exported(fixture, "perform").await;

    let [order] = named(&created, "order")[..] else {
        panic!("{created:#?}")
    };
    let enqueued = named(&created, "enqueue");
    assert_eq!(
        enqueued.len(),
        2,
        "one job alone, two at once: {created:#?}"
    );
    assert!(
        enqueued
            .iter()
            .all(|span| span.trace == order.trace && span.parent == order.id)
    );
    let alone = enqueued.iter().find(|span| span.job != "-").unwrap();
    let together = enqueued.iter().find(|span| span.job == "-").unwrap();

    let performs = named(&performed, "perform");
    let sends = named(&performed, "send");
    assert_eq!((performs.len(), sends.len()), (3, 3), "{performed:#?}");
    let mut children = HashMap::new();
    for perform in performs {
        assert_eq!(perform.trace, order.trace);
        assert!(
            sends
                .iter()
                .any(|send| send.parent == perform.id && send.trace == order.trace)
        );
        *children.entry(perform.parent.as_str()).or_insert(0) += 1;
        assert_eq!(perform.job == alone.job, perform.parent == alone.id);
    }
    let wanted = HashMap::from([(alone.id.as_str(), 1), (together.id.as_str(), 2)]);
    assert_eq!(children, wanted);
}

#[test]
fn a_trace_continues_in_another_process_on_sqlite() {
    stores::run(Kind::Sqlite, "trace::continues_on_sqlite", continues);
}

#[test]
fn a_trace_continues_in_another_process_on_mongo() {
    stores::run(Kind::Mongo, "trace::continues_on_mongo", continues);
}
