//! `JobStore::release`.

use bson::doc;
use rocketjob_core::{State, name};

use crate::{Claimer, Harness, ids, insert_all, job};

/// The released jobs are the first by (priority, id), and ready afterwards.
pub async fn makes_the_first_held_jobs_ready(harness: &impl Harness) {
    let store = harness.store();
    let held = |priority| job("A").held("limit:x").priority(priority);
    let inserted = insert_all(&store, [held(50), held(10), held(50), held(10), held(1)]).await;
    assert_eq!(store.release("limit:x", 3).await.unwrap(), 3);
    let claimed = Claimer::new(&store, ["A"]).claim(10).await;
    let first = [4, 1, 3].map(|number| inserted[number]);
    assert_eq!(ids(&claimed.jobs), first);
    assert!(claimed.jobs.iter().all(|job| job.hold().is_none()));
}

/// Not more than there are.
pub async fn says_how_many_it_released(harness: &impl Harness) {
    let store = harness.store();
    insert_all(&store, (0..3).map(|_| job("A").held("limit:x"))).await;
    assert_eq!(store.release("limit:x", 0).await.unwrap(), 0);
    assert_eq!(store.release("limit:x", 2).await.unwrap(), 2);
    assert_eq!(store.release("limit:x", 2).await.unwrap(), 1);
    assert_eq!(store.release("limit:x", 2).await.unwrap(), 0);
}

/// Any number at once, also more than any store has.
pub async fn releases_all_when_asked_for_more_than_there_are(harness: &impl Harness) {
    let store = harness.store();
    insert_all(&store, (0..150).map(|_| job("A").held("limit:x"))).await;
    assert_eq!(store.release("limit:x", usize::MAX).await.unwrap(), 150);
    assert_eq!(Claimer::new(&store, ["A"]).claim(200).await.jobs.len(), 150);
}

/// From reason to reason, in the order of text, to the first job of each by (priority, id).
pub async fn goes_from_one_reason_to_the_next(harness: &impl Harness) {
    let store = harness.store();
    assert_eq!(store.next_held("").await.unwrap(), None);
    let last = job("A").held("limit:z").priority(1).insert(&store).await;
    insert_all(&store, (0..20).map(|_| job("A").held("limit:b"))).await;
    let better = job("B").held("limit:b").priority(3).insert(&store).await;
    let first = job("A").held("limit:a").priority(90).insert(&store).await;
    job("A").insert(&store).await;
    let ended = job("A").held("limit:c").insert(&store).await;
    harness
        .write_raw(ended.id(), doc! { name::STATE: "aborted" }, &[])
        .await;
    let mut seen = Vec::new();
    let mut after = "limit:".to_owned();
    while let Some(job) = store.next_held(&after).await.unwrap() {
        seen.push(job.id());
        job.hold().unwrap().clone_into(&mut after);
    }
    assert_eq!(seen, [first.id(), better.id(), last.id()]);
}

/// Jobs that wait for something else wait on, also when the reasons begin alike.
pub async fn leaves_other_holds_alone(harness: &impl Harness) {
    let store = harness.store();
    let holds = ["limit:x:1", "limit:", "limit:X", "scheduled"];
    let others = insert_all(&store, holds.map(|hold| job("A").held(hold))).await;
    let held = job("A").held("limit:x").insert(&store).await;
    assert_eq!(store.release("limit:x", 10).await.unwrap(), 1);
    for (id, hold) in others.into_iter().zip(holds) {
        let job = store.get(id).await.unwrap().unwrap();
        assert_eq!(job.hold(), Some(hold));
        assert!(!job.is_ready());
    }
    assert!(store.get(held.id()).await.unwrap().unwrap().is_ready());
}

/// A job that was paused or aborted while it was held stays where it is.
pub async fn releases_only_queued_jobs(harness: &impl Harness) {
    let store = harness.store();
    let states = State::ALL.into_iter().filter(|s| *s != State::Queued);
    let held = states.map(|state| job("A").held("limit:x").set(name::STATE, state.as_str()));
    let inserted = insert_all(&store, held).await;
    assert_eq!(store.release("limit:x", 10).await.unwrap(), 0);
    for id in inserted {
        assert!(!store.get(id).await.unwrap().unwrap().is_ready());
    }
}

/// Concurrent calls release as many as they say together.
pub async fn counts_each_job_once(harness: &impl Harness) {
    let handles = [harness.store(), harness.second().await];
    insert_all(&handles[0], (0..40).map(|_| job("A").held("limit:x"))).await;
    let tasks: Vec<_> = (0..6)
        .map(|number| {
            let store = handles[number % 2].clone();
            tokio::spawn(async move { store.release("limit:x", 5).await.unwrap() })
        })
        .collect();
    let mut released = 0;
    for task in tasks {
        released += task.await.unwrap();
    }
    let claimed = Claimer::new(&handles[1], ["A"]).claim(100).await.jobs;
    assert_eq!(u64::try_from(claimed.len()).unwrap(), released);
    assert!(released <= 30);
    assert_eq!(
        handles[0].release("limit:x", 100).await.unwrap(),
        40 - released
    );
}
