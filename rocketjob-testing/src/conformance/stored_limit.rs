//! `LimitStore`, and the limits of `JobStore::claim` that are no places.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use rocketjob_core::{
    JobDocument, JobFailure, Limit, Limits, State, Store, StoredLimit, change_limit, later, name,
};
use tokio::task::JoinSet;

use crate::{Claimer, Harness, Wanted, ids, insert_all, job};

const SECOND: Duration = Duration::from_secs(1);

/// Jobs of a kind have these limits.
#[derive(Debug, Default)]
struct ByKind(BTreeMap<&'static str, Vec<Limit>>);

impl ByKind {
    fn one(kind: &'static str, limit: Limit) -> Self {
        Self(BTreeMap::from([(kind, vec![limit])]))
    }
}

impl Limits for ByKind {
    fn limits(&self, job: &JobDocument, _now: Timestamp) -> Result<Vec<Limit>, JobFailure> {
        if job.description() == Some("broken") {
            return Err(JobFailure::message("no limit can be told"));
        }
        Ok(self.0.get(job.kind()).cloned().unwrap_or_default())
    }
}

async fn claim(store: &Store, limits: &dyn Limits, count: usize) -> Vec<JobDocument> {
    let wanted = Wanted {
        limits,
        ..Wanted::count(count)
    };
    let claimer = Claimer::new(store, ["A", "B"]);
    claimer.claim_wanted(&wanted).await.jobs
}

fn limit(store: &Store, key: &str, next: Option<Timestamp>) -> StoredLimit {
    let mut limit = StoredLimit::new(key, store.next_id());
    (limit.next, limit.max) = (next, Some(3));
    limit
}

/// The version that stands decides; of any number of writers one wins.
pub async fn is_replaced_only_by_who_knows_it(harness: &impl Harness) {
    let store = harness.store();
    assert_eq!(store.limit("x").await.unwrap(), None);
    let first = limit(&store, "x", None);
    assert!(store.swap_limit(None, &first).await.unwrap());
    assert!(
        !store
            .swap_limit(None, &limit(&store, "x", None))
            .await
            .unwrap()
    );
    assert_eq!(store.limit("x").await.unwrap(), Some(first.clone()));
    let mut writers = JoinSet::new();
    for _ in 0..8 {
        let (store, previous) = (store.clone(), first.version);
        writers.spawn(async move {
            let next = limit(&store, "x", None);
            store.swap_limit(Some(previous), &next).await.unwrap()
        });
    }
    let won = writers
        .join_all()
        .await
        .into_iter()
        .filter(|won| *won)
        .count();
    assert_eq!(won, 1);
    assert_eq!(store.limit("y").await.unwrap(), None);
}

/// By time, and no more than are asked for; the next due time counts them.
pub async fn falls_due(harness: &impl Harness) {
    let store = harness.store();
    let now = store.now();
    assert_eq!(store.next_due().await.unwrap(), None);
    let future = later(now, SECOND * 3600);
    let second = now.checked_sub(SECOND).unwrap();
    let first = second.checked_sub(SECOND).unwrap();
    for (key, next) in [
        ("c", Some(second)),
        ("a", Some(future)),
        ("b", Some(first)),
        ("d", None),
    ] {
        assert!(
            store
                .swap_limit(None, &limit(&store, key, next))
                .await
                .unwrap()
        );
    }
    let keys = |due: Vec<StoredLimit>| due.into_iter().map(|due| due.key).collect::<Vec<_>>();
    assert_eq!(keys(store.due_limits(10).await.unwrap()), ["b", "c"]);
    assert_eq!(keys(store.due_limits(1).await.unwrap()), ["b"]);
    assert_eq!(store.next_due().await.unwrap(), Some(first));
}

/// By exact name, and running jobs only.
pub async fn knows_whether_a_kind_runs(harness: &impl Harness) {
    let store = harness.store();
    job("A").insert(&store).await;
    job("A").state(State::Paused).insert(&store).await;
    assert!(!store.any_running("A").await.unwrap());
    job("AB").state(State::Running).insert(&store).await;
    assert!(!store.any_running("A").await.unwrap());
    job("A").state(State::Running).insert(&store).await;
    assert!(store.any_running("A").await.unwrap());
}

/// No more start than the rate says; the others are held, and it is known when to look at them.
pub async fn lets_no_more_start_than_the_rate_says(harness: &impl Harness) {
    let store = harness.store();
    insert_all(&store, (0..10).map(|_| job("A"))).await;
    insert_all(&store, (0..2).map(|_| job("B"))).await;
    let limits = ByKind::one("A", Limit::starts("x", 4, SECOND * 3600));
    let claimed = claim(&store, &limits, 20).await;
    assert_eq!(claimed.iter().filter(|job| job.kind() == "A").count(), 4);
    assert_eq!(claimed.iter().filter(|job| job.kind() == "B").count(), 2);
    assert!(claimed.iter().all(|job| job.get(name::SLOTS).is_none()));
    let held = store.next_held("").await.unwrap().unwrap();
    assert_eq!(held.hold(), Some("limit:x"));
    let next = store.limit("x").await.unwrap().unwrap().next.unwrap();
    assert_eq!(store.next_due().await.unwrap(), Some(next));
    assert!(next > later(store.now(), SECOND * 3000));
    // Whoever is let go on too early is held again.
    store.release("limit:x", 10).await.unwrap();
    assert_eq!(claim(&store, &limits, 20).await, []);
}

/// Claimers at the same time share the starts that there are, and lose none.
pub async fn shares_a_rate_among_claimers(harness: &impl Harness) {
    let store = harness.store();
    insert_all(&store, (0..60).map(|_| job("A"))).await;
    let mut claimers = JoinSet::new();
    for _ in 0..4 {
        let store = store.clone();
        claimers.spawn(async move {
            let limits = ByKind::one("A", Limit::starts("x", 20, SECOND * 3600));
            let mut count = 0;
            for _ in 0..4 {
                count += claim(&store, &limits, 3).await.len();
                store.release("limit:x", 60).await.unwrap();
            }
            count
        });
    }
    let claimed: usize = claimers.join_all().await.into_iter().sum();
    assert!(claimed <= 20, "{claimed} began");
    let limits = ByKind::one("A", Limit::starts("x", 20, SECOND * 3600));
    let rest = claim(&store, &limits, 60).await.len();
    assert_eq!(claimed + rest, 20, "all starts are used");
}

/// A job does not start while a job of the other kind runs, and is looked at again.
pub async fn waits_for_another_kind(harness: &impl Harness) {
    let store = harness.store();
    let waiting = job("A").insert(&store).await;
    let other = job("Other").state(State::Running).insert(&store).await;
    let limits = ByKind::one("A", Limit::while_none_runs("Other"));
    assert_eq!(claim(&store, &limits, 1).await, []);
    assert!(
        store
            .limit("after:Other")
            .await
            .unwrap()
            .unwrap()
            .next
            .is_some()
    );
    store
        .delete(&rocketjob_core::Filter::state(State::Queued))
        .await
        .unwrap();
    let again = job("A").insert(&store).await;
    assert_ne!(waiting.id(), again.id());
    let change = rocketjob_core::Change::new().set(name::STATE, State::Completed.as_str());
    let patch = rocketjob_core::Patch {
        id: other.id(),
        guard: rocketjob_core::Guard::default(),
        change,
    };
    store.update(patch).await.unwrap().unwrap();
    assert_eq!(ids(&claim(&store, &limits, 1).await), [again.id()]);
}

/// A job before its time gets the time as its `run_at`; one that is closed out waits by its key.
pub async fn puts_off_what_may_not_start_yet(harness: &impl Harness) {
    let store = harness.store();
    let early = job("A").insert(&store).await;
    let time = later(store.now(), SECOND * 3600);
    let limits = ByKind::one("A", Limit::not_before(time));
    assert_eq!(claim(&store, &limits, 1).await, []);
    let early = store.get(early.id()).await.unwrap().unwrap();
    assert_eq!(
        (early.run_at(), early.hold()),
        (Some(time), Some(name::HOLD_SCHEDULED))
    );
    assert_eq!(store.next_due().await.unwrap(), Some(time));
    let closed = job("B").insert(&store).await;
    let limits = ByKind::one("B", Limit::closed("door", SECOND * 7));
    assert_eq!(claim(&store, &limits, 1).await, []);
    let closed = store.get(closed.id()).await.unwrap().unwrap();
    assert_eq!(closed.hold(), Some("limit:door"));
    let stored = store.limit("door").await.unwrap().unwrap();
    assert_eq!(stored.again, Some(SECOND * 7));
    assert!(stored.next.unwrap() > store.now());
}

/// What an operator has set counts, whatever the jobs say.
pub async fn goes_by_the_number_that_was_set(harness: &impl Harness) {
    let store = harness.store();
    insert_all(&store, (0..10).map(|_| job("A"))).await;
    let limits = ByKind::one("A", Limit::running("x", 1));
    let set = async |max| {
        let changed = change_limit(&*store, "x", |limit| limit.max = max);
        changed.await.unwrap().unwrap();
        store.release("limit:x", 10).await.unwrap();
    };
    set(Some(3)).await;
    assert_eq!(claim(&store, &limits, 10).await.len(), 3);
    set(Some(2)).await;
    assert_eq!(claim(&store, &limits, 10).await.len(), 0);
    set(Some(0)).await;
    assert_eq!(claim(&store, &limits, 2).await.len(), 2, "0 is no limit");
    set(None).await;
    assert_eq!(claim(&store, &limits, 10).await.len(), 0);
}

/// A job whose limits cannot be told fails, and is in nobody's way.
pub async fn fails_a_job_whose_limits_cannot_be_told(harness: &impl Harness) {
    let store = harness.store();
    let broken = job("A")
        .set(name::DESCRIPTION, "broken")
        .insert(&store)
        .await;
    let sound = job("A").insert(&store).await;
    let claimed = claim(&store, &ByKind::default(), 2).await;
    assert_eq!(ids(&claimed), [sound.id()]);
    let broken = store.get(broken.id()).await.unwrap().unwrap();
    assert_eq!(broken.state(), State::Failed);
    assert_eq!(broken.exception().unwrap().message, "no limit can be told");
}

/// Of jobs with a rate no more are claimed than can begin at once, since the others would miss their
/// starts: they stay ready. Jobs without a rate are claimed ahead.
pub async fn books_no_start_that_nobody_can_use(harness: &impl Harness) {
    let store = harness.store();
    let jobs = [job("B"), job("A"), job("A"), job("A"), job("B")];
    let stored = insert_all(&store, jobs).await;
    let limits = ByKind::one("A", Limit::starts("rate", 100, SECOND * 3600));
    let claimer = Claimer::new(&store, ["A", "B"]);
    let wanted = |at_once| Wanted {
        limits: &limits,
        at_once: Some(at_once),
        ..Wanted::count(5)
    };
    for (at_once, expected, left) in [
        (2, &stored[..3], true),
        (0, &stored[..0], true),
        (1, &stored[3..5], false),
    ] {
        let claimed = claimer.claim_wanted(&wanted(at_once)).await;
        assert_eq!(ids(&claimed.jobs), expected, "{at_once}");
        assert_eq!(claimed.left, left, "{at_once}");
        assert_eq!(store.next_held("").await.unwrap(), None, "{at_once}");
    }
}
