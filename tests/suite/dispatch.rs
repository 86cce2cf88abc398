//! Which job a worker gets next: reading ahead delays nobody.

use std::sync::Arc;

use parking_lot::Mutex;
use rocketjob::prelude::*;
use rocketjob_testing::eventually;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::stores::on_every_store;

/// Notes that it begins, and waits for the gate where it is told to.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "Numbered")]
struct Numbered {
    number: i64,
    waits: bool,
}

/// In which order jobs began, and what the waiting ones wait for.
struct Course {
    begun: Mutex<Vec<i64>>,
    gate: Semaphore,
}

impl Course {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            begun: Mutex::default(),
            gate: Semaphore::new(0),
        })
    }

    async fn eventually_begun(&self, what: &str, count: usize) {
        eventually(what, async || {
            (self.begun.lock().len() == count).then_some(())
        })
        .await;
    }
}

impl Perform for Numbered {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        let course = job.shared::<Arc<Course>>()?;
        course.begun.lock().push(self.number);
        if self.waits {
            course.gate.acquire().await?.forget();
        }
        Ok(())
    }
}

fn quick(number: i64) -> Numbered {
    Numbered {
        number,
        waits: false,
    }
}

fn waiting(number: i64) -> Numbered {
    Numbered {
        number,
        waits: true,
    }
}

on_every_store! {
    /// While its only worker is in a long job, a server keeps nothing that it has read ahead; what
    /// comes next is the most urgent job of the store.
    async fn an_urgent_job_comes_next_whatever_was_read_ahead(fixture: &Fixture) {
        let store = &fixture.store;
        // The first ones make the server believe that all are short.
        Numbered::create_many(store, (0..20).map(|number| quick(number).priority(1)))
            .await
            .unwrap();
        waiting(20).priority(2).create(store).await.unwrap();
        Numbered::create_many(store, (21..321).map(quick)).await.unwrap();
        let course = Course::new();
        let server = fixture.server::<Numbered>().workers(1).shared(Arc::clone(&course));
        let server = server.start().await.unwrap();
        course.eventually_begun("the long job runs", 21).await;
        quick(1000).priority(1).create(store).await.unwrap();
        eventually("all others are anybody's", async || {
            let queued = Numbered::query(store).queued_now().count().await.unwrap();
            (queued == 301).then_some(())
        })
        .await;
        course.gate.add_permits(1);
        course.eventually_begun("all are done", 322).await;
        assert_eq!(course.begun.lock()[20..22], [20, 1000]);
        server.stop().await.unwrap();
    }

    /// Short jobs pass by the long ones: one worker is enough.
    async fn short_jobs_wait_for_no_long_one(fixture: &Fixture) {
        let store = &fixture.store;
        Numbered::create_many(store, (0..2).map(|number| waiting(number).priority(1)))
            .await
            .unwrap();
        Numbered::create_many(store, (2..602).map(quick)).await.unwrap();
        let course = Course::new();
        let server = fixture.server::<Numbered>().workers(3).shared(Arc::clone(&course));
        let server = server.start().await.unwrap();
        course.eventually_begun("all have begun", 602).await;
        eventually("the short ones are done", async || {
            let left = Numbered::query(store).count().await.unwrap();
            (left == 2).then_some(())
        })
        .await;
        course.gate.add_permits(2);
        server.run_until_idle().await.unwrap();
        assert_eq!(Numbered::query(store).count().await.unwrap(), 0);
    }
}
