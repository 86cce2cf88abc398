//! `JobStore::now`, `JobStore::next_id`, `JobStore::address`, `JobStore::work_ready`.

#![expect(clippy::unused_async, reason = "all promises have one shape")]

use std::time::Duration;

use rocketjob_core::{in_milliseconds, later};

use super::before;
use crate::{Harness, eventually, job};

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
