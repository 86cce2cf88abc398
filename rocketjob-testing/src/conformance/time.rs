//! `JobStore::now`, `JobStore::next_id`, `JobStore::address`, `JobStore::next_due`.

#![expect(clippy::unused_async, reason = "all promises have one shape")]

use std::time::Duration;

use bson::Document;
use rocketjob_core::{in_milliseconds, later, name};

use super::{HOUR, before};
use crate::{Harness, insert_all, job};

/// A time stamp that is stored comes back equal.
pub async fn is_told_in_whole_milliseconds(harness: &impl Harness) {
    let store = harness.store();
    for _ in 0..100 {
        let now = store.now();
        assert_eq!(now, in_milliseconds(now));
    }
}

/// Two handles on one store agree on the time, as far as a network lets them.
pub async fn is_the_same_for_all_handles(harness: &impl Harness) {
    let (first, second) = (harness.store(), harness.second().await);
    let tolerance = Duration::from_secs(2);
    assert!(second.now() >= before(first.now(), tolerance));
    assert!(second.now() <= later(first.now(), tolerance));
}

/// First in, first out: ids of one producer only increase, and their seconds are the store's.
pub async fn mints_increasing_ids(harness: &impl Harness) {
    let store = harness.store();
    let start = store.now().as_second();
    let ids: Vec<_> = (0..1000).map(|_| store.next_id()).collect();
    assert!(ids.is_sorted_by(|one, next| one < next));
    let seconds = ids[0].timestamp().timestamp_millis() / 1000;
    assert!((seconds - start).abs() <= 2, "{seconds} and {start}");
}

/// Two producers never mint the same id.
pub async fn mints_other_ids_through_another_handle(harness: &impl Harness) {
    let handles = [harness.store(), harness.second().await];
    let mut ids: Vec<_> = (0..2000)
        .map(|number| handles[number % 2].next_id())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 2000);
}

/// People are told where the store is.
pub async fn has_an_address(harness: &impl Harness) {
    assert!(harness.store().address().contains("://"));
}

/// The first of the scheduled jobs, of whatever kind.
pub async fn tells_when_the_next_job_falls_due(harness: &impl Harness) {
    let store = harness.store();
    let due = async || store.next_due().await.unwrap();
    insert_all(&store, [job("A"), job("A").held("limit:x")]).await;
    assert_eq!(due().await, None);
    let soon = later(store.now(), HOUR);
    let scheduled = [soon, later(soon, HOUR)].map(|run_at| job("B").scheduled(run_at));
    let scheduled = insert_all(&store, scheduled).await;
    assert_eq!(due().await, Some(soon));
    let aborted = bson::doc! { name::STATE: "aborted" };
    harness.write_raw(scheduled[0], aborted, &[]).await;
    assert_eq!(due().await, Some(later(soon, HOUR)));
}

/// A scheduled job whose `run_at` was cleared is due now.
pub async fn a_job_without_a_time_is_due_now(harness: &impl Harness) {
    let store = harness.store();
    let before = store.now();
    let run_at = later(before, HOUR);
    let cleared = job("A").scheduled(run_at).insert(&store).await;
    let nothing = Document::new();
    harness
        .write_raw(cleared.id(), nothing, &[name::RUN_AT])
        .await;
    let due = store.next_due().await.unwrap().unwrap();
    assert!(before <= due && due <= store.now(), "{due}");
}
