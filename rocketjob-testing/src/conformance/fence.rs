//! The fence: a worker whose claim was taken away can change nothing afterwards.
//!
//! One promise for each way in which a claim is lost, our own and the original's, which leaves
//! `ready` and `claim` standing. Each is tried with every write that a claim's holder makes.

use rocketjob_core::{
    Change, Claim, Guard, JobDocument, Outcome, Patch, Settled, Settlement, State, Store,
    Transition, name,
};

use super::{failure, later_by_an_hour};
use crate::{Claimer, Harness, claim_of, job, operator, operator::Original};

/// An operator aborts the job.
pub async fn holds_when_the_job_was_aborted(harness: &impl Harness) {
    holds(harness, async |job| {
        operate(harness, job, Transition::Abort).await;
    })
    .await;
}

/// An operator of the original aborts the job.
pub async fn holds_when_the_original_aborted_the_job(harness: &impl Harness) {
    holds(harness, async |job| {
        write(harness, job, Original::Abort).await;
    })
    .await;
}

/// An operator pauses the job.
pub async fn holds_when_the_job_was_paused(harness: &impl Harness) {
    holds(harness, async |job| {
        operate(harness, job, Transition::Pause).await;
    })
    .await;
}

/// An operator of the original pauses the job.
pub async fn holds_when_the_original_paused_the_job(harness: &impl Harness) {
    holds(harness, async |job| {
        write(harness, job, Original::Pause).await;
    })
    .await;
}

/// The job is put back into the queue, and nobody has it yet.
pub async fn holds_when_the_job_was_requeued(harness: &impl Harness) {
    holds(harness, async |job| {
        operate(harness, job, Transition::Requeue).await;
    })
    .await;
}

/// The original puts the job back into the queue, and nobody has it yet.
pub async fn holds_when_the_original_requeued_the_job(harness: &impl Harness) {
    holds(harness, async |job| {
        write(harness, job, Original::Requeue).await;
    })
    .await;
}

/// The job is put back into the queue, and another server has it.
pub async fn holds_when_another_server_took_the_job_over(harness: &impl Harness) {
    holds(harness, async |job| {
        operate(harness, job, Transition::Requeue).await;
        let store = harness.second().await;
        let (taken, _) = Claimer::new(&store, ["A"]).claim_one().await;
        assert_eq!(taken.id(), job.id());
    })
    .await;
}

/// The job is put back into the queue, and another server has completed it.
pub async fn holds_when_another_server_completed_the_job(harness: &impl Harness) {
    holds(harness, async |job| {
        operate(harness, job, Transition::Requeue).await;
        let store = harness.second().await;
        let (taken, claim) = Claimer::new(&store, ["A"]).claim_one().await;
        let outcome = Outcome::Complete;
        let settlement = Settlement::new(&taken, store.now(), outcome, false, Change::new());
        let settled = store.settle(vec![settlement.render(claim).patch]).await;
        assert_eq!(settled.unwrap(), [Settled::Accepted]);
    })
    .await;
}

/// The job is put back into the queue, and the same worker of the same server has it again: only
/// the token tells the two claims apart.
pub async fn holds_when_the_same_worker_has_the_job_again(harness: &impl Harness) {
    let claimer = Claimer::new(&harness.store(), ["A"]);
    holds_for(harness, &claimer, async |job| {
        operate(harness, job, Transition::Requeue).await;
        let (again, claim) = claimer.claim_one().await;
        assert_eq!(again.worker_name(), job.worker_name());
        assert_ne!(claim, claim_of(job));
    })
    .await;
}

/// The job is put back into the queue, and a worker of the original has it.
pub async fn holds_when_the_original_took_the_job_over(harness: &impl Harness) {
    holds(harness, async |job| {
        write(harness, job, Original::Requeue).await;
        write(harness, job, Original::Start).await;
    })
    .await;
}

/// An operator fails the job.
pub async fn holds_when_the_job_was_failed(harness: &impl Harness) {
    holds(harness, async |job| {
        operate(harness, job, Transition::Fail).await;
    })
    .await;
}

/// The job is failed by an operator and retried before its worker is done.
pub async fn holds_when_the_job_was_failed_and_retried(harness: &impl Harness) {
    holds(harness, async |job| {
        operate(harness, job, Transition::Fail).await;
        operate(harness, job, Transition::Retry).await;
    })
    .await;
}

/// The job was deleted after an operator had aborted it.
pub async fn holds_when_the_job_was_deleted(harness: &impl Harness) {
    holds(harness, async |job| {
        operate(harness, job, Transition::Abort).await;
        let own = rocketjob_core::Filter::ids([job.id()]);
        assert_eq!(harness.store().delete(&own).await.unwrap(), 1);
    })
    .await;
}

async fn operate(harness: &impl Harness, job: &JobDocument, transition: Transition) {
    let store = harness.store();
    let current = store.get(job.id()).await.unwrap().unwrap();
    let patch = Patch {
        id: job.id(),
        guard: Guard::states([current.state()]),
        change: operator::change(transition, &current, store.now()),
    };
    store.update(patch).await.unwrap().unwrap();
}

async fn write(harness: &impl Harness, job: &JobDocument, original: Original) {
    let writes = original.writes(harness.store().now());
    harness.write_raw(job.id(), writes, &[]).await;
}

/// Every write of a claim's holder.
fn writes(store: &Store, job: &JobDocument, claim: &Claim) -> Vec<(&'static str, Patch)> {
    let outcomes = [
        ("complete", Outcome::Complete),
        ("fail", Outcome::Fail(failure())),
        (
            "retry later",
            Outcome::Retry {
                failure: failure(),
                run_at: later_by_an_hour(store),
            },
        ),
        ("abort", Outcome::Abort(failure())),
        ("hand back", Outcome::HandBack),
        ("expire", Outcome::Expire),
    ];
    let settled = outcomes.map(|(label, outcome)| {
        let change = Change::new().set("late", label);
        let settlement = Settlement::new(job, store.now(), outcome, false, change);
        (label, settlement.render(claim.clone()).patch)
    });
    let plain = [
        ("save", Change::new().set("late", "save")),
        ("count", Change::new().increment("late", 1)),
        ("complete and delete", Change::delete()),
    ];
    let plain = plain.map(|(label, change)| {
        let patch = Patch {
            id: job.id(),
            guard: Guard::claimed(claim.clone()),
            change,
        };
        (label, patch)
    });
    settled.into_iter().chain(plain).collect()
}

async fn holds(harness: &impl Harness, lose: impl AsyncFn(&JobDocument)) {
    let claimer = Claimer::new(&harness.store(), ["A"]);
    holds_for(harness, &claimer, lose).await;
}

/// Lets `claimer` claim a job, lose it, and try every write.
async fn holds_for(harness: &impl Harness, claimer: &Claimer, lose: impl AsyncFn(&JobDocument)) {
    let store = harness.store();
    job("A").keep().set("own", 1).insert(&store).await;
    let (job, claim) = claimer.claim_one().await;
    assert_eq!(claim_of(&job), claim);
    lose(&job).await;
    let before = harness.raw(job.id()).await;
    for (label, patch) in writes(&store, &job, &claim) {
        let settled = store.settle(vec![patch.clone()]).await.unwrap()[0];
        let unchanged = harness.raw(job.id()).await == before;
        assert!(unchanged, "{label} changed the job of another");
        if let Settled::Accepted = settled {
            // Said of a document that stands where the late write would have led, under the same
            // token: it cannot be told from the repetition of an accepted write.
            let stored = |field| before.as_ref().and_then(|raw| raw.get_str(field).ok());
            let target = patch.change.state().map(State::as_str);
            let is_there = target.is_some() && target == stored(name::STATE);
            let is_same = stored(name::CLAIM) == Some(&claim.token);
            assert!(is_there && is_same, "{label} was accepted");
        }
        let updated = store.update(patch).await.unwrap();
        assert!(updated.is_err(), "{label} was accepted as an update");
        let unchanged = harness.raw(job.id()).await == before;
        assert!(unchanged, "{label} changed the job of another");
    }
}
