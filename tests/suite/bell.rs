//! Idle servers learn of work at once, and of due jobs when they fall due, without looking for them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rocketjob::{Registry, ServerBuilder, later, prelude::*};
use rocketjob_testing::{
    eventually,
    mongod::{Mongod, Options},
};
use serde::{Deserialize, Serialize};

use crate::stores::{self, Fixture, Kind, on_every_store};

/// No test lasts as long: what happens within one was not found by looking for it.
const NEVER: Duration = Duration::from_hours(1);
/// Far more than many jobs take that are told of, and far less than if they were looked for.
const SHORT: Duration = Duration::from_mins(1);

/// Done as soon as it begins.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "Ding", keep_completed)]
struct Ding {}

impl Perform for Ding {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

/// A server that looks for work only when it is told to.
fn deaf_server(fixture: &Fixture) -> ServerBuilder {
    fixture.server::<Ding>().poll_interval(NEVER)
}

/// The store as another process has it: what this one does it hears only from the store.
async fn another(fixture: &Fixture) -> Store {
    if fixture.address == "memory://" {
        return fixture.store.clone();
    }
    rocketjob::connect(&fixture.address).await.unwrap()
}

async fn hears_others(store: &Store) {
    eventually("the store hears other processes", async || {
        store.hears_others().then_some(())
    })
    .await;
}

async fn completed(store: &Store, count: u64) {
    eventually(&format!("{count} jobs are completed"), async || {
        let completed = Ding::query(store).state(State::Completed);
        (completed.count().await.unwrap() == count).then_some(())
    })
    .await;
}

/// Takes up a worker until the test lets it go.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "Busy", keep_completed)]
struct Busy {}

/// How many jobs are busy, and whether they may end.
#[derive(Default)]
struct Gate {
    busy: AtomicUsize,
    open: AtomicBool,
}

impl Perform for Busy {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        let gate = job.shared::<Arc<Gate>>()?;
        gate.busy.fetch_add(1, Ordering::SeqCst);
        while !gate.open.load(Ordering::SeqCst) && !job.is_cancelled() {
            thread::sleep(Duration::from_millis(2));
        }
        job.check()
    }
}

/// Creates jobs one after the other, each to be performed within a moment, and waits for each. If
/// they were found by looking for them, it would take far too long.
async fn one_after_the_other(fixture: &Fixture, other: &Store, jobs: u64) {
    let all = async {
        for count in 1..=jobs {
            let run_at = later(other.now(), Duration::from_millis(30));
            let job = Ding {}.run_at(run_at).create(other).await.unwrap();
            completed(other, count).await;
            let done = fixture.store.get(job.id()).await.unwrap().unwrap();
            assert!(done.started_at().unwrap() >= run_at, "not before its time");
        }
    };
    let ended = tokio::time::timeout(SHORT, all).await;
    assert!(ended.is_ok(), "not performed when due");
}

on_every_store! {
    /// Jobs that another process creates, one after the other, as soon as it does.
    async fn an_idle_server_is_told_of_jobs_by_other_processes(fixture: &Fixture) {
        let server = deaf_server(fixture).start().await.unwrap();
        hears_others(&fixture.store).await;
        let other = another(fixture).await;
        for count in 1..=20 {
            Ding {}.create(&other).await.unwrap();
            completed(&other, count).await;
        }
        server.stop().await.unwrap();
    }
    /// Scheduled jobs start when they fall due.
    async fn scheduled_jobs_start_when_they_fall_due(fixture: &Fixture) {
        let server = deaf_server(fixture).start().await.unwrap();
        one_after_the_other(fixture, &fixture.store, 30).await;
        server.stop().await.unwrap();
    }

    /// Also those that another process schedules, while a later one is known.
    async fn jobs_that_another_process_schedules_start_when_due(fixture: &Fixture) {
        let server = deaf_server(fixture).start().await.unwrap();
        hears_others(&fixture.store).await;
        let other = another(fixture).await;
        let late = later(other.now(), NEVER);
        let late = Ding {}.run_at(late).create(&other).await.unwrap();
        one_after_the_other(fixture, &other, 30).await;
        let waiting = fixture.store.get(late.id()).await.unwrap().unwrap();
        assert_eq!(waiting.state(), State::Queued);
        server.stop().await.unwrap();
    }

    /// A job that falls due while all workers are busy takes its place in the order at once.
    async fn a_due_job_becomes_ready_while_all_are_busy(fixture: &Fixture) {
        let gate = Arc::new(Gate::default());
        let server = fixture
            .server::<Busy>()
            .register::<Ding>()
            .workers(2)
            .poll_interval(NEVER)
            .shared(Arc::clone(&gate))
            .start()
            .await
            .unwrap();
        Busy::create_many(&fixture.store, [Busy {}, Busy {}]).await.unwrap();
        eventually("all are busy", async || {
            (gate.busy.load(Ordering::SeqCst) == 2).then_some(())
        })
        .await;
        let other = another(fixture).await;
        let run_at = later(other.now(), Duration::from_millis(300));
        let due = Ding {}.run_at(run_at).create(&other).await.unwrap();
        let ready = eventually("it is ready", async || {
            let job = other.get(due.id()).await.unwrap().unwrap();
            job.is_ready().then_some(job)
        })
        .await;
        assert_eq!(ready.hold(), None);
        assert_eq!(gate.busy.load(Ordering::SeqCst), 2, "nobody was free for it");
        gate.open.store(true, Ordering::SeqCst);
        completed(&other, 1).await;
        server.stop().await.unwrap();
    }
}

/// While the store was away, and when it is back.
#[test]
fn a_mongod_that_comes_back_wakes_idle_servers() {
    stores::run(Kind::Memory, "bell::a_mongod_that_comes_back", async |_| {
        let mut mongod = Mongod::start(Options::replica_set("rs")).await;
        let url = mongod.url("jobs");
        let store = rocketjob::connect(&url).await.unwrap();
        let fixture = Fixture {
            store: store.clone(),
            address: url,
            folder: tempfile::tempdir().unwrap(),
            database: None,
        };
        let server = deaf_server(&fixture).start().await.unwrap();
        hears_others(&store).await;
        mongod.kill();
        eventually("the server has noticed", async || {
            (!store.hears_others()).then_some(())
        })
        .await;
        mongod.restart().await;
        let other = another(&fixture).await;
        Ding {}.create(&other).await.unwrap();
        completed(&other, 1).await;
        hears_others(&store).await;
        Ding {}.create(&other).await.unwrap();
        completed(&other, 2).await;
        server.stop().await.unwrap();
    });
}

/// Where other processes cannot be heard their jobs are found all the same.
#[test]
fn a_standalone_mongod_is_asked_for_jobs() {
    stores::run(Kind::Memory, "bell::a_standalone_mongod", async |_| {
        let mongod = Mongod::start(Options::standalone()).await;
        let url = mongod.url("jobs");
        let store = rocketjob::connect(&url).await.unwrap();
        let mut registry = Registry::new();
        registry.register::<Ding>().unwrap();
        let server = Server::builder(&store)
            .only(registry)
            .start()
            .await
            .unwrap();
        let other = rocketjob::connect(&url).await.unwrap();
        for count in 1..=3 {
            Ding {}.create(&other).await.unwrap();
            completed(&other, count).await;
        }
        assert!(!store.hears_others());
        server.stop().await.unwrap();
    });
}
