//! The memory store keeps the promises of the storage traits.

use std::time::Duration;

use bson::{Document, oid::ObjectId};
use rocketjob_core::{
    Change, Claimed, Clock, Guard, JobStore, ManualClock, MemoryStore, Patch, Store, later, name,
};
use rocketjob_testing::{Claimer, Harness, Loss, claim_of, conformance, ids, job};

struct Memory(MemoryStore);

impl Harness for Memory {
    const MODEL_CASES: u32 = 256;

    async fn start(_test: &'static str) -> Self {
        Self(MemoryStore::new())
    }

    fn store(&self) -> Store {
        Store::new(self.0.clone())
    }

    async fn second(&self) -> Store {
        self.store()
    }

    async fn put_raw(&self, document: Document) {
        self.0.insert_raw(document);
    }

    async fn write_raw(&self, id: ObjectId, set: Document, unset: &[&str]) {
        let unset = unset.iter().map(|field| (*field).to_owned()).collect();
        let change = Change {
            set,
            unset,
            ..Change::new()
        };
        assert!(self.0.change_raw(id, &change), "job {id} exists");
    }

    async fn raw(&self, id: ObjectId) -> Option<Document> {
        self.0.raw(id)
    }

    async fn lose_events(&self, _loss: Loss) {
        self.0.remove_events();
    }

    async fn finish(self) {}
}

conformance!(Memory);

#[tokio::test]
async fn a_scheduled_job_falls_due_when_the_clock_is_moved() {
    let clock = ManualClock::default();
    let memory = MemoryStore::with_clock(clock.clone());
    let store = Store::new(memory.clone());
    let hour = Duration::from_hours(1);
    let run_at = later(clock.now(), hour);
    let scheduled = job("A").scheduled(run_at).insert(&store).await;
    let claimer = Claimer::new(&store, ["A"]);
    clock.advance(Duration::from_millis(3_599_999));
    assert_eq!(store.promote(10).await.unwrap(), 0);
    assert_eq!(claimer.claim(1).await.next_due, Some(run_at));
    clock.advance(Duration::from_millis(1));
    assert_eq!(store.promote(10).await.unwrap(), 1);
    let Claimed { jobs, next_due, .. } = claimer.claim(2).await;
    assert_eq!(ids(&jobs), [scheduled.id()]);
    assert_eq!(jobs[0].started_at(), Some(clock.now()));
    assert_eq!(next_due, None);
}

#[tokio::test]
async fn what_makes_a_job_ready_rings_and_nothing_else_does() {
    let memory = MemoryStore::new();
    let store = Store::new(memory.clone());
    let mut known = memory.bells();
    let mut rang = || {
        let before = std::mem::replace(&mut known, memory.bells());
        known.ready != before.ready
    };
    let ready = Change::new().set(name::READY, true).unset(name::HOLD);
    let patch = |id, change: &Change| Patch {
        id,
        guard: Guard::default(),
        change: change.clone(),
    };
    let held = job("A").held("limit:x").insert(&store).await;
    job("A").unmarked().insert(&store).await;
    assert!(!rang(), "jobs that are not ready were inserted");
    job("A").insert(&store).await;
    assert!(rang(), "a ready job was inserted");
    store.release("limit:y", 1).await.unwrap();
    assert!(!rang(), "nothing was released");
    store.release("limit:x", 1).await.unwrap();
    assert!(rang(), "a job was released");
    store.promote(10).await.unwrap();
    assert!(rang(), "a job was promoted");
    store.promote(10).await.unwrap();
    assert!(!rang(), "nothing was promoted");
    store
        .update(patch(held.id(), &ready))
        .await
        .unwrap()
        .unwrap();
    assert!(rang(), "an update made a job ready");
    let priority = Change::new().set(name::PRIORITY, 7);
    store
        .update(patch(held.id(), &priority))
        .await
        .unwrap()
        .unwrap();
    assert!(!rang(), "an update changed something else");
    let (running, _) = Claimer::new(&store, ["A"]).claim_one().await;
    let back = Patch {
        guard: Guard::claimed(claim_of(&running)),
        ..patch(running.id(), &ready.clone().set(name::STATE, "queued"))
    };
    store.settle(vec![back]).await.unwrap();
    assert!(rang(), "a claim was handed back");
}
