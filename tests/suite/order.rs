//! Two processes with ten workers each: every job completes once, and in which order they start.

use std::{
    collections::{BTreeSet, HashMap},
    process::Stdio,
};

use rocketjob::{AsStore, prelude::*};
use rocketjob_testing::eventually;
use serde::{Deserialize, Serialize};

use crate::{
    process,
    stores::{self, Fixture, Kind},
};

/// The same kind as the one of `examples/ledger.rs`.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "LedgerJob", keep_completed)]
struct LedgerJob {
    number: i64,
}

impl Perform for LedgerJob {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

const JOBS: i64 = 20_000;
const SERVERS: usize = 2;
const WORKERS: usize = 10;
/// Before a job that a server begins there are at most the jobs that each other server holds, as many
/// that were left to each of a better rank, and those in the hands of its own workers: a server
/// begins what it holds in the order in which it claimed it.
const WINDOW: usize = 2 * (SERVERS - 1) * (WORKERS + rocketjob::MAX_READ_AHEAD) + WORKERS;

async fn every_job_completes_once_and_in_order(fixture: &Fixture) {
    let jobs = (0..JOBS).map(|number| LedgerJob { number }.priority(priority(number)));
    let created = LedgerJob::create_many(&fixture.store, jobs).await.unwrap();
    assert_eq!(created.len(), 20_000);
    let ledger = fixture.path("ledger.txt");
    let servers: Vec<_> = (0..SERVERS)
        .map(|_| {
            process::example("ledger")
                .args(["--store", &fixture.address, "--workers", "10", "--ledger"])
                .arg(&ledger)
                .stdout(Stdio::null())
                .spawn()
                .expect("the example can be started")
        })
        .collect();
    eventually_all_completed(&fixture.store).await;
    for server in servers {
        process::terminate(server).await;
    }

    let lines = std::fs::read_to_string(&ledger).expect("the ledger was written");
    let started: Vec<i64> = lines
        .lines()
        .map(|line| line.split(' ').nth(1).unwrap().parse().unwrap())
        .collect();
    assert_eq!(started.len(), 20_000, "each job was begun once");
    assert_eq!(
        started.iter().collect::<BTreeSet<_>>().len(),
        20_000,
        "each job was begun"
    );
    let processes: BTreeSet<_> = lines
        .lines()
        .map(|line| line.rsplit_once(' ').unwrap().1.rsplit_once(':').unwrap().0)
        .collect();
    assert_eq!(
        processes.len(),
        SERVERS,
        "both processes did their part: {processes:?}"
    );
    let counts = LedgerJob::query(&fixture.store)
        .count_by_state()
        .await
        .unwrap();
    assert_eq!(counts.get(State::Completed), 20_000);
    assert_eq!(fixture.store.servers().await.unwrap(), []);

    let worst = furthest(&started);
    println!(
        "the job that started next was among the first {} of the order (allowed: {WINDOW})",
        worst + 1
    );
    assert!(
        worst < WINDOW,
        "a job was started with {worst} before it, more than {WINDOW}"
    );
}

fn priority(number: i64) -> u8 {
    u8::try_from(number * 7 % 10 * 10 + 1).unwrap()
}

/// How far from the head of what was left the furthest job stood when it was started.
fn furthest(started: &[i64]) -> usize {
    let mut order: Vec<i64> = (0..JOBS).collect();
    order.sort_by_key(|number| (priority(*number), *number));
    let place: HashMap<i64, usize> = order
        .iter()
        .enumerate()
        .map(|(place, number)| (*number, place))
        .collect();
    let mut left: BTreeSet<usize> = (0..order.len()).collect();
    let mut worst = 0;
    for number in started {
        let place = place[number];
        worst = worst.max(left.range(..place).count());
        left.remove(&place);
    }
    worst
}

async fn eventually_all_completed(store: &impl AsStore) {
    let mut completed = 0;
    while completed < 20_000 {
        // Progress is waited for, not the end: a slow machine may take its time.
        completed = eventually("more jobs complete", async || {
            let now = LedgerJob::query(store)
                .state(State::Completed)
                .count()
                .await
                .unwrap();
            (now > completed).then_some(now)
        })
        .await;
    }
}

#[test]
fn two_processes_on_sqlite() {
    stores::run(
        Kind::Sqlite,
        "order::two_processes_on_sqlite",
        every_job_completes_once_and_in_order,
    );
}

#[test]
fn two_processes_on_mongo() {
    stores::run(
        Kind::Mongo,
        "order::two_processes_on_mongo",
        every_job_completes_once_and_in_order,
    );
}
