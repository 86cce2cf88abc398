//! Idle servers learn of work at once, and of due jobs when they fall due, without looking for them.

use std::time::Duration;

use rocketjob::{ServerBuilder, prelude::*};
use rocketjob_testing::{eventually, mongod::Mongod};
use serde::{Deserialize, Serialize};

use crate::stores::{Fixture, Kind, on_every_store};

/// No test lasts as long: what happens within one was not found by looking for it.
const NEVER: Duration = Duration::from_hours(1);

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
}
