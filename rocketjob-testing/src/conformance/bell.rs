//! `JobStore::bells`, `JobStore::work_ready`, `JobStore::hears_others`.

use rocketjob_core::{Change, Guard, Patch, State, Store, date, later, name};
use tokio::task::JoinHandle;

use super::{HOUR, before};
use crate::{Claimer, Harness, claim_of, eventually, job};

/// Who waits for work on the handle through which a ready job is inserted is told.
pub async fn wakes_who_waits_for_work(harness: &impl Harness) {
    let store = harness.store();
    let waiting = tokio::spawn({
        let store = store.clone();
        let known = store.bells();
        async move { store.work_ready(known).await }
    });
    eventually("the bell rings", async || {
        job("A").insert(&store).await;
        waiting.is_finished().then_some(())
    })
    .await;
}

/// Who asks after the insert finds it in the count, and everyone who waits does.
pub async fn remembers_that_work_became_ready(harness: &impl Harness) {
    let store = harness.store();
    let known = store.bells();
    job("A").insert(&store).await;
    for _ in 0..2 {
        let heard = store.work_ready(known).await;
        assert!(heard.ready > known.ready, "{known:?} and {heard:?}");
    }
}

/// Waits on `store` for what others do, until it is dropped.
struct Listener(JoinHandle<()>);

impl Listener {
    async fn start(store: &Store) -> Self {
        let task = tokio::spawn({
            let store = store.clone();
            async move {
                let mut known = store.bells();
                loop {
                    known = store.work_ready(known).await;
                }
            }
        });
        eventually("the store hears other processes", async || {
            store.hears_others().then_some(())
        })
        .await;
        Self(task)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The bell rings for ready work after it had rung `known` times.
async fn rings(store: &Store, known: u64, what: &str) {
    eventually(what, async || (store.bells().ready > known).then_some(())).await;
}

/// Who waits on one handle is told of jobs that become ready through another, whichever way.
pub async fn tells_what_other_handles_make_ready(harness: &impl Harness) {
    let (store, other) = (harness.store(), harness.second().await);
    let _listener = Listener::start(&store).await;
    let ready = |id| Patch {
        id,
        guard: Guard::default(),
        change: Change::new()
            .set(name::STATE, State::Queued.as_str())
            .set(name::READY, true)
            .unset(name::HOLD),
    };
    for round in 0..3 {
        let known = store.bells().ready;
        job("A").insert(&other).await;
        rings(&store, known, "inserted").await;

        job("A").held("limit:x").insert(&other).await;
        let known = store.bells().ready;
        other.release("limit:x", 1).await.unwrap();
        rings(&store, known, "released").await;

        let hour_ago = before(other.now(), HOUR);
        job("A").scheduled(hour_ago).insert(&other).await;
        let known = store.bells().ready;
        other.promote(10).await.unwrap();
        rings(&store, known, "promoted").await;

        let failed = job("A").state(State::Failed).insert(&other).await;
        let known = store.bells().ready;
        other.update(ready(failed.id())).await.unwrap().unwrap();
        rings(&store, known, "retried").await;

        let kind = format!("Claimed{round}");
        job(&kind).insert(&other).await;
        let (claimed, _) = Claimer::new(&other, [&kind]).claim_one().await;
        let known = store.bells().ready;
        let back = Patch {
            guard: Guard::claimed(claim_of(&claimed)),
            ..ready(claimed.id())
        };
        other.settle(vec![back]).await.unwrap();
        rings(&store, known, "handed back").await;
    }
}

/// Who waits on one handle is told of jobs that are scheduled through another: nobody else knows
/// when they fall due.
pub async fn tells_what_other_handles_schedule(harness: &impl Harness) {
    let (store, other) = (harness.store(), harness.second().await);
    let _listener = Listener::start(&store).await;
    let known = store.bells().waiting;
    let scheduled = job("A").scheduled(later(store.now(), HOUR));
    let scheduled = scheduled.insert(&other).await;
    let rang = async |known: u64, what: &str| {
        eventually(what, async || (store.bells().waiting > known).then_some(())).await;
    };
    rang(known, "scheduled").await;
    let known = store.bells().waiting;
    let change = Change::new().set(name::RUN_AT, date(store.now()));
    let patch = Patch {
        id: scheduled.id(),
        guard: Guard::states([State::Queued]),
        change,
    };
    other.update(patch).await.unwrap().unwrap();
    rang(known, "moved").await;
}
