//! A store that loses requests and answers: nothing is lost, and nothing is performed in vain.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rocketjob::{MemoryStore, Registry, prelude::*};
use rocketjob_testing::{Call, Fault, Faulty, eventually};
use serde::{Deserialize, Serialize};

/// Counts how often it is performed.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "Counted", keep_completed)]
struct Counted {}

static PERFORMED: AtomicU64 = AtomicU64::new(0);

impl Perform for Counted {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        PERFORMED.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_request_or_answer_costs_no_job_and_no_second_attempt() {
    let sound = Store::new(MemoryStore::new());
    let faulty = Faulty::new(&sound);
    let mut registry = Registry::new();
    registry.register::<Counted>().unwrap();
    let server = Server::builder(&Store::new(faulty.clone()))
        .only(registry)
        .workers(2);
    let server = server
        .poll_interval(Duration::from_millis(5))
        .start()
        .await
        .unwrap();
    let mut created = 0;
    for call in [
        Call::Claim,
        Call::Settle,
        Call::Promote,
        Call::NextHeld,
        Call::Find,
    ] {
        for fault in [Fault::Before, Fault::After] {
            faulty.fail_next(call, fault);
            Counted {}.create(&sound).await.unwrap();
            created += 1;
            eventually("the job completes in spite of it", async || {
                let done = Counted::query(&sound)
                    .state(State::Completed)
                    .count()
                    .await
                    .unwrap();
                (done == created).then_some(())
            })
            .await;
        }
    }
    assert_eq!(
        PERFORMED.load(Ordering::SeqCst),
        created,
        "each was performed once"
    );
    for job in Counted::query(&sound).list().await.unwrap() {
        assert_eq!(job.document().failure_count(), 0);
    }
    let stopped = server.stop().await.unwrap();
    assert_eq!(stopped.refused, 0);
}
