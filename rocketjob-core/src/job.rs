//! What the derive and the user say of a struct that is a job.

use std::{fmt::Debug, future::Future, marker::PhantomData};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    callbacks::PerformCallbacks, context::JobContext, definition::Definition,
    error::ValidationFailed, failure::JobResult,
};

/// A struct that is stored as a job. Written by `#[derive(RocketJob)]`, not by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a job",
    label = "no `#[derive(RocketJob)]` on this type",
    note = "put `#[derive(RocketJob, Serialize, Deserialize)]` on the struct"
)]
pub trait Job: Serialize + DeserializeOwned + Send + Sized + 'static {
    /// What is known of the kind.
    const DEFINITION: &'static Definition;

    /// Adds the rules of `validator` that the struct breaks, where it has any.
    fn check_rules(&self, problems: &mut ValidationFailed) {
        let _ = problems;
    }

    /// The callbacks around `perform`, where it has any.
    fn callbacks() -> Option<&'static dyn PerformCallbacks<Self>> {
        None
    }
}

/// What a job does.
///
/// `perform` runs on a thread of its own: it may block, compute, use blocking clients that bring a
/// runtime, await futures that are not `Send`, and use `tokio` (`spawn`, `time`). What it writes to
/// `self` is stored with the outcome.
///
/// It is performed at least once: again when its server dies half-way.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what it does",
    label = "no `impl Perform` for this job",
    note = "write `impl Perform for {Self} {{ async fn perform(&mut self, job: &JobContext) -> JobResult {{ … }} }}`"
)]
pub trait Perform: Job {
    /// Does the work. An error or a panic fails this job, and no other.
    fn perform(&mut self, job: &JobContext) -> impl Future<Output = JobResult>;
}

/// Finds out at compile time whether a type has rules or a stored type, without asking for them.
///
/// Used by generated code. An inherent item that applies wins over one of a trait.
#[derive(Debug)]
pub struct Probe<T>(PhantomData<T>);

impl<T: crate::field::StoredAs> Probe<T> {
    /// The type in the store.
    pub const TYPE: crate::field::FieldType = T::TYPE;
    /// Whether serde sees text where the store keeps a date.
    pub const VIA_TEXT: bool = T::VIA_TEXT;
    /// Whether the value may be absent.
    pub const OPTIONAL: bool = T::OPTIONAL;
}

/// What holds for a type of which nothing is known.
pub trait Unknown {
    /// Anything.
    const TYPE: crate::field::FieldType = crate::field::FieldType::ANY;
    /// No.
    const VIA_TEXT: bool = false;
    /// Perhaps not, so not.
    const OPTIONAL: bool = false;
}

impl<T> Unknown for Probe<T> {}

impl<T: validator::Validate> Probe<T> {
    /// Adds the rules that `job` breaks.
    pub fn check(job: &T, problems: &mut ValidationFailed) {
        if let Err(errors) = job.validate() {
            problems.add_rules(&errors);
        }
    }
}

/// What holds for a type without rules.
pub trait NoRules<T> {
    /// Adds nothing.
    fn check(job: &T, problems: &mut ValidationFailed) {
        let _ = (job, problems);
    }
}

impl<T> NoRules<T> for Probe<T> {}
