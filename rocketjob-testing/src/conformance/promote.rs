//! `JobStore::promote`.

use bson::{Bson, oid::ObjectId};
use rocketjob_core::{Change, Guard, Patch, State, date, later, name};

use super::{HOUR, before};
use crate::{Claimer, Harness, ids, insert_all, job};

const MANY: usize = 1000;

async fn mark(harness: &impl Harness, id: ObjectId) -> (bool, Option<String>) {
    let job = harness.store().get(id).await.unwrap().unwrap();
    (job.is_ready(), job.hold().map(ToOwned::to_owned))
}

fn ready() -> (bool, Option<String>) {
    (true, None)
}

fn held(hold: &str) -> (bool, Option<String>) {
    (false, Some(hold.to_owned()))
}

/// Scheduled jobs whose time has come become ready; the others wait on.
pub async fn makes_due_jobs_ready(harness: &impl Harness) {
    let store = harness.store();
    let now = store.now();
    let due = job("A").scheduled(before(now, HOUR)).insert(&store).await;
    let early = job("A").scheduled(later(now, HOUR)).insert(&store).await;
    assert_eq!(store.promote(MANY).await.unwrap(), 1);
    assert_eq!(mark(harness, due.id()).await, ready());
    assert_eq!(mark(harness, early.id()).await, held("scheduled"));
    assert_eq!(store.promote(MANY).await.unwrap(), 0);
    let claimed = Claimer::new(&store, ["A"]).claim(5).await;
    assert_eq!(ids(&claimed.jobs), [due.id()]);
}

/// A scheduled job whose `run_at` was cleared is due: an operator's wish to run it now.
pub async fn makes_a_job_ready_whose_time_was_cleared(harness: &impl Harness) {
    let store = harness.store();
    let scheduled = || job("A").scheduled(later(store.now(), HOUR));
    let cleared = scheduled().insert(&store).await;
    let absent = scheduled().insert(&store).await;
    let patch = Patch {
        id: cleared.id(),
        guard: Guard::states([State::Queued]),
        change: Change::new().set(name::RUN_AT, Bson::Null),
    };
    store.update(patch).await.unwrap().unwrap();
    harness
        .write_raw(absent.id(), bson::Document::new(), &[name::RUN_AT])
        .await;
    assert_eq!(store.promote(MANY).await.unwrap(), 2);
    assert_eq!(mark(harness, cleared.id()).await, ready());
    assert_eq!(mark(harness, absent.id()).await, ready());
}

/// A scheduled job whose `run_at` was moved to the past by another program is due as well.
pub async fn sees_a_time_that_the_original_moved(harness: &impl Harness) {
    let store = harness.store();
    let moved = job("A").scheduled(later(store.now(), HOUR));
    let moved = moved.insert(&store).await;
    let past = bson::doc! { name::RUN_AT: date(before(store.now(), HOUR)) };
    harness.write_raw(moved.id(), past, &[]).await;
    assert_eq!(store.promote(MANY).await.unwrap(), 1);
    assert_eq!(mark(harness, moved.id()).await, ready());
}

/// Queued jobs without any mark, as the original writes them, become ready or scheduled.
pub async fn adopts_jobs_of_the_original(harness: &impl Harness) {
    let store = harness.store();
    let now = store.now();
    let unmarked = || job("A").unmarked();
    let plain = unmarked().document(&store);
    let past = unmarked()
        .set(name::RUN_AT, date(before(now, HOUR)))
        .document(&store);
    let future = unmarked()
        .set(name::RUN_AT, date(later(now, HOUR)))
        .document(&store);
    let ids = [&plain, &past, &future].map(|d| d.get_object_id(name::ID).unwrap());
    for document in [plain, past, future] {
        harness.put_raw(document).await;
    }
    assert_eq!(store.promote(MANY).await.unwrap(), 3);
    assert_eq!(mark(harness, ids[0]).await, ready());
    assert_eq!(mark(harness, ids[1]).await, ready());
    assert_eq!(mark(harness, ids[2]).await, held("scheduled"));
    assert_eq!(store.promote(MANY).await.unwrap(), 0);
}

/// A running job that the original requeued is adopted like one that it created.
pub async fn adopts_a_job_that_the_original_requeued(harness: &impl Harness) {
    let store = harness.store();
    job("A").insert(&store).await;
    let claimer = Claimer::new(&store, ["A"]);
    let (running, claim) = claimer.claim_one().await;
    let requeue = crate::operator::Original::Requeue.writes(store.now());
    harness.write_raw(running.id(), requeue, &[]).await;
    assert_eq!(claimer.claim(1).await.jobs, []);
    assert_eq!(store.promote(MANY).await.unwrap(), 1);
    let (again, other) = claimer.claim_one().await;
    assert_eq!(again.id(), running.id());
    assert_ne!(other.token, claim.token);
}

/// Only queued jobs that are scheduled or unmarked are touched.
pub async fn leaves_all_other_jobs_alone(harness: &impl Harness) {
    let store = harness.store();
    let past = before(store.now(), HOUR);
    let others = State::ALL
        .into_iter()
        .filter(|state| *state != State::Queued)
        .flat_map(|state| {
            // The original changes the state and leaves the mark.
            let scheduled = job("A").scheduled(past).set(name::STATE, state.as_str());
            [job("A").state(state), scheduled]
        });
    let mut jobs: Vec<_> = others.collect();
    jobs.push(job("A"));
    jobs.push(job("A").held("limit:x").set(name::RUN_AT, date(past)));
    let inserted = insert_all(&store, jobs).await;
    let mut stored = Vec::new();
    for id in &inserted {
        stored.push(harness.raw(*id).await);
    }
    assert_eq!(store.promote(MANY).await.unwrap(), 0);
    for (id, before) in inserted.iter().zip(stored) {
        assert_eq!(harness.raw(*id).await, before);
    }
}

/// At most `limit` jobs are touched by one call, and repeated calls touch all.
pub async fn touches_at_most_the_limit(harness: &impl Harness) {
    let store = harness.store();
    let past = before(store.now(), HOUR);
    insert_all(&store, (0..5).map(|_| job("A").scheduled(past))).await;
    insert_all(&store, (0..5).map(|_| job("A").unmarked())).await;
    assert_eq!(store.promote(0).await.unwrap(), 0);
    let mut touched = Vec::new();
    for _ in 0..10 {
        touched.push(store.promote(4).await.unwrap());
    }
    assert!(touched.iter().all(|touched| *touched <= 4), "{touched:?}");
    assert_eq!(touched.iter().sum::<u64>(), 10, "{touched:?}");
    assert_eq!(Claimer::new(&store, ["A"]).claim(20).await.jobs.len(), 10);
}

/// Any number of servers may promote at the same time: each job is counted once.
pub async fn may_be_done_by_many_at_once(harness: &impl Harness) {
    let handles = [harness.store(), harness.second().await];
    let past = before(handles[0].now(), HOUR);
    insert_all(&handles[0], (0..30).map(|_| job("A").scheduled(past))).await;
    insert_all(&handles[0], (0..30).map(|_| job("A").unmarked())).await;
    let tasks: Vec<_> = (0..6)
        .map(|number| {
            let store = handles[number % 2].clone();
            tokio::spawn(async move { store.promote(MANY).await.unwrap() })
        })
        .collect();
    let mut promoted = 0;
    for task in tasks {
        promoted += task.await.unwrap();
    }
    promoted += handles[0].promote(MANY).await.unwrap();
    assert_eq!(promoted, 60);
    let claimed = Claimer::new(&handles[1], ["A"]).claim(100).await;
    assert_eq!(claimed.jobs.len(), 60);
}
