//! Retry under kills: servers die in the middle of attempts, and no attempt is lost or added.

use std::process::Stdio;

use rocketjob::{Retry, prelude::*};
use rocketjob_testing::eventually;
use serde::{Deserialize, Serialize};

use crate::{
    process,
    stores::{self, Fixture, Kind},
};

/// As that of `examples/retry.rs`.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "Ask", unregistered)]
#[retry]
struct Ask {}

impl Perform for Ask {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

const JOBS: u64 = 30;
const KILLS: u64 = 6;
/// How often a job of the example fails: once, and once for each time that it is tried again.
const FAILURES: u64 = 6;

fn spawn_server(fixture: &Fixture, creates: u64) -> tokio::process::Child {
    process::example("retry")
        .args(["--store", &fixture.address, "--lease", "1500"])
        .args(["--creates", &creates.to_string()])
        .stdout(Stdio::null())
        .spawn()
        .expect("the example can be started")
}

/// How often all jobs together have failed.
async fn failures(store: &Store) -> u64 {
    let jobs = Ask::query(store).limit(1000).documents().await.unwrap();
    jobs.iter()
        .map(|job| u64::try_from(job.failure_count()).unwrap())
        .sum()
}

/// Servers are killed one after the other, in the middle of attempts.
async fn kills_neither_lose_nor_add_an_attempt(fixture: &Fixture) {
    let store = &fixture.store;
    let mut servers = vec![spawn_server(fixture, JOBS), spawn_server(fixture, 0)];
    for kill in 1..=KILLS {
        let enough = kill * JOBS * FAILURES / (KILLS + 2);
        eventually("attempts fail", async || {
            (failures(store).await >= enough).then_some(())
        })
        .await;
        servers.remove(0).kill().await.unwrap();
        servers.push(spawn_server(fixture, 0));
    }
    eventually("all jobs have failed for good", async || {
        let failed = Ask::query(store)
            .state(State::Failed)
            .count()
            .await
            .unwrap();
        (failed == JOBS).then_some(())
    })
    .await;
    for server in servers {
        process::terminate(server).await;
    }
    for job in Ask::query(store).limit(1000).list().await.unwrap() {
        assert_eq!(
            job.document().failure_count(),
            i64::try_from(FAILURES).unwrap()
        );
        let state = job.concern::<Retry>().unwrap();
        assert_eq!(state.failed_at_list.len() as u64, FAILURES - 1);
        assert_eq!(state.retry_history.len() as u64, FAILURES);
        assert_eq!(
            state.failed_at_list,
            state.retry_history[..5]
                .iter()
                .map(|attempt| attempt.failed_at)
                .collect::<Vec<_>>()
        );
        for (n, pair) in (0_i64..).zip(state.retry_history.windows(2)) {
            let waited = pair[1].failed_at.as_millisecond() - pair[0].failed_at.as_millisecond();
            assert!(
                waited >= 20 * (n + 1),
                "attempt {n} came too early: {state:?}"
            );
        }
    }
}

#[test]
fn kills_neither_lose_nor_add_an_attempt_on_sqlite() {
    let name = "retry::kills_on_sqlite";
    stores::run(Kind::Sqlite, name, kills_neither_lose_nor_add_an_attempt);
}

#[test]
fn kills_neither_lose_nor_add_an_attempt_on_mongo() {
    let name = "retry::kills_on_mongo";
    stores::run(Kind::Mongo, name, kills_neither_lose_nor_add_an_attempt);
}
