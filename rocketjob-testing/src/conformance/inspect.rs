//! `InspectStore`.

use bson::doc;
use rocketjob_core::{
    ALL_PRIORITIES, COUNTED, JobDocument, JobSet, State, Store, UNDECODABLE, name,
};

use crate::{Harness, insert_all, job};

/// A new store has no problems, nor has one with jobs; and it says what it is.
pub async fn finds_nothing_wrong_with_a_new_store(harness: &impl Harness) {
    let store = harness.store();
    job("A").insert(&store).await;
    for store in [store, harness.second().await] {
        let inspection = store.inspect().await.unwrap();
        assert_eq!(inspection.problems(), [""; 0]);
        for text in [
            &inspection.product,
            &inspection.topology,
            &inspection.durability,
        ] {
            assert!(!text.is_empty(), "{inspection:?}");
        }
    }
}

async fn count(store: &Store, set: JobSet) -> u64 {
    store.count_set(&set, COUNTED).await.unwrap()
}

/// Each priority of each kind counts for itself, the last up to a job.
pub async fn counts_the_ready_jobs_of_kinds_and_priorities(harness: &impl Harness) {
    let store = harness.store();
    let ready = |kind: &'static str| (1..=100).map(move |priority| job(kind).priority(priority));
    let ids = insert_all(&store, ready("A").chain(ready("B"))).await;
    insert_all(
        &store,
        [
            job("A").held("limit:x"),
            job("A").scheduled(store.now()),
            job("A").unmarked(),
            job("A").state(State::Failed),
        ],
    )
    .await;
    let batch = job("A")
        .set(name::STATE, State::Running.as_str())
        .set(name::SUB_STATE, "processing");
    harness.put_raw(batch.document(&store)).await;
    let both = ["A", "B"];
    for (set, expected) in [
        (JobSet::ready(["A"], ALL_PRIORITIES), 100),
        (JobSet::ready(both, ALL_PRIORITIES), 200),
        (JobSet::ready(both, 1..=25), 50),
        (JobSet::ready(["B"], 26..=26), 1),
        (JobSet::ready(["A", "Unheard"], 99..=200), 2),
        (JobSet::ready(Vec::<String>::new(), ALL_PRIORITIES), 0),
        (JobSet::ahead_of(["A"], 10, ids[9]), 9),
        // The job of the other kind came earlier.
        (JobSet::ahead_of(both, 10, ids[109]), 19),
        (JobSet::ahead_of(both, 1, ids[0]), 0),
    ] {
        let what = format!("{set:?}");
        assert_eq!(count(&store, set).await, expected, "{what}");
    }
}

/// A job in a state counts once, however it is marked.
pub async fn counts_what_is_held_and_what_stands_in_a_state(harness: &impl Harness) {
    let store = harness.store();
    insert_all(&store, (0..3).map(|_| job("A").held("limit:x"))).await;
    insert_all(&store, (0..4).map(|_| job("B").held("limit:y"))).await;
    insert_all(&store, (0..5).map(|_| job("A").scheduled(store.now()))).await;
    insert_all(&store, [job("A"), job("A").unmarked()]).await;
    for (count, state) in (1..).zip(State::ALL) {
        if state != State::Queued {
            insert_all(&store, (0..count).map(|_| job("A").state(state))).await;
        }
    }
    assert_eq!(count(&store, JobSet::Held("limit:x".into())).await, 3);
    assert_eq!(count(&store, JobSet::Held("limit:z".into())).await, 0);
    for (expected, state) in (1..).zip(State::ALL) {
        let expected = if state == State::Queued { 14 } else { expected };
        assert_eq!(
            count(&store, JobSet::State(state)).await,
            expected,
            "{state}"
        );
    }
}

/// No further than that, whatever the set.
pub async fn counts_as_far_as_it_is_asked(harness: &impl Harness) {
    let store = harness.store();
    let ids = insert_all(&store, (0..30).map(|_| job("A"))).await;
    insert_all(&store, (0..30).map(|_| job("B").held("limit:x"))).await;
    insert_all(&store, (0..30).map(|_| job("C").state(State::Paused))).await;
    for set in [
        JobSet::ready(["A", "B"], ALL_PRIORITIES),
        JobSet::ahead_of(["A"], 50, ids[29]),
        JobSet::Held("limit:x".into()),
        JobSet::State(State::Queued),
        JobSet::State(State::Paused),
    ] {
        for at_most in [0, 1, 20] {
            let counted = store.count_set(&set, at_most).await.unwrap();
            assert_eq!(counted, at_most, "{set:?}");
        }
    }
}

/// By priority first, then by age; of the kind and the priorities that were asked for, and no more.
pub async fn finds_the_first_ready_jobs(harness: &impl Harness) {
    let store = harness.store();
    let ids = insert_all(
        &store,
        [
            job("A").priority(1).held("limit:x"),
            job("A").priority(60),
            job("A").priority(40),
            job("A").priority(40),
            job("B").priority(2),
        ],
    )
    .await;
    for (kind, priorities, at_most, expected) in [
        ("A", ALL_PRIORITIES, 1, vec![2]),
        ("A", ALL_PRIORITIES, 2, vec![2, 3]),
        ("A", ALL_PRIORITIES, 9, vec![2, 3, 1]),
        ("A", 41..=100, 1, vec![1]),
        ("A", 61..=100, 1, vec![]),
        ("B", 1..=2, 1, vec![4]),
        ("C", ALL_PRIORITIES, 1, vec![]),
    ] {
        let first = store.first_ready(kind, priorities.clone(), at_most).await;
        let first: Vec<_> = first.unwrap().iter().map(JobDocument::id).collect();
        let expected: Vec<_> = expected
            .into_iter()
            .map(|index: usize| ids[index])
            .collect();
        assert_eq!(first, expected, "{kind} {priorities:?} {at_most}");
    }
}

/// Those of which the envelope cannot be read, and those that failed since their structs could not
/// be: each once, with the reason, and no others.
pub async fn finds_documents_that_cannot_be_read(harness: &impl Harness) {
    let store = harness.store();
    assert_eq!(store.undecodable(10).await.unwrap(), []);
    let exception = |class: &str| doc! { "class_name": class, "message": "field `to` is missing" };
    let failed = |class| {
        job("A")
            .state(State::Failed)
            .set(name::EXCEPTION, exception(class))
    };
    let odd = job("A").set(name::PRIORITY, "high").document(&store);
    let stateless = job("A").set(name::STATE, "asleep").document(&store);
    let ids: Vec<_> = [&odd, &stateless]
        .map(|document| document.get_object_id(name::ID).unwrap().to_hex())
        .into();
    harness.put_raw(odd).await;
    harness.put_raw(stateless).await;
    let misfit = failed(UNDECODABLE).insert(&store).await.id().to_hex();
    insert_all(&store, [failed("Broken"), job("A")]).await;
    let found = store.undecodable(10).await.unwrap();
    let reason_of = |id: &str| {
        let found = found.iter().find(|aside| aside.id == id);
        found
            .unwrap_or_else(|| panic!("{id} is not found"))
            .reason
            .clone()
    };
    assert!(reason_of(&ids[0]).contains("priority"));
    assert!(reason_of(&ids[1]).contains("state"));
    assert_eq!(reason_of(&misfit), "field `to` is missing");
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(store.undecodable(2).await.unwrap().len(), 2);
}
