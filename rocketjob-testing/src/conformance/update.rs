//! `JobStore::update`.

use bson::Bson;
use rocketjob_core::{Change, Filter, Guard, Patch, Refusal, State, name};

use crate::{Claimer, Harness, claim_of, job};

/// The job comes back as it is after the change, and as it is stored.
pub async fn returns_the_job_after_the_change(harness: &impl Harness) {
    let store = harness.store();
    let inserted = job("A").set("count", 1).insert(&store).await;
    let change = Change::new()
        .set(name::DESCRIPTION, "changed")
        .unset(name::READY)
        .increment("count", 4);
    let patch = Patch {
        id: inserted.id(),
        guard: Guard::default(),
        change: change.clone(),
    };
    let updated = store.update(patch).await.unwrap().unwrap();
    let mut expected = inserted.into_document();
    change.apply(&mut expected);
    assert_eq!(updated.get("count"), Some(&Bson::from(5)));
    assert_eq!(updated.as_document(), &expected);
    let stored = harness.second().await.get(updated.id()).await.unwrap();
    assert_eq!(stored, Some(updated));
}

/// A deletion returns the job as it was before.
pub async fn returns_a_deleted_job_as_it_was(harness: &impl Harness) {
    let store = harness.store();
    let inserted = job("A").insert(&store).await;
    let patch = Patch {
        id: inserted.id(),
        guard: Guard::states([State::Queued]),
        change: Change::delete(),
    };
    assert_eq!(store.update(patch).await.unwrap(), Ok(inserted.clone()));
    assert_eq!(store.get(inserted.id()).await.unwrap(), None);
}

/// Only in the states that the guard names, and the refusal tells in which the job is.
pub async fn is_guarded_by_the_state(harness: &impl Harness) {
    let store = harness.store();
    for state in State::ALL {
        let inserted = job("A").state(state).insert(&store).await;
        let guarded = |states: Vec<State>| Patch {
            id: inserted.id(),
            guard: Guard::states(states),
            change: Change::new().set("written", true),
        };
        let others = State::ALL.into_iter().filter(|other| *other != state);
        let refused = store.update(guarded(others.collect())).await.unwrap();
        assert_eq!(refused, Err(Refusal::State(state)));
        assert_eq!(
            store.get(inserted.id()).await.unwrap(),
            Some(inserted.clone())
        );
        let updated = store.update(guarded(vec![State::Queued, state])).await;
        assert!(updated.unwrap().is_ok(), "{state}");
    }
}

/// Only when the guard's further condition holds.
pub async fn is_guarded_by_a_further_condition(harness: &impl Harness) {
    let store = harness.store();
    let inserted = job("A").set("version", 3).insert(&store).await;
    let guarded = |version: i32| Patch {
        id: inserted.id(),
        guard: Guard::states([State::Queued]).matching(Filter::eq("version", version)),
        change: Change::new().increment("version", 1),
    };
    let refused = store.update(guarded(2)).await.unwrap();
    assert_eq!(refused, Err(Refusal::State(State::Queued)));
    assert!(store.update(guarded(3)).await.unwrap().is_ok());
    let refused = store.update(guarded(3)).await.unwrap();
    assert_eq!(refused, Err(Refusal::State(State::Queued)));
}

/// Only under the claim that the guard names.
pub async fn is_guarded_by_the_claim(harness: &impl Harness) {
    let store = harness.store();
    job("A").insert(&store).await;
    let (running, mut claim) = Claimer::new(&store, ["A"]).claim_one().await;
    let guarded = |claim| Patch {
        id: running.id(),
        guard: Guard::claimed(claim),
        change: Change::new().set("written", true),
    };
    claim.token.push('0');
    let refused = store.update(guarded(claim)).await.unwrap();
    assert_eq!(refused, Err(Refusal::ClaimLost));
    let updated = store.update(guarded(claim_of(&running))).await.unwrap();
    assert!(updated.is_ok());
}

/// A job that is not there is not found, also not for a deletion.
pub async fn does_not_find_a_missing_job(harness: &impl Harness) {
    let store = harness.store();
    for change in [Change::new().set("a", 1), Change::delete()] {
        let patch = Patch {
            id: store.next_id(),
            guard: Guard::default(),
            change,
        };
        assert_eq!(store.update(patch).await.unwrap(), Err(Refusal::NotFound));
    }
}

/// Going back into a state in which a unique key counts is refused while another job holds it.
pub async fn refuses_to_take_a_key_in_use(harness: &impl Harness) {
    let store = harness.store();
    let failed = job("A")
        .state(State::Failed)
        .unique("key")
        .insert(&store)
        .await;
    let holder = job("A").unique("key").insert(&store).await;
    let retry = Patch {
        id: failed.id(),
        guard: Guard::states([State::Failed]),
        change: Change::new()
            .set(name::STATE, State::Queued.as_str())
            .set(name::READY, true),
    };
    assert_eq!(
        store.update(retry.clone()).await.unwrap(),
        Err(Refusal::Existing(holder.id()))
    );
    assert_eq!(store.get(failed.id()).await.unwrap(), Some(failed));
    let own = Filter::ids([holder.id()]);
    assert_eq!(store.delete(&own).await.unwrap(), 1);
    assert!(store.update(retry).await.unwrap().is_ok());
}

/// A job does not stand in its own way.
pub async fn lets_a_job_keep_its_own_key(harness: &impl Harness) {
    let store = harness.store();
    let inserted = job("A").unique("u").unfinished("f").insert(&store).await;
    let patch = Patch {
        id: inserted.id(),
        guard: Guard::default(),
        change: Change::new()
            .set(name::PRIORITY, 5)
            .set(name::UNIQUE_KEY, "u"),
    };
    assert!(store.update(patch).await.unwrap().is_ok());
}

/// Of many concurrent changes with one guard through two handles, each is made on top of another.
pub async fn loses_no_concurrent_change(harness: &impl Harness) {
    let handles = [harness.store(), harness.second().await];
    let inserted = job("A").set("count", 0).insert(&handles[0]).await;
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let store = handles[number % 2].clone();
            let patch = Patch {
                id: inserted.id(),
                guard: Guard::states([State::Queued]),
                change: Change::new()
                    .increment("count", 1)
                    .set(format!("field{number}"), true),
            };
            tokio::spawn(async move { store.update(patch).await.unwrap().unwrap() })
        })
        .collect();
    let mut counts = Vec::new();
    for task in tasks {
        let count = task.await.unwrap().get("count").and_then(Bson::as_i32);
        counts.push(count.unwrap());
    }
    counts.sort_unstable();
    assert_eq!(counts, (1..=20).collect::<Vec<_>>());
    let stored = handles[0].get(inserted.id()).await.unwrap().unwrap();
    assert!((0..20).all(|number| stored.get(&format!("field{number}")).is_some()));
}

/// What a change makes ready can be claimed, and what it makes not ready cannot.
pub async fn decides_what_can_be_claimed(harness: &impl Harness) {
    let store = harness.store();
    let held = job("A").held("limit:x").insert(&store).await;
    let claimer = Claimer::new(&store, ["A"]);
    let write = async |change: Change| {
        let patch = Patch {
            id: held.id(),
            guard: Guard::states([State::Queued]),
            change,
        };
        store.update(patch).await.unwrap().unwrap();
    };
    assert_eq!(claimer.claim(1).await.jobs, []);
    write(Change::new().set(name::READY, true).unset(name::HOLD)).await;
    write(Change::new().unset(name::READY).set(name::HOLD, "limit:x")).await;
    assert_eq!(claimer.claim(1).await.jobs, []);
    write(Change::new().set(name::READY, true).unset(name::HOLD)).await;
    write(Change::new().set(name::KIND, "B")).await;
    assert_eq!(claimer.claim(1).await.jobs, []);
    write(Change::new().set(name::KIND, "A")).await;
    assert_eq!(claimer.claim(1).await.jobs.len(), 1);
}
