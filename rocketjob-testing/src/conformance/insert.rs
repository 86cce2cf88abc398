//! `JobStore::insert`.

use bson::doc;
use rocketjob_core::{Change, Filter, Guard, Insertion, JobDocument, Patch, State, Store, name};

use crate::{Claimer, Harness, job, operator::Original};

/// Each job has its outcome, in the order of the jobs.
pub async fn says_what_became_of_each_job_in_order(harness: &impl Harness) {
    let store = harness.store();
    let first = job("A").unique("report").build(&store);
    let twin = job("A").unique("report").build(&store);
    let other = job("B").build(&store);
    let again = first.clone();
    let insertions = store
        .insert(vec![first.clone(), twin.clone(), other.clone(), again])
        .await
        .unwrap();
    let existing = Insertion::Existing(first.id());
    assert_eq!(
        insertions,
        [Insertion::Inserted, existing, Insertion::Inserted, existing]
    );
    assert!(store.get(twin.id()).await.unwrap().is_none());
    assert!(store.get(other.id()).await.unwrap().is_some());
}

/// Nothing to insert is not an error.
pub async fn of_nothing_does_nothing(harness: &impl Harness) {
    let store = harness.store();
    assert_eq!(store.insert(Vec::new()).await.unwrap(), []);
}

/// The document comes back as it was, also with fields of any type that the store does not know.
pub async fn keeps_the_whole_document(harness: &impl Harness) {
    let store = harness.store();
    let inserted = job("A")
        .set("text", "Grüße \u{1f680} \"quoted\"")
        .set("whole", 5)
        .set("long", 5_000_000_000_i64)
        .set("part", 1.0)
        .set("time", bson::DateTime::from_millis(-1))
        .set(
            "nested",
            doc! { "list": [1, "two", { "three": 3.5 }], "nothing": null },
        )
        .set(
            "bytes",
            bson::Binary {
                subtype: bson::spec::BinarySubtype::Generic,
                bytes: vec![0, 255],
            },
        )
        .insert(&store)
        .await;
    let other = harness.second().await;
    assert_eq!(other.get(inserted.id()).await.unwrap(), Some(inserted));
}

/// A job whose `_id` exists is reported with its own id and not written again.
pub async fn leaves_a_job_that_exists_as_it_is(harness: &impl Harness) {
    let store = harness.store();
    let first = job("A").set("step", 1).insert(&store).await;
    let again = job("A").id(first.id()).set("step", 2).build(&store);
    assert_eq!(
        store.insert(vec![again]).await.unwrap(),
        [Insertion::Existing(first.id())]
    );
    assert_eq!(store.get(first.id()).await.unwrap(), Some(first));
}

/// A repeated insert of a job that has meanwhile been claimed does not queue it again.
pub async fn repeated_after_a_claim_does_not_queue_again(harness: &impl Harness) {
    let store = harness.store();
    let inserted = job("A").unique("key").insert(&store).await;
    Claimer::new(&store, ["A"]).claim_one().await;
    assert_eq!(
        store.insert(vec![inserted.clone()]).await.unwrap(),
        [Insertion::Existing(inserted.id())]
    );
    let stored = store.get(inserted.id()).await.unwrap().unwrap();
    assert_eq!(stored.state(), State::Running);
}

/// Of any number of concurrent inserts with one key through two handles, one wins, and the others
/// are told which.
pub async fn lets_one_of_many_with_the_same_key_win(harness: &impl Harness) {
    let handles = [harness.store(), harness.second().await];
    for field in [name::UNIQUE_KEY, name::UNFINISHED_KEY] {
        let tasks: Vec<_> = (0..16)
            .map(|number| {
                let store = handles[number % 2].clone();
                let rival = job("A").set(field, "one").build(&store);
                tokio::spawn(async move {
                    let id = rival.id();
                    (id, store.insert(vec![rival]).await.unwrap()[0])
                })
            })
            .collect();
        let mut winners = Vec::new();
        let mut told = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                (id, Insertion::Inserted) => winners.push(id),
                (_, Insertion::Existing(id)) => told.push(id),
            }
        }
        assert_eq!(winners.len(), 1, "{field}");
        assert_eq!(told, vec![winners[0]; 15], "{field}");
    }
}

/// `unique_key` is held while the job is queued or running, and in no other state.
pub async fn frees_a_unique_key_outside_queued_and_running(harness: &impl Harness) {
    held_in(harness, name::UNIQUE_KEY, &[State::Queued, State::Running]).await;
}

/// `unfinished_key` is held until the job is completed or aborted.
pub async fn frees_an_unfinished_key_at_the_end(harness: &impl Harness) {
    held_in(
        harness,
        name::UNFINISHED_KEY,
        &[State::Queued, State::Running, State::Paused, State::Failed],
    )
    .await;
}

async fn held_in(harness: &impl Harness, field: &str, holding: &[State]) {
    let store = harness.store();
    for state in State::ALL {
        let key = format!("while {state}");
        let holder = job("A").set(field, key.clone()).insert(&store).await;
        write_state(&store, &holder, state).await;
        let rival = job("A").set(field, key).build(&store);
        let expected = if holding.contains(&state) {
            Insertion::Existing(holder.id())
        } else {
            Insertion::Inserted
        };
        let insertions = store.insert(vec![rival]).await.unwrap();
        assert_eq!(insertions, [expected], "{field} while {state}");
    }
}

/// The two keys are different things, and so are other values.
pub async fn tells_different_keys_apart(harness: &impl Harness) {
    let store = harness.store();
    job("A").unique("one").insert(&store).await;
    job("A").unique("two").insert(&store).await;
    job("A").unfinished("one").insert(&store).await;
    job("A").insert(&store).await;
    job("A").insert(&store).await;
}

/// A key is free again when its holder is deleted.
pub async fn frees_the_key_of_a_deleted_job(harness: &impl Harness) {
    let store = harness.store();
    job("A")
        .unique("key")
        .unfinished("key")
        .insert(&store)
        .await;
    store.delete(&Filter::all()).await.unwrap();
    job("A")
        .unique("key")
        .unfinished("key")
        .insert(&store)
        .await;
}

/// A key is free again when a server of the original ends its holder.
pub async fn frees_the_key_of_a_job_that_the_original_aborted(harness: &impl Harness) {
    let store = harness.store();
    let holder = job("A")
        .unique("key")
        .unfinished("key")
        .insert(&store)
        .await;
    let abort = Original::Abort.writes(store.now());
    harness.write_raw(holder.id(), abort, &[]).await;
    job("A")
        .unique("key")
        .unfinished("key")
        .insert(&store)
        .await;
}

async fn write_state(store: &Store, job: &JobDocument, state: State) {
    let patch = Patch {
        id: job.id(),
        guard: Guard::default(),
        change: Change::new().set(name::STATE, state.as_str()),
    };
    store.update(patch).await.unwrap().unwrap();
}
