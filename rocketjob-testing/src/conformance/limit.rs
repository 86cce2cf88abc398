//! The limits of `JobStore::claim`.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bson::Bson;
use rocketjob_core::{
    Change, Claim, ClaimToken, Filter, Guard, JobDocument, Limit, Patch, Query, ReadFrom, Refusal,
    Settled, State, Store, name,
};
use tokio::task::JoinSet;

use crate::{
    Claimer, FieldLimits, Harness, Wanted, claim_of, ids, insert_all, job, operator::Original,
};

const KEY: &str = "throttle:A";

fn limited() -> crate::JobBuilder {
    job("A").set("key", KEY)
}

async fn claim(claimer: &Claimer, count: usize, max: u32) -> Vec<JobDocument> {
    let limits = FieldLimits::new("key", max);
    let wanted = Wanted {
        limits: &limits,
        ..Wanted::count(count)
    };
    claimer.claim_wanted(&wanted).await.jobs
}

fn slots(job: &JobDocument) -> Vec<&str> {
    match job.get(name::SLOTS) {
        Some(Bson::Array(slots)) => slots.iter().filter_map(Bson::as_str).collect(),
        _ => Vec::new(),
    }
}

/// A job that finds no free place stays queued, says what it waits for, and does not count.
pub async fn holds_jobs_without_a_free_place(harness: &impl Harness) {
    let store = harness.store();
    let limited = insert_all(&store, (0..4).map(|_| limited())).await;
    let free = insert_all(&store, [job("A"), job("A")]).await;
    let claimed = claim(&Claimer::new(&store, ["A"]), 3, 1).await;
    assert_eq!(ids(&claimed), [limited[0], free[0], free[1]]);
    for id in &limited[1..] {
        let held = store.get(*id).await.unwrap().unwrap();
        assert_eq!(held.state(), State::Queued);
        assert_eq!(held.hold(), Some(Limit::hold(KEY).as_str()));
        assert!(!held.is_ready());
    }
}

/// Each running job has its own places, numbered below the maximum, and no others.
pub async fn gives_each_job_its_own_places(harness: &impl Harness) {
    let store = harness.store();
    insert_all(&store, (0..3).map(|_| limited().set("customer", "acme"))).await;
    let limits = FieldLimits::new("key", 5).and("customer", 3);
    let wanted = Wanted {
        limits: &limits,
        ..Wanted::count(10)
    };
    let claimed = Claimer::new(&store, ["A"]).claim_wanted(&wanted).await.jobs;
    let taken: BTreeSet<&str> = claimed.iter().flat_map(slots).collect();
    assert_eq!(taken.len(), 6, "no place is taken twice: {taken:?}");
    let known: BTreeSet<String> = [(KEY, 5), ("acme", 3)]
        .into_iter()
        .flat_map(|(key, max)| (0..max).map(move |number| Limit::slot(key, number)))
        .collect();
    assert!(taken.iter().all(|slot| known.contains(*slot)), "{taken:?}");
    for job in &claimed {
        let keys: Vec<_> = slots(job)
            .iter()
            .filter_map(|slot| Some(slot.rsplit_once(':')?.0))
            .collect();
        assert_eq!(keys.len(), 2);
        assert!(keys.contains(&KEY) && keys.contains(&"acme"));
    }
}

/// A job that needs several places takes none when one of them is missing.
pub async fn takes_all_places_of_a_job_or_none(harness: &impl Harness) {
    let store = harness.store();
    let both = || limited().set("customer", "acme");
    let inserted = insert_all(
        &store,
        [both(), both(), limited(), job("A").set("customer", "other")],
    )
    .await;
    // The second job finds a place for the key, and none for the customer.
    let limits = FieldLimits::new("key", 2).and("customer", 1);
    let wanted = Wanted {
        limits: &limits,
        ..Wanted::count(10)
    };
    let claimed = Claimer::new(&store, ["A"]).claim_wanted(&wanted).await.jobs;
    assert_eq!(ids(&claimed), [inserted[0], inserted[2], inserted[3]]);
    let held = store.get(inserted[1]).await.unwrap().unwrap();
    assert_eq!(held.hold(), Some(Limit::hold("acme").as_str()));
}

/// A limit of nothing lets nothing run.
pub async fn of_none_lets_none_run(harness: &impl Harness) {
    let store = harness.store();
    limited().insert(&store).await;
    assert_eq!(claim(&Claimer::new(&store, ["A"]), 5, 0).await, []);
}

/// One key does not stand in the way of another that begins like it.
pub async fn keeps_keys_apart(harness: &impl Harness) {
    let store = harness.store();
    let keys = ["a", "a:1", "a:10", "b"];
    insert_all(&store, keys.map(|key| job("A").set("key", key))).await;
    assert_eq!(claim(&Claimer::new(&store, ["A"]), 10, 1).await.len(), 4);
}

/// Whoever lets a job run by a change of its own cannot give it a place that another job has, and is
/// told which.
pub async fn gives_no_place_twice_by_a_change(harness: &impl Harness) {
    let store = harness.store();
    limited().insert(&store).await;
    let waits = limited().insert(&store).await.id();
    let running = claim(&Claimer::new(&store, ["A"]), 2, 1).await.remove(0);
    let token = ClaimToken {
        server: store.next_id(),
        sequence: 1,
    };
    let other = Claim {
        token: token.to_string(),
        worker_name: "other:1".into(),
    };
    let start = |slot: String| Patch {
        id: waits,
        guard: Guard::states([State::Queued]),
        change: other.start(store.now(), vec![slot]),
    };
    let refused = store.update(start(Limit::slot(KEY, 0))).await.unwrap();
    assert_eq!(refused.unwrap_err(), Refusal::Existing(running.id()));
    let held = store.get(waits).await.unwrap().unwrap();
    assert_eq!(held.state(), State::Queued);
    let accepted = store.update(start(Limit::slot(KEY, 1))).await.unwrap();
    assert_eq!(accepted.unwrap().state(), State::Running);
}

/// A place is free as soon as the settled state is no longer running.
pub async fn frees_the_place_of_a_settled_job(harness: &impl Harness) {
    let store = harness.store();
    let claimer = Claimer::new(&store, ["A"]);
    for state in State::ALL.into_iter().filter(|s| *s != State::Running) {
        limited().keep().insert(&store).await;
        let running = claim(&claimer, 1, 1).await.pop().expect("a free place");
        let patch = Patch {
            id: running.id(),
            guard: Guard::claimed(claim_of(&running)),
            change: Change::new().set(name::STATE, state.as_str()),
        };
        assert_eq!(
            store.settle(vec![patch]).await.unwrap(),
            [Settled::Accepted]
        );
    }
    limited().insert(&store).await;
    assert_eq!(claim(&claimer, 1, 1).await.len(), 1);
}

/// A place is free when the job is deleted with its outcome.
pub async fn frees_the_place_of_a_deleted_job(harness: &impl Harness) {
    let store = harness.store();
    let claimer = Claimer::new(&store, ["A"]);
    limited().insert(&store).await;
    let running = claim(&claimer, 1, 1).await.remove(0);
    let patch = Patch {
        id: running.id(),
        guard: Guard::claimed(claim_of(&running)),
        change: Change::delete(),
    };
    store.settle(vec![patch]).await.unwrap();
    limited().insert(&store).await;
    assert_eq!(claim(&claimer, 1, 1).await.len(), 1);
}

/// A place is free when a server of the original takes the job out of running, and knows nothing
/// of places.
pub async fn frees_the_place_of_a_job_that_the_original_stopped(harness: &impl Harness) {
    let store = harness.store();
    let claimer = Claimer::new(&store, ["A"]);
    for original in [Original::Abort, Original::Pause, Original::Requeue] {
        limited().insert(&store).await;
        let running = claim(&claimer, 1, 1).await.pop().expect("a free place");
        let writes = original.writes(store.now());
        harness.write_raw(running.id(), writes, &[]).await;
    }
    limited().insert(&store).await;
    assert_eq!(claim(&claimer, 1, 1).await.len(), 1);
}

/// A job that was limited before and is not now takes no place.
pub async fn takes_no_place_for_a_job_without_limits(harness: &impl Harness) {
    let store = harness.store();
    let claimer = Claimer::new(&store, ["A"]);
    limited().insert(&store).await;
    let running = claim(&claimer, 1, 1).await.remove(0);
    let back = Patch {
        id: running.id(),
        guard: Guard::claimed(claim_of(&running)),
        change: Change::new()
            .set(name::STATE, State::Queued.as_str())
            .set(name::READY, true),
    };
    store.settle(vec![back]).await.unwrap();
    let (unlimited, _) = claimer.claim_one().await;
    assert_eq!(slots(&unlimited), [""; 0]);
    limited().insert(&store).await;
    assert_eq!(claim(&claimer, 1, 1).await.len(), 1);
}

/// With concurrent claims and settlements on two handles, never more than the maximum run, not
/// even for a moment, and in the end all have run.
pub async fn is_never_exceeded_even_for_a_moment(harness: &impl Harness) {
    let handles = [harness.store(), harness.second().await];
    insert_all(&handles[0], (0..60).map(|_| limited())).await;
    let all_done = Arc::new(AtomicBool::new(false));
    let observer = tokio::spawn(observe(handles[1].clone(), all_done.clone()));
    // The first task that fails ends the others, which would wait for its jobs.
    let mut tasks: JoinSet<usize> = (0..6)
        .map(|number| perform(handles[number % 2].clone()))
        .collect();
    let mut performed = 0;
    while let Some(ended) = tasks.join_next().await {
        performed += ended.unwrap();
    }
    all_done.store(true, Ordering::Relaxed);
    assert!(observer.await.unwrap() > 0, "somebody looked");
    assert_eq!(performed, 60);
}

const MAX: usize = 3;

/// Claims and settles until nothing is left, and says how many jobs it had.
async fn perform(store: Store) -> usize {
    let claimer = Claimer::new(&store, ["A"]);
    let mut performed = 0;
    loop {
        let jobs = claim(&claimer, 4, 3).await;
        assert!(jobs.len() <= MAX);
        performed += jobs.len();
        let patches = jobs.iter().map(|job| Patch {
            id: job.id(),
            guard: Guard::claimed(claim_of(job)),
            change: Change::delete(),
        });
        store.settle(patches.collect()).await.unwrap();
        store.release(&Limit::hold(KEY), MAX).await.unwrap();
        let left = store.count(&Filter::all(), ReadFrom::Primary).await;
        if jobs.is_empty() && left.unwrap() == 0 {
            return performed;
        }
        // A store that never waits would leave no chance to end the task.
        tokio::task::yield_now().await;
    }
}

/// Looks again and again how many run, and says how often; one look sees one moment.
async fn observe(store: Store, all_done: Arc<AtomicBool>) -> u64 {
    let running = Query::new(Filter::state(State::Running));
    let mut looks = 0;
    while !all_done.load(Ordering::Relaxed) {
        let running = store.find(&running).await.unwrap();
        assert!(running.len() <= MAX, "{running:?}");
        looks += 1;
        tokio::task::yield_now().await;
    }
    looks
}
