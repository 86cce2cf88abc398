//! `JobStore::delete`.

use rocketjob_core::{Filter, Query, State, name};

use crate::{Claimer, Harness, ids, insert_all, job};

/// What matches goes, and the rest stays.
pub async fn removes_what_matches(harness: &impl Harness) {
    let store = harness.store();
    let inserted = insert_all(&store, [job("A"), job("B"), job("A").held("limit:x")]).await;
    assert_eq!(store.delete(&Filter::kinds(["A"])).await.unwrap(), 2);
    let left = Query::new(Filter::all());
    assert_eq!(ids(&store.find(&left).await.unwrap()), inserted[1..2]);
    assert_eq!(store.delete(&Filter::kinds(["A"])).await.unwrap(), 0);
    assert_eq!(Claimer::new(&store, ["A"]).claim(10).await.jobs, []);
}

/// A running job is its worker's: it is never deleted, whatever the filter says.
pub async fn never_removes_running_jobs(harness: &impl Harness) {
    let store = harness.store();
    insert_all(&store, State::ALL.map(|state| job("A").state(state))).await;
    let running = Filter::state(State::Running);
    assert_eq!(store.delete(&running).await.unwrap(), 0);
    assert_eq!(store.delete(&Filter::all()).await.unwrap(), 5);
    let left = store.find(&Query::new(Filter::all())).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].state(), State::Running);
}

/// Also what cannot be decoded can be got rid of.
pub async fn removes_undecodable_documents(harness: &impl Harness) {
    let store = harness.store();
    let broken = job("A").set(name::FAILURE_COUNT, "many").document(&store);
    let id = broken.get_object_id(name::ID).unwrap();
    harness.put_raw(broken).await;
    assert_eq!(store.delete(&Filter::kinds(["A"])).await.unwrap(), 1);
    assert_eq!(harness.raw(id).await, None);
}

/// Any number at once.
pub async fn removes_many(harness: &impl Harness) {
    let store = harness.store();
    insert_all(&store, (0..1200).map(|_| job("A"))).await;
    assert_eq!(store.delete(&Filter::all()).await.unwrap(), 1200);
}
