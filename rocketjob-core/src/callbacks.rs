//! What a job does before, after and around `perform` and each transition, beside its concerns.

use std::{fmt, future::Future, marker::PhantomData};

use async_trait::async_trait;
use bson::Document;
use futures_util::{FutureExt, future::LocalBoxFuture};

use crate::{
    change::Change,
    concern::{Concern, ErasedConcern, NoState},
    context::{JobContext, payload_changes},
    document::JobDocument,
    encoding::{decode, encode},
    error::{Error, Result},
    failure::JobResult,
    job::{Perform, Probe},
    settlement::{Outcome, Settlement},
    state::Transition,
};

/// What follows on [`Callbacks::before_perform`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proceed {
    /// The job is performed.
    Perform,
    /// There is nothing to do: `perform` and `after_perform` are left out, and the job completes.
    Complete,
}

/// What a job does at the moments of its life: implemented for those jobs that need it, with the
/// methods that they need. Nothing else has to be said: `#[derive(RocketJob)]` finds it.
///
/// The order is: concerns around `perform` in the order of the attributes, and inside of them
/// `before_transition(Start)`, `before_perform`, `around_perform` with `perform` in it,
/// `after_perform`. Then how the claim ends is decided, by the concerns in their
/// order and in the end by `before_transition`; once it is written, the concerns that observe it
/// and `after_transition` are told, in that order.
///
/// What a callback changes in the struct is stored, as if `perform` had: with the outcome, or with
/// the transition that an operator asked for. One that fails before or after `perform` fails the job
/// as an error of `perform` does: it may say `retry_after`, `fail_for_good` or `discard` (which
/// aborts the job).
pub trait Callbacks: Perform {
    /// Runs before `perform`, and says whether that is to happen at all.
    fn before_perform(&mut self, job: &JobContext) -> impl Future<Output = JobResult<Proceed>> {
        let _ = job;
        async { Ok(Proceed::Perform) }
    }

    /// Surrounds `perform`, which it must call to let it happen: `self.perform(job).await`.
    fn around_perform(&mut self, job: &JobContext) -> impl Future<Output = JobResult> {
        self.perform(job)
    }

    /// Runs when `perform` went well.
    fn after_perform(&mut self, job: &JobContext) -> impl Future<Output = JobResult> {
        let _ = job;
        async { Ok(()) }
    }

    /// Runs before a transition, with the job as it is stored. An error refuses what an operator
    /// asked for; it fails a job that was about to complete; and where a job fails, is aborted or
    /// tried again anyway, it is logged.
    ///
    /// The start is the exception: a job is claimed together with others, so this runs on the worker
    /// when the claim is written already, and an error fails the job. There is no callback when a
    /// claim is handed back, or ended since its server died: no code of the job may run then.
    fn before_transition(&mut self, transition: Transition, job: &JobDocument) -> JobResult {
        let _ = (transition, job);
        Ok(())
    }

    /// Runs after a transition was written, with the job after it. Not called after the start, where
    /// [`before_perform`](Self::before_perform) is, nor when the process dies in between.
    fn after_transition(
        self,
        transition: Transition,
        job: &JobDocument,
    ) -> impl Future<Output = ()> + Send {
        let _ = (transition, job);
        async {}
    }
}

/// How a job with callbacks is performed. Made for every [`Callbacks`]; used by generated code.
pub trait PerformCallbacks<T>: Sync {
    /// Performs the job with its callbacks.
    fn perform<'a>(&self, job: &'a mut T, context: &'a JobContext)
    -> LocalBoxFuture<'a, JobResult>;
}

/// The callbacks of a type: around `perform`, and as the last of its concerns.
pub struct OwnCallbacks<T>(PhantomData<fn() -> T>);

impl<T> fmt::Debug for OwnCallbacks<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnCallbacks")
    }
}

/// What the derive finds for a type with callbacks.
impl<T: Callbacks> Probe<T> {
    /// The callbacks at transitions.
    pub const CALLBACKS: Option<&'static dyn ErasedConcern> = Some(&OwnCallbacks::<T>(PhantomData));

    /// The callbacks around `perform`.
    pub fn callbacks() -> Option<&'static dyn PerformCallbacks<T>> {
        Some(&OwnCallbacks::<T>(PhantomData))
    }
}

/// What it finds for a type without.
pub trait NoCallbacks<T> {
    /// None.
    const CALLBACKS: Option<&'static dyn ErasedConcern> = None;

    /// None.
    fn callbacks() -> Option<&'static dyn PerformCallbacks<T>> {
        None
    }
}

impl<T> NoCallbacks<T> for Probe<T> {}

impl<T: Callbacks> PerformCallbacks<T> for OwnCallbacks<T> {
    fn perform<'a>(
        &self,
        job: &'a mut T,
        context: &'a JobContext,
    ) -> LocalBoxFuture<'a, JobResult> {
        async move {
            job.before_transition(Transition::Start, context.document())?;
            if job.before_perform(context).await? == Proceed::Complete {
                return Ok(());
            }
            job.around_perform(context).await?;
            job.after_perform(context).await
        }
        .boxed_local()
    }
}

impl<T: Callbacks> OwnCallbacks<T> {
    /// The changes that the callback makes in the job's fields, which stand in `document`.
    fn before(
        transition: Transition,
        document: &Document,
        stored: &JobDocument,
    ) -> Result<JobResult<Change>> {
        let mut job: T = decode(T::DEFINITION, document)?;
        match job.before_transition(transition, stored) {
            Ok(()) => {
                let payload = encode(T::DEFINITION, &job)?;
                Ok(Ok(payload_changes(T::DEFINITION, document, &payload)))
            }
            Err(error) => Ok(Err(error)),
        }
    }
}

#[async_trait]
impl<T: Callbacks> Concern for OwnCallbacks<T> {
    type State = NoState;

    fn name(&self) -> &'static str {
        OWN_CALLBACKS
    }

    fn settle(&self, settlement: &mut Settlement<'_>, _state: &mut NoState) {
        if *settlement.outcome() == Outcome::HandBack {
            return;
        }
        // A job that may not complete fails, which is a transition of its own.
        for _ in 0..2 {
            let transition = settlement.outcome().transition();
            let before = Self::before(transition, &settlement.current(), settlement.job());
            match before {
                Ok(Ok(change)) => {
                    for (field, value) in change.set {
                        settlement.change.put(field, value);
                    }
                }
                Ok(Err(error)) if transition == Transition::Complete => {
                    let outcome = Outcome::of(Err(error), settlement.now());
                    settlement.set_outcome(outcome);
                    continue;
                }
                Ok(Err(error)) => {
                    let id = settlement.job().id();
                    tracing::error!(%id, %transition, error = %error, "a callback before a transition failed");
                }
                // The job fails for that already.
                Err(_) => {}
            }
            return;
        }
    }

    fn before_transition(
        &self,
        transition: Transition,
        job: &JobDocument,
        _state: &mut NoState,
        change: &mut Change,
    ) -> Result<()> {
        let Ok(before) = Self::before(transition, job.as_document(), job) else {
            // Whoever gives up a job that cannot be read must be able to.
            return Ok(());
        };
        let own = before.map_err(|error| Error::Vetoed {
            id: job.id(),
            transition,
            reason: error.into_failure(),
        })?;
        for (field, value) in own.set {
            change.put(field, value);
        }
        Ok(())
    }

    fn observes(&self, transition: Transition) -> bool {
        !matches!(transition, Transition::Start | Transition::Requeue)
    }

    async fn after_transition(&self, transition: Transition, job: &JobDocument) {
        match decode::<T>(T::DEFINITION, job.as_document()) {
            Ok(own) => own.after_transition(transition, job).await,
            Err(error) => {
                tracing::warn!(id = %job.id(), %transition, error = error.chain(), "no callback after a transition");
            }
        }
    }
}

/// The name of a job's own callbacks among its concerns.
pub(crate) const OWN_CALLBACKS: &str = "callbacks";
