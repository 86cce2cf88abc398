//! `JobStore::count` and `JobStore::count_by_state`.

use std::collections::BTreeMap;

use rocketjob_core::{Filter, ReadFrom, State};

use crate::{Harness, insert_all, job};

/// How many match, seen through any handle as soon as they are written.
pub async fn counts_what_matches(harness: &impl Harness) {
    let store = harness.store();
    insert_all(&store, [job("A"), job("B"), job("A").priority(5)]).await;
    let other = harness.second().await;
    let count = async |filter| other.count(&filter, ReadFrom::Primary).await.unwrap();
    assert_eq!(count(Filter::all()).await, 3);
    assert_eq!(count(Filter::kinds(["A"])).await, 2);
    assert_eq!(count(Filter::kinds(["C"])).await, 0);
}

/// How many in each state, without the states that no job is in.
pub async fn counts_by_state(harness: &impl Harness) {
    let store = harness.store();
    let jobs = [
        job("A"),
        job("A").held("limit:x"),
        job("A").state(State::Failed),
        job("A").state(State::Running),
        job("B").state(State::Failed),
        job("B").state(State::Completed),
    ];
    insert_all(&store, jobs).await;
    let count = async |filter: Filter| {
        store
            .count_by_state(&filter, ReadFrom::Primary)
            .await
            .unwrap()
    };
    let own = BTreeMap::from([(State::Queued, 2), (State::Failed, 1), (State::Running, 1)]);
    assert_eq!(count(Filter::kinds(["A"])).await, own);
    let all = BTreeMap::from([
        (State::Queued, 2),
        (State::Failed, 2),
        (State::Running, 1),
        (State::Completed, 1),
    ]);
    assert_eq!(count(Filter::all()).await, all);
    assert_eq!(count(Filter::kinds(["C"])).await, BTreeMap::new());
}

/// Wherever it may be read, it can be read.
pub async fn may_be_read_from_anywhere(harness: &impl Harness) {
    let store = harness.store();
    job("A").insert(&store).await;
    for read_from in [
        ReadFrom::Primary,
        ReadFrom::SecondaryPreferred,
        ReadFrom::Nearest,
    ] {
        crate::eventually("the job is counted", async || {
            let count = store.count(&Filter::all(), read_from).await.unwrap();
            let states = store.count_by_state(&Filter::all(), read_from).await;
            (count == 1 && states.unwrap().len() == 1).then_some(())
        })
        .await;
    }
}
