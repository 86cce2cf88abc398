//! `JobStore::next_kind`.

use bson::doc;
use rocketjob_core::{State, Store, name};

use crate::{Claimer, Harness, insert_all, job};

async fn kinds(store: &Store) -> Vec<String> {
    let mut kinds = Vec::new();
    let mut last = String::new();
    while let Some(kind) = store.next_kind(&last).await.unwrap() {
        assert!(kind > last, "{kind} does not come behind {last}");
        last.clone_from(&kind);
        kinds.push(kind);
    }
    kinds
}

/// Each kind once, in the order of text, however many jobs there are.
pub async fn goes_from_kind_to_kind(harness: &impl Harness) {
    let store = harness.store();
    assert_eq!(store.next_kind("").await.unwrap(), None);
    let names = ["b", "A::B", "A", "Ä", "AB", "B"];
    for round in 0..20 {
        insert_all(&store, names.map(|kind| job(kind).priority(round + 1))).await;
    }
    let mut expected = names;
    expected.sort_unstable();
    assert_eq!(kinds(&store).await, expected);
}

/// Kinds of which no job may be handed out do not count.
pub async fn sees_ready_jobs_only(harness: &impl Harness) {
    let store = harness.store();
    for state in State::ALL {
        // Other programs leave our mark standing.
        let marked = job(state.as_str()).set(name::STATE, state.as_str());
        harness.put_raw(marked.document(&store)).await;
    }
    let batch = job("Batch")
        .set(name::STATE, State::Running.as_str())
        .set(name::SUB_STATE, "processing");
    harness.put_raw(batch.document(&store)).await;
    insert_all(
        &store,
        [
            job("Held").held("limit:x"),
            job("Scheduled").scheduled(store.now()),
            job("Unmarked").unmarked(),
            job("Claimed").priority(1),
        ],
    )
    .await;
    assert_eq!(kinds(&store).await, ["Batch", "Claimed", "queued"]);
    let (claimed, _) = Claimer::new(&store, ["Claimed"]).claim_one().await;
    assert_eq!(kinds(&store).await, ["Batch", "queued"]);
    let requeued = doc! { name::STATE: State::Queued.as_str(), name::READY: true };
    harness.write_raw(claimed.id(), requeued, &[]).await;
    assert_eq!(kinds(&store).await, ["Batch", "Claimed", "queued"]);
}
