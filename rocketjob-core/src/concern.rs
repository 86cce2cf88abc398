//! Concerns: what an attribute adds to a kind of job, as in `#[singleton]` or `#[concern(Mine)]`.
//!
//! The built-in concerns are written against this trait like any other.

use std::{any::Any, fmt::Debug};

use async_trait::async_trait;
use bson::Document;
use futures_util::future::LocalBoxFuture;
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    change::Change,
    claim::Limit,
    context::JobContext,
    definition::Definition,
    document::JobDocument,
    encoding,
    error::{Error, Result, ValidationFailed},
    failure::JobResult,
    field::FieldDefinition,
    settlement::Settlement,
    state::Transition,
    unique::OnConflict,
};

/// Among which jobs a unique key is unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UniqueScope {
    /// Queued and running jobs.
    Active,
    /// Failed, paused, queued and running jobs.
    Unfinished,
}

/// A key that only one job may hold at a time; a store keeps it by a unique index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UniqueKey {
    /// The key. It names its owner: two concerns never make the same one.
    pub key: String,
    /// While which states it is held.
    pub scope: UniqueScope,
    /// What a second holder is told, after `Validation failed: `.
    pub reason: String,
}

/// What a concern adds to a job. Every method but [`name`](Self::name) has a default that adds
/// nothing.
///
/// A concern is a value, made by the attribute and shared by all jobs of the kind: what differs
/// between jobs is its [`State`](Self::State), kept in each job's document.
///
/// # Examples
/// ```
/// use rocketjob_core::{Concern, NoState, Outcome, Settlement, later};
/// use std::time::Duration;
///
/// /// Tries again a minute after each failure.
/// #[derive(Debug)]
/// struct EveryMinute;
///
/// impl Concern for EveryMinute {
///     type State = NoState;
///
///     fn name(&self) -> &'static str {
///         "every_minute"
///     }
///
///     fn settle(&self, settlement: &mut Settlement<'_>, _state: &mut NoState) {
///         if let Outcome::Fail(failure) = settlement.outcome().clone() {
///             let run_at = later(settlement.now(), Duration::from_secs(60));
///             settlement.set_outcome(Outcome::Retry { failure, run_at });
///         }
///     }
/// }
/// ```
#[async_trait]
pub trait Concern: Debug + Send + Sync + 'static {
    /// What the concern keeps on each job, flat in its document, under the names of
    /// [`fields`](Self::fields). Missing fields must decode (`#[serde(default)]`).
    type State: Serialize + DeserializeOwned + Default + Clone + Send + Sync + 'static;

    /// The word for it: that of the attribute.
    fn name(&self) -> &'static str;

    /// The fields of its state.
    fn fields(&self) -> &'static [FieldDefinition] {
        &[]
    }

    /// The state of a new job that says nothing else.
    fn initial_state(&self) -> Self::State {
        Self::State::default()
    }

    /// Adds what is wrong with a job; called before every save and before `perform_now`.
    fn validate(&self, job: &JobDocument, state: &Self::State, problems: &mut ValidationFailed) {
        let _ = (job, state, problems);
    }

    /// The unique key of a new job. It is made again when somebody edits the job.
    fn unique_key(&self, job: &JobDocument, state: &Self::State) -> Option<UniqueKey> {
        let _ = (job, state);
        None
    }

    /// What becomes of a new job whose [unique key](Self::unique_key) another job holds.
    fn on_conflict(&self) -> OnConflict {
        OnConflict::Reject
    }

    /// The limits under which a job runs; asked at each claim.
    fn limits(&self, job: &JobDocument, state: &Self::State) -> Vec<Limit> {
        let _ = (job, state);
        Vec::new()
    }

    /// Why a job that becomes queued is not ready; `None` lets it be. Whoever gives a reason also
    /// releases it ([`JobStore::release`](crate::JobStore::release)).
    fn hold(&self, job: &JobDocument, state: &Self::State, now: Timestamp) -> Option<String> {
        let _ = (job, state, now);
        None
    }

    /// Runs around `perform`, on the worker's thread. Must await `next` to let it happen.
    fn around_perform<'a>(
        &'a self,
        job: &'a JobContext,
        next: Next<'a>,
    ) -> LocalBoxFuture<'a, JobResult> {
        let _ = job;
        next.run()
    }

    /// Decides how a claim ends: may turn its outcome into another one, as a retry does with a
    /// failure. All concerns are asked before the first [`settle`](Self::settle), which so sees how
    /// the claim ends in the end, whatever the order of the attributes. Changes of `state` are
    /// written with it.
    fn decide(&self, settlement: &mut Settlement<'_>, state: &mut Self::State) {
        let _ = (settlement, state);
    }

    /// Adds to the outcome of a claim before it is written: may write further fields and create
    /// successors, and turn the outcome into another one for which no other concern need be asked.
    /// Changes of `state` are written with it.
    fn settle(&self, settlement: &mut Settlement<'_>, state: &mut Self::State) {
        let _ = (settlement, state);
    }

    /// Runs before a transition that was asked for from outside; may write further fields or
    /// refuse it.
    fn before_transition(
        &self,
        transition: Transition,
        job: &JobDocument,
        state: &mut Self::State,
        change: &mut Change,
    ) -> Result<()> {
        let _ = (transition, job, state, change);
        Ok(())
    }

    /// Whether [`after_transition`](Self::after_transition) is to be called.
    fn observes(&self, transition: Transition) -> bool {
        let _ = transition;
        false
    }

    /// Runs after a transition was written, with the job after it; never for one that was refused.
    /// Not called when the process dies in between: what must not be missed belongs into
    /// [`settle`](Self::settle), as a successor.
    async fn after_transition(&self, transition: Transition, job: &JobDocument) {
        let _ = (transition, job);
    }
}

/// The state of a concern that keeps none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct NoState {}

/// The rest of what surrounds `perform`, and `perform` itself.
pub struct Next<'a> {
    rest: &'a [&'static dyn ErasedConcern],
    job: &'a JobContext,
    perform: LocalBoxFuture<'a, JobResult>,
}

impl Debug for Next<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Next")
            .field("rest", &self.rest)
            .finish_non_exhaustive()
    }
}

impl<'a> Next<'a> {
    pub(crate) fn new(
        rest: &'a [&'static dyn ErasedConcern],
        job: &'a JobContext,
        perform: LocalBoxFuture<'a, JobResult>,
    ) -> Self {
        Self { rest, job, perform }
    }

    /// Lets the next concern, and in the end `perform`, run.
    pub fn run(self) -> LocalBoxFuture<'a, JobResult> {
        match self.rest.split_first() {
            Some((concern, rest)) => concern.around_perform(self.job, Self { rest, ..self }),
            None => self.perform,
        }
    }
}

/// A [`Concern`] whose state type is hidden, as definitions list them. Made for every concern.
#[async_trait]
#[expect(
    missing_docs,
    reason = "the methods are those of `Concern`, with the state read from and written to the document"
)]
pub trait ErasedConcern: Debug + Send + Sync + 'static {
    fn name(&self) -> &'static str;
    fn fields(&self) -> &'static [FieldDefinition];
    fn as_any(&self) -> &dyn Any;
    fn initial_state(&self) -> Result<Document>;
    fn validate(&self, job: &JobDocument, problems: &mut ValidationFailed);
    fn unique_key(&self, job: &JobDocument) -> Result<Option<UniqueKey>>;
    fn on_conflict(&self) -> OnConflict;
    fn limits(&self, job: &JobDocument) -> Vec<Limit>;
    fn hold(&self, job: &JobDocument, now: Timestamp) -> Result<Option<String>>;
    fn around_perform<'a>(
        &'a self,
        job: &'a JobContext,
        next: Next<'a>,
    ) -> LocalBoxFuture<'a, JobResult>;
    fn decide(&self, settlement: &mut Settlement<'_>) -> Result<()>;
    fn settle(&self, settlement: &mut Settlement<'_>) -> Result<()>;
    fn before_transition(
        &self,
        transition: Transition,
        job: &JobDocument,
        change: &mut Change,
    ) -> Result<()>;
    fn observes(&self, transition: Transition) -> bool;
    async fn after_transition(&self, transition: Transition, job: &JobDocument);
}

#[async_trait]
impl<C: Concern> ErasedConcern for C {
    fn name(&self) -> &'static str {
        Concern::name(self)
    }

    fn fields(&self) -> &'static [FieldDefinition] {
        Concern::fields(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn initial_state(&self) -> Result<Document> {
        encode_state(self, &Concern::initial_state(self))
    }

    fn validate(&self, job: &JobDocument, problems: &mut ValidationFailed) {
        match decode_state(self, job.as_document()) {
            Ok(state) => Concern::validate(self, job, &state, problems),
            Err(error) => problems.add(Concern::name(self), error.to_string()),
        }
    }

    fn unique_key(&self, job: &JobDocument) -> Result<Option<UniqueKey>> {
        Ok(Concern::unique_key(
            self,
            job,
            &decode_state(self, job.as_document())?,
        ))
    }

    fn on_conflict(&self) -> OnConflict {
        Concern::on_conflict(self)
    }

    fn limits(&self, job: &JobDocument) -> Vec<Limit> {
        match decode_state(self, job.as_document()) {
            Ok(state) => Concern::limits(self, job, &state),
            // The job fails when it is decoded for `perform`, which says what is wrong with it.
            Err(_) => Vec::new(),
        }
    }

    fn hold(&self, job: &JobDocument, now: Timestamp) -> Result<Option<String>> {
        Ok(Concern::hold(
            self,
            job,
            &decode_state(self, job.as_document())?,
            now,
        ))
    }

    fn around_perform<'a>(
        &'a self,
        job: &'a JobContext,
        next: Next<'a>,
    ) -> LocalBoxFuture<'a, JobResult> {
        Concern::around_perform(self, job, next)
    }

    fn decide(&self, settlement: &mut Settlement<'_>) -> Result<()> {
        let mut state = decode_state(self, &settlement.current())?;
        let before = encode_state(self, &state)?;
        Concern::decide(self, settlement, &mut state);
        write_changes(&mut settlement.change, &before, encode_state(self, &state)?);
        Ok(())
    }

    fn settle(&self, settlement: &mut Settlement<'_>) -> Result<()> {
        let mut state = decode_state(self, &settlement.current())?;
        let before = encode_state(self, &state)?;
        Concern::settle(self, settlement, &mut state);
        write_changes(&mut settlement.change, &before, encode_state(self, &state)?);
        Ok(())
    }

    fn before_transition(
        &self,
        transition: Transition,
        job: &JobDocument,
        change: &mut Change,
    ) -> Result<()> {
        let mut state = decode_state(self, job.as_document())?;
        let before = encode_state(self, &state)?;
        Concern::before_transition(self, transition, job, &mut state, change)?;
        write_changes(change, &before, encode_state(self, &state)?);
        Ok(())
    }

    fn observes(&self, transition: Transition) -> bool {
        Concern::observes(self, transition)
    }

    async fn after_transition(&self, transition: Transition, job: &JobDocument) {
        Concern::after_transition(self, transition, job).await;
    }
}

/// The concern of type `C` of a kind.
pub(crate) fn concern_of<C: Concern>(definition: &Definition) -> Result<&'static C> {
    let mut concerns = definition.concerns.iter();
    concerns
        .find_map(|concern| concern.as_any().downcast_ref())
        .ok_or_else(|| {
            Error::configuration(format!(
                "kind `{}` has no concern `{}`",
                definition.kind,
                std::any::type_name::<C>()
            ))
        })
}

/// Reads a concern's state from a job's document.
pub(crate) fn decode_state<C: Concern + ?Sized>(
    concern: &C,
    document: &Document,
) -> Result<C::State> {
    let fields = Concern::fields(concern);
    let own = document
        .iter()
        .filter(|(key, _)| fields.iter().any(|field| field.name == *key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    encoding::decode_fields(fields, own).map_err(|reason| Error::Undecodable {
        id: document
            .get(crate::name::ID)
            .map(encoding::id_text)
            .unwrap_or_default(),
        kind: document
            .get_str(crate::name::KIND)
            .unwrap_or_default()
            .into(),
        reason: format!("concern `{}`: {reason}", Concern::name(concern)),
    })
}

/// The stored form of a concern's state.
pub(crate) fn encode_state<C: Concern + ?Sized>(concern: &C, state: &C::State) -> Result<Document> {
    encoding::encode_fields(Concern::name(concern), Concern::fields(concern), state)
}

fn write_changes(change: &mut Change, before: &Document, after: Document) {
    for (field, value) in after {
        if before.get(&field) != Some(&value) {
            change.put(field, value);
        }
    }
}
