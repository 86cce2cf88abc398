//! The host's clock, which is that of a SQLite file, jumps while servers work.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bson::oid::ObjectId;
use jiff::Timestamp;
use parking_lot::Mutex;
use rocketjob::{
    Clock, ManualClock, Registry, later, name,
    prelude::*,
    sqlite::{Options, SqliteStore},
};
use rocketjob_testing::eventually;
use serde::{Deserialize, Serialize};

const HOUR: i64 = 60;
/// By how many minutes the clock jumps, one after the other; half an hour at the end falls between
/// the times of scheduled jobs.
const JUMPS: [i64; 8] = [HOUR, -HOUR, -HOUR, HOUR, 2 * HOUR, -3 * HOUR, 30, -30];

/// Takes long enough for the clock to jump meanwhile.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "Punctual", keep_completed)]
struct Punctual {}

/// How often each job was performed.
static PERFORMED: Mutex<BTreeMap<ObjectId, u32>> = Mutex::new(BTreeMap::new());

impl Perform for Punctual {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        *PERFORMED.lock().entry(job.id()).or_default() += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(())
    }
}

/// What was created: each job with the time before which it must not start.
struct Bench {
    store: Store,
    clock: ManualClock,
    created: Vec<(ObjectId, Option<Timestamp>)>,
}

impl Bench {
    async fn create(&mut self, count: usize) {
        for _ in 0..count {
            let job = Punctual {}.create(&self.store).await.unwrap();
            self.created.push((job.id(), None));
        }
    }

    async fn schedule(&mut self, minutes: u64) {
        let run_at = later(self.clock.now(), Duration::from_mins(minutes));
        let job = Punctual {}.run_at(run_at).create(&self.store).await;
        self.created.push((job.unwrap().id(), Some(run_at)));
    }

    fn jump(&self, minutes: i64) {
        let by = jiff::SignedDuration::from_mins(minutes);
        self.clock.set(self.clock.now() + by);
    }

    /// Waits for all jobs whose time has come; the others must not have begun.
    async fn settled(&self) {
        let now = self.clock.now();
        for (id, run_at) in &self.created {
            if run_at.is_none_or(|run_at| run_at <= now) {
                eventually("a job completes that is due", async || {
                    let job = self.store.get(*id).await.unwrap().unwrap();
                    (job.state() == State::Completed).then_some(())
                })
                .await;
            }
        }
        for (id, run_at) in &self.created {
            let job = self.store.get(*id).await.unwrap().unwrap();
            match run_at {
                Some(run_at) if job.state() == State::Completed => {
                    assert!(job.started_at().unwrap() >= *run_at, "{job:?}");
                }
                Some(run_at) => {
                    assert!(*run_at > now);
                    assert_eq!(job.state(), State::Queued, "{job:?}");
                }
                None => assert_eq!(job.state(), State::Completed),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_costs_no_job_and_no_second_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::default();
    let open = async || -> SqliteStore {
        let options = Options::new().clock(clock.clone());
        options.open(folder.path().join("jobs.db")).await.unwrap()
    };
    let mut servers = Vec::new();
    for name in ["first:1", "second:1"] {
        let mut registry = Registry::new();
        registry.register::<Punctual>().unwrap();
        // Each sees the other's heartbeats and would take it for dead after ten seconds.
        let server = Server::builder(&Store::new(open().await))
            .only(registry)
            .name(name)
            .workers(3)
            .poll_interval(Duration::from_millis(20))
            .heartbeat_interval(Duration::from_millis(100))
            .lease(Duration::from_secs(10));
        servers.push(server.start().await.unwrap());
    }
    let mut bench = Bench {
        store: Store::new(open().await),
        clock: clock.clone(),
        created: Vec::new(),
    };
    for minutes in JUMPS {
        bench.schedule(45).await;
        bench.create(15).await;
        bench.jump(minutes);
        bench.schedule(15).await;
        bench.create(15).await;
        bench.settled().await;
    }
    assert!(
        bench.created.is_sorted_by(|(one, _), (next, _)| one < next),
        "ids only increase"
    );
    let waiting = Punctual::query(&bench.store).state(State::Queued);
    assert!(waiting.count().await.unwrap() > 0, "some jobs still wait");
    bench.jump(10 * HOUR);
    bench.settled().await;

    let created: BTreeMap<_, _> = bench.created.iter().map(|(id, _)| (*id, 1)).collect();
    assert_eq!(*PERFORMED.lock(), created, "each was performed once");
    let lost = Punctual::query(&bench.store).filter(Filter::exists(name::LOST_CLAIMS));
    assert_eq!(
        lost.count().await.unwrap(),
        0,
        "no server was taken for dead"
    );
    let alive = bench.store.servers().await.unwrap();
    let alive: BTreeSet<_> = alive.into_iter().map(|server| server.name).collect();
    assert_eq!(alive.len(), 2);
    for server in servers {
        server.stop().await.unwrap();
    }
}
