//! Performing one job, on a server's thread or in place, and turning what came of it into a
//! settlement. The only place that catches panics.

use std::{
    any::{Any, TypeId},
    backtrace::Backtrace,
    cell::{Cell, RefCell},
    fmt::Debug,
    marker::PhantomData,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

use bson::{Document, oid::ObjectId};
use futures_util::{FutureExt, future::LocalBoxFuture};
use jiff::Timestamp;

use crate::{
    change::Change,
    claim::Claim,
    concern::Next,
    context::JobContext,
    definition::Definition,
    document::JobDocument,
    encoding::{decode, encode, integer},
    error::{Error, ValidationFailed, chain},
    failure::{JobError, JobFailure, JobResult, PANIC, UNDECODABLE, Wish},
    job::{Job, Perform},
    name,
    new_job::{NewJob, validate},
    settlement::{Outcome, Settlement, Settling},
    trace::current_trace,
};

/// Performs the jobs of one kind; the kind's Rust type is hidden. Made for every [`Perform`].
pub trait Handler: Debug + Send + Sync {
    /// What is known of the kind.
    fn definition(&self) -> &'static Definition;

    /// Identifies the Rust type.
    fn rust_type(&self) -> TypeId;

    /// A new job of the kind from its fields as data: what `create` of the Rust type would insert at
    /// the store's time `now`, validated. `envelope` is what is said of it besides.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a rule is broken, [`Error::Unstorable`] when the fields do not fit.
    fn prepare(
        &self,
        fields: &Document,
        envelope: Document,
        now: Timestamp,
        id: ObjectId,
    ) -> Result<JobDocument, Error>;

    /// Checks that the job can be decoded, and everything that its kind has to say against it.
    ///
    /// # Errors
    /// [`Error::Invalid`] and [`Error::Undecodable`].
    fn check(&self, job: &JobDocument) -> Result<(), Error>;

    /// Performs the job of `context` on this thread. Never panics: a panic of the job is a failure.
    fn perform<'a>(&'a self, context: &'a JobContext) -> LocalBoxFuture<'a, Performed>;
}

/// What came of `perform`.
#[derive(Debug)]
pub struct Performed {
    /// What it returned.
    pub result: JobResult,
    /// What it changed in the job's own fields and in its concerns' states.
    pub change: Change,
}

impl Performed {
    /// What came of a job that was not performed to its end: of its own fields nothing is written.
    pub fn failed(error: JobError, context: &JobContext) -> Self {
        Self {
            result: Err(error),
            change: context.changes(None),
        }
    }

    /// The write that settles the claim, at the store's time `now`.
    pub fn settle(self, context: &JobContext, claim: Claim, now: Timestamp) -> Settling {
        let job = context.document();
        let is_final = matches!(&self.result, Err(error) if error.wish() == Wish::FailForGood);
        let outcome = Outcome::of(self.result, now);
        let settlement = Settlement::new(job, now, outcome, is_final, self.change);
        settlement
            .into_patch(context.definition(), claim.clone())
            .unwrap_or_else(|error| {
                let failure = JobFailure {
                    class_name: UNDECODABLE.into(),
                    ..JobFailure::message(error.to_string())
                };
                Settlement::new(job, now, Outcome::Fail(failure), true, Change::new()).render(claim)
            })
    }
}

/// The [`Handler`] of a type.
pub(crate) struct KindHandler<T>(PhantomData<fn() -> T>);

impl<T> KindHandler<T> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: Job> Debug for KindHandler<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("KindHandler")
            .field(&T::DEFINITION.rust_type)
            .finish()
    }
}

impl<T: Perform> Handler for KindHandler<T> {
    fn definition(&self) -> &'static Definition {
        T::DEFINITION
    }

    fn rust_type(&self) -> TypeId {
        TypeId::of::<T>()
    }

    fn prepare(
        &self,
        fields: &Document,
        envelope: Document,
        now: Timestamp,
        id: ObjectId,
    ) -> Result<JobDocument, Error> {
        let mut fields = fields.clone();
        fields.insert(name::PAYLOAD_VERSION, integer(T::DEFINITION.version.into()));
        let job: T = decode(T::DEFINITION, &fields).map_err(|error| match error {
            Error::Undecodable { kind, reason, .. } => Error::Unstorable { kind, reason },
            other => other,
        })?;
        NewJob::from(job)
            .with_envelope(envelope)
            .prepare_at(now, id, current_trace())
    }

    fn check(&self, job: &JobDocument) -> Result<(), Error> {
        let fields: T = decode(T::DEFINITION, job.as_document())?;
        validate(&fields, job, ValidationFailed::new())
    }

    fn perform<'a>(&'a self, context: &'a JobContext) -> LocalBoxFuture<'a, Performed> {
        async move {
            if let Err(error) = context.finish_successors().await {
                return Performed::failed(JobError::handed_back(&error), context);
            }
            let decoded =
                catching(async { decode::<T>(T::DEFINITION, context.document().as_document()) })
                    .await;
            let mut job = match decoded {
                Ok(Ok(job)) => job,
                Ok(Err(error)) => return Performed::failed(undecodable(&error), context),
                Err(panic) => return Performed::failed(panic, context),
            };
            perform(&mut job, context).await
        }
        .boxed_local()
    }
}

/// Performs `job` with the concerns of its kind around it.
pub(crate) async fn perform<T: Perform>(job: &mut T, context: &JobContext) -> Performed {
    let performing = async {
        context.begin()?;
        match T::callbacks() {
            Some(callbacks) => callbacks.perform(job, context).await,
            None => job.perform(context).await,
        }
    }
    .boxed_local();
    let next = Next::new(T::DEFINITION.concerns, context, performing);
    let result = match catching(next.run()).await {
        Ok(result) => result,
        // The struct is in whatever state the panic left it in: nothing of it is stored.
        Err(panic) => return Performed::failed(panic, context),
    };
    match catching(async { encode(T::DEFINITION, job) }).await {
        Ok(Ok(payload)) => Performed {
            result,
            change: context.changes(Some(&payload)),
        },
        Ok(Err(error)) => Performed::failed(
            result.err().unwrap_or_else(|| JobError::from(error)),
            context,
        ),
        Err(panic) => Performed::failed(panic, context),
    }
}

fn undecodable(error: &Error) -> JobError {
    let failure = JobFailure {
        class_name: UNDECODABLE.into(),
        ..JobFailure::message(chain(error))
    };
    JobError::new(Wish::FailForGood, failure)
}

thread_local! {
    static PERFORMING: Cell<bool> = const { Cell::new(false) };
    static PANICKED_AT: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Runs `future` and turns a panic into an error with its message and backtrace.
async fn catching<F: Future>(future: F) -> Result<F::Output, JobError> {
    note_backtraces();
    let before = PERFORMING.replace(true);
    let result = AssertUnwindSafe(future).catch_unwind().await;
    PERFORMING.set(before);
    result.map_err(|payload| JobError::new(Wish::Usual, panicked(payload.as_ref())))
}

/// Runs `act` and turns a panic into a failure with its message and backtrace.
pub(crate) fn guarded<T>(act: impl FnOnce() -> T) -> Result<T, JobFailure> {
    note_backtraces();
    let before = PERFORMING.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(act));
    PERFORMING.set(before);
    result.map_err(|payload| panicked(payload.as_ref()))
}

fn panicked(payload: &(dyn Any + Send)) -> JobFailure {
    JobFailure {
        class_name: PANIC.into(),
        message: panic_message(payload),
        backtrace: PANICKED_AT.take(),
        worker_name: None,
    }
}

pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "panicked with a value that is no text".to_owned()
    }
}

/// A caught panic no longer knows where it came from: the hook notes it for threads that perform.
fn note_backtraces() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if PERFORMING.get() {
                let mut lines: Vec<String> = info
                    .location()
                    .map(|location| format!("at {location}"))
                    .into_iter()
                    .collect();
                let backtrace = Backtrace::force_capture().to_string();
                lines.extend(backtrace.lines().map(|line| line.trim().to_owned()));
                PANICKED_AT.set(lines);
            }
            previous(info);
        }));
    });
}
