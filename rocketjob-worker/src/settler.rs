//! Writes the outcomes of claims, in groups that form while a write is under way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bson::Bson;
use rocketjob_core::{
    Error, JobContext, JobDocument, JobFailure, Limit, Outcome, Refusal, Result, Settled,
    Settlement, Settling, State, Store, create_successors, name, places, target,
};
use tokio::sync::mpsc;

/// How many outcomes go into one write.
const GROUP: usize = 1000;
/// How long the writer waits after the first error of the store, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// An outcome on its way into the store.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) context: JobContext,
    pub(crate) settling: Settling,
}

/// What became of the outcomes of a server.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) settled: AtomicUsize,
    pub(crate) refused: AtomicUsize,
}

/// Settles what comes until the last sender is gone.
pub(crate) async fn run(
    store: Store,
    mut items: mpsc::UnboundedReceiver<Item>,
    counts: Arc<Counts>,
) {
    let mut group = Vec::new();
    while items.recv_many(&mut group, GROUP).await > 0 {
        settle(&store, std::mem::take(&mut group), &counts).await;
    }
}

async fn settle(store: &Store, group: Vec<Item>, counts: &Counts) {
    let mut back_off = BACK_OFF.0;
    let outcomes = loop {
        let patches = group
            .iter()
            .map(|item| item.settling.patch.clone())
            .collect();
        match store.settle(patches).await {
            Ok(outcomes) => break outcomes,
            Err(error) if error.is_transient() => {
                tracing::warn!(
                    error = error.chain(),
                    outcomes = group.len(),
                    "cannot settle now: trying again"
                );
                tokio::time::sleep(back_off).await;
                back_off = (back_off * 2).min(BACK_OFF.1);
            }
            // One outcome that the store will never take must not keep the others from it.
            Err(error) => break settle_apart(store, &group, &error).await,
        }
    };
    let mut accepted = Vec::with_capacity(group.len());
    for (item, outcome) in group.into_iter().zip(outcomes) {
        match outcome {
            Settled::Accepted => {
                counts.settled.fetch_add(1, Ordering::Relaxed);
                accepted.push(item);
            }
            Settled::Refused(refusal) => {
                counts.refused.fetch_add(1, Ordering::Relaxed);
                refused(&item, refusal);
            }
        }
    }
    follow_up(store, &accepted).await;
}

/// Settles each outcome for itself. One that cannot be stored fails its job with the reason.
async fn settle_apart(store: &Store, group: &[Item], cause: &Error) -> Vec<Settled> {
    tracing::warn!(
        error = cause.chain(),
        outcomes = group.len(),
        "cannot settle the group: settling one by one"
    );
    let mut outcomes = Vec::with_capacity(group.len());
    for item in group {
        let outcome = match settle_one(store, item.settling.patch.clone()).await {
            Ok(outcome) => outcome,
            Err(error) => {
                let reason = format!("the outcome cannot be stored: {}", error.chain());
                tracing::error!(id = %item.context.id(), kind = item.context.kind(), reason, "failing the job");
                let job = item.context.document();
                let outcome = Outcome::Fail(JobFailure::message(reason));
                let settlement = Settlement::new(
                    job,
                    store.now(),
                    outcome,
                    true,
                    rocketjob_core::Change::new(),
                );
                let claim = item.settling.patch.guard.claim.clone();
                match claim.map(|claim| settlement.render(claim).patch) {
                    Some(patch) => settle_one(store, patch)
                        .await
                        .unwrap_or(Settled::Refused(Refusal::ClaimLost)),
                    None => Settled::Refused(Refusal::ClaimLost),
                }
            }
        };
        outcomes.push(outcome);
    }
    outcomes
}

async fn settle_one(store: &Store, patch: rocketjob_core::Patch) -> Result<Settled> {
    let outcomes = store.settle(vec![patch]).await?;
    Ok(outcomes
        .first()
        .copied()
        .unwrap_or(Settled::Refused(Refusal::NotFound)))
}

fn refused(item: &Item, refusal: Refusal) {
    let (id, kind) = (item.context.id(), item.context.kind());
    tracing::warn!(%id, kind, transition = %item.settling.transition, ?refusal, "outcome refused: the claim was lost");
}

/// What an accepted outcome entails: places given on, successors created, concerns told.
async fn follow_up(store: &Store, accepted: &[Item]) {
    for (key, count) in places(accepted.iter().map(|item| item.context.document())) {
        if let Err(error) = store.release(&Limit::hold(&key), count).await {
            tracing::warn!(
                key,
                error = error.chain(),
                "cannot give places on: the sweep will"
            );
        }
    }
    for item in accepted {
        let change = &item.settling.patch.change;
        if change.set.contains_key(name::SUCCESSORS)
            && let Err(error) = create_successors(&**store, item.context.id()).await
        {
            tracing::warn!(id = %item.context.id(), error = error.chain(), "cannot create successors: the sweep will");
        }
        let transition = item.settling.transition;
        let concerns = item.context.definition().concerns;
        if !concerns.iter().any(|concern| concern.observes(transition)) {
            continue;
        }
        let mut document = item.context.document().as_document().clone();
        change.apply(&mut document);
        if change.delete
            && let Some(state) = target(State::Running, transition, true)
        {
            // The document is gone; observers see it as it would stand there.
            document.insert(name::STATE, state.as_str());
            document.insert(name::WORKER_NAME, Bson::Null);
        }
        let Ok(after) = JobDocument::new(document) else {
            continue;
        };
        tokio::spawn(async move {
            for concern in concerns
                .iter()
                .filter(|concern| concern.observes(transition))
            {
                concern.after_transition(transition, &after).await;
            }
        });
    }
}
