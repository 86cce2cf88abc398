//! A store that loses requests and answers: nothing is lost, and nothing is performed in vain.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rocketjob::{MemoryStore, Registry, prelude::*};
use rocketjob_testing::{Call, Fault, Faulty, eventually};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

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

/// Runs until its server stops, and the store goes away with it.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "Outlasting")]
struct Outlasting {}

impl Perform for Outlasting {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        job.shared::<Arc<Semaphore>>()?.add_permits(1);
        job.cancelled().await;
        job.shared::<Faulty>()?.set_outage(true);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_stops_also_when_the_store_goes_away() {
    let begun = Arc::new(Semaphore::new(0));
    let sound = Store::new(MemoryStore::new());
    let faulty = Faulty::new(&sound);
    let mut registry = Registry::new();
    registry.register::<Outlasting>().unwrap();
    let builder = Server::builder(&Store::new(faulty.clone()))
        .only(registry)
        .workers(1)
        .shared(faulty.clone())
        .shared(Arc::clone(&begun))
        .grace(Duration::from_millis(1));
    let server = builder.start().await.unwrap();
    let job = Outlasting {}.create(&sound).await.unwrap();
    // A job that is running in the store may not have begun, and goes back where its server stops.
    begun.acquire().await.unwrap().forget();
    let stopped = tokio::time::timeout(Duration::from_mins(1), server.stop()).await;
    let error = stopped.expect("it does not wait for ever").unwrap_err();
    assert!(error.is_transient(), "{error}");
    let left = sound.get(job.id()).await.unwrap().unwrap();
    assert_eq!(
        left.state(),
        State::Running,
        "whoever sweeps this server's claims finds it"
    );
}

/// Waits for the gate where it is told to.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "WaitingAtGate", keep_completed)]
struct Gated {
    waits: bool,
}

impl Perform for Gated {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        if self.waits {
            job.shared::<Arc<Semaphore>>()?.acquire().await?.forget();
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_ahead_behind_a_long_job_is_handed_back_and_left_to_others() {
    let sound = Store::new(MemoryStore::new());
    let faulty = Faulty::new(&sound);
    // The first job makes the server believe that all are short.
    Gated { waits: false }
        .priority(1)
        .create(&sound)
        .await
        .unwrap();
    Gated { waits: true }
        .priority(2)
        .create(&sound)
        .await
        .unwrap();
    Gated::create_many(&sound, (0..30).map(|_| Gated { waits: false }))
        .await
        .unwrap();
    let mut registry = Registry::new();
    registry.register::<Gated>().unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let server = Server::builder(&Store::new(faulty.clone()))
        .only(registry)
        .workers(1)
        .shared(Arc::clone(&gate));
    let server = server.start().await.unwrap();
    let queued = async || Gated::query(&sound).queued_now().count().await.unwrap();
    eventually("only the long job is held", async || {
        let running = Gated::query(&sound)
            .state(State::Running)
            .count()
            .await
            .unwrap();
        (running == 1 && queued().await == 30).then_some(())
    })
    .await;
    let claims = faulty.calls(Call::Claim);
    let sweeps = faulty.calls(Call::Promote);
    eventually("the server goes on for a while", async || {
        (faulty.calls(Call::Promote) >= sweeps + 3).then_some(())
    })
    .await;
    assert_eq!(
        faulty.calls(Call::Claim),
        claims,
        "nobody can use more jobs"
    );
    assert_eq!(queued().await, 30);
    gate.add_permits(1);
    eventually("all complete", async || {
        let done = Gated::query(&sound)
            .state(State::Completed)
            .count()
            .await
            .unwrap();
        (done == 32).then_some(())
    })
    .await;
    server.stop().await.unwrap();
}
