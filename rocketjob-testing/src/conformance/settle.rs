//! `JobStore::settle`: the fence, what is written, and what a group does.

use bson::{Bson, doc};
use rocketjob_core::{
    Change, Claim, Filter, Guard, Outcome, Patch, Refusal, Settled, Settlement, State, Transition,
    name,
};

use crate::{Claimer, Harness, claim_of, insert_all, job, operator};

fn patch(job: &rocketjob_core::JobDocument, change: Change) -> Patch {
    Patch {
        id: job.id(),
        guard: Guard::claimed(claim_of(job)),
        change,
    }
}

fn to(state: State) -> Change {
    Change::new().set(name::STATE, state.as_str())
}

/// The holder of the claim may write, and it is stored when the call returns.
pub async fn writes_the_outcome_of_the_claim_holder(harness: &impl Harness) {
    let store = harness.store();
    job("A").keep().insert(&store).await;
    let (running, claim) = Claimer::new(&store, ["A"]).claim_one().await;
    let now = store.now();
    let settling = Settlement::new(
        &running,
        now,
        Outcome::Complete,
        false,
        Change::new().set("result", doc! { "rows": 5 }),
    )
    .render(claim);
    let settled = store.settle(vec![settling.patch]).await.unwrap();
    assert_eq!(settled, [Settled::Accepted]);
    let stored = harness.second().await.get(running.id()).await.unwrap();
    let stored = stored.unwrap();
    assert_eq!(stored.state(), State::Completed);
    assert_eq!(stored.completed_at(), Some(now));
    assert_eq!(stored.worker_name(), None);
    assert_eq!(stored.percent_complete(), 100);
    assert_eq!(stored.get("result"), Some(&Bson::from(doc! { "rows": 5 })));
}

/// The state alone fences: the same claim on a job that is not running writes nothing.
pub async fn refuses_in_another_state(harness: &impl Harness) {
    let store = harness.store();
    for state in State::ALL.into_iter().filter(|s| *s != State::Running) {
        job("A").insert(&store).await;
        let (running, _) = Claimer::new(&store, ["A"]).claim_one().await;
        let set = doc! { name::STATE: state.as_str() };
        harness.write_raw(running.id(), set, &[]).await;
        let save = patch(&running, Change::new().set("saved", true));
        assert_eq!(
            store.settle(vec![save]).await.unwrap(),
            [Settled::Refused(Refusal::State(state))]
        );
        assert_eq!(harness.raw(running.id()).await.unwrap().get("saved"), None);
    }
}

/// The token alone fences: another claim of the same server, with the same worker.
pub async fn refuses_under_another_token(harness: &impl Harness) {
    let store = harness.store();
    job("A").insert(&store).await;
    let (running, claim) = Claimer::new(&store, ["A"]).claim_one().await;
    let token = format!("{}0", claim.token);
    let other = Claim { token, ..claim };
    let save = Patch {
        guard: Guard::claimed(other),
        ..patch(&running, to(State::Completed))
    };
    assert_eq!(
        store.settle(vec![save]).await.unwrap(),
        [Settled::Refused(Refusal::ClaimLost)]
    );
    assert_eq!(store.get(running.id()).await.unwrap(), Some(running));
}

/// The worker name alone fences: a server of the original that takes a job over leaves the token.
pub async fn refuses_for_another_worker(harness: &impl Harness) {
    let store = harness.store();
    job("A").insert(&store).await;
    let (running, _) = Claimer::new(&store, ["A"]).claim_one().await;
    let taken = doc! { name::WORKER_NAME: "ruby:1:1" };
    harness.write_raw(running.id(), taken, &[]).await;
    let before = harness.raw(running.id()).await;
    assert_eq!(
        store
            .settle(vec![patch(&running, to(State::Completed))])
            .await
            .unwrap(),
        [Settled::Refused(Refusal::ClaimLost)]
    );
    assert_eq!(harness.raw(running.id()).await, before);
}

/// A further condition of the guard counts as well.
pub async fn refuses_when_a_further_condition_fails(harness: &impl Harness) {
    let store = harness.store();
    job("A").set("step", 1).insert(&store).await;
    let (running, claim) = Claimer::new(&store, ["A"]).claim_one().await;
    let conditional = |step: i32| Patch {
        guard: Guard::claimed(claim.clone()).matching(Filter::eq("step", step)),
        ..patch(&running, Change::new().set("saved", step))
    };
    let settled = store.settle(vec![conditional(2), conditional(1)]).await;
    let settled = settled.unwrap();
    assert!(matches!(settled[0], Settled::Refused(_)));
    assert_eq!(settled[1], Settled::Accepted);
    let stored = store.get(running.id()).await.unwrap().unwrap();
    assert_eq!(stored.get("saved"), Some(&Bson::from(1)));
}

/// Settling again with the same claim, since the answer was lost, is accepted and changes nothing.
pub async fn accepts_the_same_outcome_again(harness: &impl Harness) {
    let store = harness.store();
    for outcome in [
        Outcome::Complete,
        Outcome::Fail(super::failure()),
        Outcome::Abort(super::failure()),
        Outcome::HandBack,
        Outcome::Retry {
            failure: super::failure(),
            run_at: super::later_by_an_hour(&store),
        },
    ] {
        job("A").keep().insert(&store).await;
        let (running, claim) = Claimer::new(&store, ["A"]).claim_one().await;
        let settling =
            Settlement::new(&running, store.now(), outcome, false, Change::new()).render(claim);
        let first = store.settle(vec![settling.patch.clone()]).await.unwrap();
        let after_first = harness.raw(running.id()).await;
        let again = store.settle(vec![settling.patch]).await.unwrap();
        let transition = settling.transition;
        assert_eq!(first, [Settled::Accepted], "{transition}");
        assert_eq!(again, [Settled::Accepted], "{transition}");
        assert_eq!(harness.raw(running.id()).await, after_first, "{transition}");
        store.delete(&Filter::all()).await.unwrap();
    }
}

/// The late answer of a claim whose job has been claimed again by the same server is no repetition.
pub async fn refuses_an_outcome_whose_job_was_claimed_again(harness: &impl Harness) {
    let store = harness.store();
    job("A").insert(&store).await;
    let claimer = Claimer::new(&store, ["A"]);
    let (running, claim) = claimer.claim_one().await;
    let hand_back = Settlement::new(
        &running,
        store.now(),
        Outcome::HandBack,
        false,
        Change::new(),
    )
    .render(claim)
    .patch;
    store.settle(vec![hand_back.clone()]).await.unwrap();
    let (again, _) = claimer.claim_one().await;
    assert_eq!(
        store.settle(vec![hand_back]).await.unwrap(),
        [Settled::Refused(Refusal::ClaimLost)]
    );
    assert_eq!(store.get(running.id()).await.unwrap(), Some(again));
}

/// An attempt that is tried again is known by its mark although the job has been claimed again; the
/// attempt after it is not affected, and what another claim wrote is no repetition.
pub async fn accepts_a_repeated_retry_whose_job_was_claimed_again(harness: &impl Harness) {
    let store = harness.store();
    job("A").keep().insert(&store).await;
    let claimer = Claimer::new(&store, ["A"]);
    let retry = |job: &rocketjob_core::JobDocument, claim| {
        let outcome = Outcome::Retry {
            failure: super::failure(),
            run_at: store.now(),
        };
        Settlement::new(job, store.now(), outcome, false, Change::new())
            .render(claim)
            .patch
    };
    let (running, claim) = claimer.claim_one().await;
    let first = retry(&running, claim.clone());
    let other_token = Claim {
        token: format!("{}0", claim.token),
        ..claim
    };
    let foreign = retry(&running, other_token);
    let settled = store.settle(vec![first.clone()]).await.unwrap();
    assert_eq!(settled, [Settled::Accepted]);
    let (again, claim) = claimer.claim_one().await;
    assert_eq!((again.id(), again.failure_count()), (running.id(), 1));

    let settled = store.settle(vec![first.clone(), foreign]).await.unwrap();
    let refused = Settled::Refused(Refusal::ClaimLost);
    assert_eq!(settled, [Settled::Accepted, refused]);
    assert_eq!(store.get(running.id()).await.unwrap(), Some(again.clone()));

    let second = retry(&again, claim);
    let settled = store.settle(vec![second.clone()]).await.unwrap();
    assert_eq!(settled, [Settled::Accepted]);
    let after = harness.raw(running.id()).await;
    let settled = store.settle(vec![second, first]).await.unwrap();
    let refused = Settled::Refused(Refusal::State(State::Queued));
    assert_eq!(settled, [Settled::Accepted, refused]);
    assert_eq!(harness.raw(running.id()).await, after);
}

/// An outcome that another claim has reached is no repetition either.
pub async fn refuses_an_outcome_that_another_claim_reached(harness: &impl Harness) {
    let store = harness.store();
    for state in [State::Completed, State::Failed, State::Aborted] {
        job("A").keep().insert(&store).await;
        let (lost, _) = Claimer::new(&store, ["A"]).claim_one().await;
        let requeue = Patch {
            id: lost.id(),
            guard: Guard::default(),
            change: operator::change(Transition::Requeue, &lost, store.now()),
        };
        store.update(requeue).await.unwrap().unwrap();
        let (again, _) = Claimer::new(&store, ["A"]).claim_one().await;
        assert_eq!(again.id(), lost.id());
        let settled = store.settle(vec![patch(&again, to(state))]).await;
        assert_eq!(settled.unwrap(), [Settled::Accepted]);
        assert_eq!(
            store.settle(vec![patch(&lost, to(state))]).await.unwrap(),
            [Settled::Refused(Refusal::State(state))]
        );
    }
}

/// A job that is gone takes no outcome.
pub async fn refuses_a_job_that_is_gone(harness: &impl Harness) {
    let store = harness.store();
    job("A").insert(&store).await;
    let (running, _) = Claimer::new(&store, ["A"]).claim_one().await;
    let delete = patch(&running, Change::delete());
    let complete = patch(&running, to(State::Completed));
    assert_eq!(
        store.settle(vec![delete.clone()]).await.unwrap(),
        [Settled::Accepted]
    );
    assert_eq!(
        store.settle(vec![delete, complete]).await.unwrap(),
        [Settled::Refused(Refusal::NotFound); 2]
    );
    assert_eq!(harness.raw(running.id()).await, None);
}

/// Fields are set, removed and counted up, also nested ones, and no other field is touched.
pub async fn sets_removes_and_counts_up(harness: &impl Harness) {
    let store = harness.store();
    job("A")
        .set("gone", true)
        .set("kept", "kept")
        .set("count", 5)
        .set("nested", doc! { "a": 1, "b": 2, "gone": 3 })
        .insert(&store)
        .await;
    let (running, _) = Claimer::new(&store, ["A"]).claim_one().await;
    let change = Change::new()
        .set("list", vec![1, 2])
        .set("nothing", Bson::Null)
        .set("nested.c", "new")
        .set("made.deep.down", true)
        .unset("gone")
        .unset("nested.gone")
        .unset("never.was")
        .increment("count", 2)
        .increment("absent", 3)
        .increment("nested.a", -4)
        .increment("statistics.rows", 3_000_000_000);
    store.settle(vec![patch(&running, change)]).await.unwrap();
    let stored = store.get(running.id()).await.unwrap().unwrap();
    let own = |field: &str| stored.as_document().get(field).cloned();
    assert_eq!(own("gone"), None);
    assert_eq!(own("kept"), Some("kept".into()));
    assert_eq!(own("count"), Some(7.into()));
    assert_eq!(own("absent"), Some(3.into()));
    assert_eq!(own("list"), Some(vec![1, 2].into()));
    assert_eq!(own("nothing"), Some(Bson::Null));
    assert_eq!(own("never"), None);
    assert_eq!(
        own("nested"),
        Some(doc! { "a": -3, "b": 2, "c": "new" }.into())
    );
    assert_eq!(own("made"), Some(doc! { "deep": { "down": true } }.into()));
    assert_eq!(
        own("statistics"),
        Some(doc! { "rows": 3_000_000_000_i64 }.into())
    );
    assert_eq!(stored.state(), State::Running);
}

/// One by one: a refused patch of a group does not keep the others from being accepted.
pub async fn judges_each_patch_of_a_group_by_itself(harness: &impl Harness) {
    let store = harness.store();
    insert_all(&store, (0..4).map(|_| job("A").keep())).await;
    let running = Claimer::new(&store, ["A"]).claim(4).await.jobs;
    let abort = Patch {
        id: running[1].id(),
        guard: Guard::default(),
        change: operator::change(Transition::Abort, &running[1], store.now()),
    };
    store.update(abort).await.unwrap().unwrap();
    let missing = Patch {
        id: store.next_id(),
        ..patch(&running[0], to(State::Completed))
    };
    let patches = vec![
        patch(&running[0], to(State::Completed)),
        patch(&running[1], to(State::Completed)),
        missing,
        patch(&running[2], Change::delete()),
        patch(&running[3], to(State::Failed)),
    ];
    assert_eq!(
        store.settle(patches).await.unwrap(),
        [
            Settled::Accepted,
            Settled::Refused(Refusal::State(State::Aborted)),
            Settled::Refused(Refusal::NotFound),
            Settled::Accepted,
            Settled::Accepted,
        ]
    );
    let mut states = Vec::new();
    for job in &running {
        let stored = store.get(job.id()).await.unwrap();
        states.push(stored.map(|stored| stored.state()));
    }
    assert_eq!(
        states,
        [
            Some(State::Completed),
            Some(State::Aborted),
            None,
            Some(State::Failed)
        ]
    );
}

/// An operator's transitions of many jobs, under no claim: each is judged by its state and by the
/// key that it would take.
pub async fn judges_transitions_without_a_claim(harness: &impl Harness) {
    let store = harness.store();
    let failed = |key: &str| job("A").state(State::Failed).set(name::UNIQUE_KEY, key);
    let retried = failed("one").insert(&store).await;
    let rival = failed("one").insert(&store).await;
    let aborted = job("A").state(State::Aborted).insert(&store).await;
    let waiting = job("A").insert(&store).await;
    let plain = job("A").state(State::Failed).insert(&store).await;
    let retry = |id| Patch {
        id,
        guard: Guard::states([State::Failed]),
        change: to(State::Queued).set(name::READY, true),
    };
    let gone = store.next_id();
    let ids = [&retried, &rival, &aborted, &waiting, &plain].map(rocketjob_core::JobDocument::id);
    let patches: Vec<_> = ids.into_iter().chain([gone]).map(retry).collect();
    let expected = [
        Settled::Accepted,
        Settled::Refused(Refusal::Existing(retried.id())),
        Settled::Refused(Refusal::State(State::Aborted)),
        Settled::Refused(Refusal::State(State::Queued)),
        Settled::Accepted,
        Settled::Refused(Refusal::NotFound),
    ];
    assert_eq!(store.settle(patches).await.unwrap(), expected);
    let mut states = Vec::new();
    for id in ids {
        states.push(store.get(id).await.unwrap().unwrap().state());
    }
    let delete = |id| Patch {
        id,
        guard: Guard::states([State::Failed, State::Aborted]),
        change: Change::delete(),
    };
    let patches = [rival.id(), aborted.id(), waiting.id(), gone].map(delete);
    let expected = [
        Settled::Accepted,
        Settled::Accepted,
        Settled::Refused(Refusal::State(State::Queued)),
        Settled::Refused(Refusal::NotFound),
    ];
    assert_eq!(store.settle(patches.into()).await.unwrap(), expected);
    assert_eq!(store.get(rival.id()).await.unwrap(), None);
    assert!(store.get(waiting.id()).await.unwrap().is_some());
    let (queued, failed) = (State::Queued, State::Failed);
    assert_eq!(states, [queued, failed, State::Aborted, queued, queued]);
}

/// A large group goes through, whatever the store's limits are for one statement.
pub async fn takes_a_large_group(harness: &impl Harness) {
    let store = harness.store();
    insert_all(&store, (0..1500).map(|_| job("A").keep())).await;
    let running = Claimer::new(&store, ["A"]).claim(1500).await.jobs;
    assert_eq!(running.len(), 1500);
    let patches: Vec<_> = running
        .iter()
        .map(|job| patch(job, to(State::Completed)))
        .collect();
    let settled = store.settle(patches).await.unwrap();
    assert_eq!(settled, vec![Settled::Accepted; 1500]);
    let completed = Filter::state(State::Completed);
    let completed = store
        .count(&completed, rocketjob_core::ReadFrom::Primary)
        .await;
    assert_eq!(completed.unwrap(), 1500);
}

/// A group without any patch does nothing.
pub async fn of_nothing_does_nothing(harness: &impl Harness) {
    assert_eq!(harness.store().settle(Vec::new()).await.unwrap(), []);
}

/// Who would take a unique key that another job holds is told which job, and nothing is written.
pub async fn refuses_to_take_a_key_in_use(harness: &impl Harness) {
    let store = harness.store();
    job("A").insert(&store).await;
    let (running, _) = Claimer::new(&store, ["A"]).claim_one().await;
    for field in [name::UNIQUE_KEY, name::UNFINISHED_KEY] {
        let holder = job("B").set(field, "key").insert(&store).await;
        let take = patch(&running, Change::new().set(field, "key").set("step", 2));
        assert_eq!(
            store.settle(vec![take]).await.unwrap(),
            [Settled::Refused(Refusal::Existing(holder.id()))]
        );
        assert_eq!(
            store.get(running.id()).await.unwrap(),
            Some(running.clone())
        );
    }
}

/// Of many settlements of one claim through two handles exactly one is made.
pub async fn makes_one_of_many_concurrent_changes(harness: &impl Harness) {
    let handles = [harness.store(), harness.second().await];
    job("A").keep().insert(&handles[0]).await;
    let (running, _) = Claimer::new(&handles[0], ["A"]).claim_one().await;
    let tasks: Vec<_> = (0..12)
        .map(|number| {
            let store = handles[number % 2].clone();
            let state = [State::Completed, State::Failed, State::Aborted][number % 3];
            let change = to(state).increment("written", 1);
            let patch = patch(&running, change);
            tokio::spawn(async move { (state, store.settle(vec![patch]).await.unwrap()[0]) })
        })
        .collect();
    let mut accepted = Vec::new();
    for task in tasks {
        if let (state, Settled::Accepted) = task.await.unwrap() {
            accepted.push(state);
        }
    }
    let stored = handles[0].get(running.id()).await.unwrap().unwrap();
    assert_eq!(stored.get("written"), Some(&Bson::from(1)));
    // The others of the same state look like its repetitions.
    assert_eq!(accepted, vec![stored.state(); 4]);
}
