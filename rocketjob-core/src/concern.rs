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
    conclusion::{Conclusion, Saving},
    context::JobContext,
    definition::Definition,
    document::JobDocument,
    encoding,
    error::{Error, Result, ValidationFailed},
    failure::JobResult,
    field::FieldDefinition,
    limit::Limit,
    name,
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

impl UniqueScope {
    /// The stored field that holds the key.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Active => name::UNIQUE_KEY,
            Self::Unfinished => name::UNFINISHED_KEY,
        }
    }
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

    /// What a job needs in order to start at the store's time `now`; asked at each claim, before the
    /// job is handed out, and again before held jobs go on. It must be quick and must not block.
    ///
    /// With [`Limit::closed`] it says "not now, ask again in ten seconds": the job keeps its place
    /// and is in nobody's way meanwhile. A panic in here fails the job.
    ///
    /// # Examples
    /// ```
    /// use rocketjob_core::{Concern, JobDocument, Limit, NoState};
    /// use std::{sync::atomic::{AtomicBool, Ordering}, time::Duration};
    /// # use jiff::Timestamp;
    ///
    /// static MAINTENANCE: AtomicBool = AtomicBool::new(false);
    ///
    /// /// Lets no job start during maintenance.
    /// #[derive(Debug)]
    /// struct NotDuringMaintenance;
    ///
    /// impl Concern for NotDuringMaintenance {
    ///     type State = NoState;
    ///
    ///     fn name(&self) -> &'static str {
    ///         "not_during_maintenance"
    ///     }
    ///
    ///     fn limits(&self, _job: &JobDocument, _state: &NoState, _now: Timestamp) -> Vec<Limit> {
    ///         let closed = MAINTENANCE.load(Ordering::Relaxed);
    ///         closed
    ///             .then(|| Limit::closed("maintenance", Duration::from_secs(10)))
    ///             .into_iter()
    ///             .collect()
    ///     }
    /// }
    /// ```
    fn limits(&self, job: &JobDocument, state: &Self::State, now: Timestamp) -> Vec<Limit> {
        let _ = (job, state, now);
        Vec::new()
    }

    /// The kinds whose jobs may be in the way of those of this one
    /// ([`Limit::while_none_runs`]): servers that end one of them let the jobs of this kind go on at
    /// once. Where it is not said, they look once a second.
    fn waits_for(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// Before which time a job may not start that becomes queued, at its creation, a retry or a
    /// resume, and would start at `due`: it waits with this `run_at` if that is later.
    fn not_before(
        &self,
        job: &JobDocument,
        state: &Self::State,
        due: Timestamp,
    ) -> Option<Timestamp> {
        let _ = (job, state, due);
        None
    }

    /// Why a job that becomes queued is not ready; `None` lets it be. Whoever gives a reason also
    /// releases it ([`JobStore::release`](crate::JobStore::release)); for "not now, ask again" see
    /// [`limits`](Self::limits).
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

    /// Runs before a new job is stored, and before what people edited is: may write further fields.
    /// What is wrong with the job is for [`validate`](Self::validate), which comes after it.
    fn before_save(&self, saving: &mut Saving<'_>, state: &mut Self::State) -> Result<()> {
        let _ = (saving, state);
        Ok(())
    }

    /// Adds to a transition that has been decided, whoever decided it: after all concerns have had
    /// their say in [`settle`](Self::settle) or [`before_transition`](Self::before_transition). The
    /// place to create successors. Changes of `state` are written with it.
    ///
    /// Not called when a job has expired.
    ///
    /// # Errors
    /// A transition from outside is refused then; a claim's outcome becomes a failure.
    fn conclude(&self, conclusion: &mut Conclusion<'_>, state: &mut Self::State) -> Result<()> {
        let _ = (conclusion, state);
        Ok(())
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
    fn limits(&self, job: &JobDocument, now: Timestamp) -> Vec<Limit>;
    fn waits_for(&self) -> Vec<&'static str>;
    fn not_before(&self, job: &JobDocument, due: Timestamp) -> Result<Option<Timestamp>>;
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
    fn before_save(&self, saving: &mut Saving<'_>) -> Result<()>;
    fn conclude(&self, conclusion: &mut Conclusion<'_>) -> Result<()>;
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

    fn limits(&self, job: &JobDocument, now: Timestamp) -> Vec<Limit> {
        match decode_state(self, job.as_document()) {
            Ok(state) => Concern::limits(self, job, &state, now),
            // The job fails when it is decoded for `perform`, which says what is wrong with it.
            Err(_) => Vec::new(),
        }
    }

    fn waits_for(&self) -> Vec<&'static str> {
        Concern::waits_for(self)
    }

    fn not_before(&self, job: &JobDocument, due: Timestamp) -> Result<Option<Timestamp>> {
        let state = decode_state(self, job.as_document())?;
        Ok(Concern::not_before(self, job, &state, due))
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

    fn before_save(&self, saving: &mut Saving<'_>) -> Result<()> {
        let mut document = saving.job.as_document().clone();
        saving.change.apply(&mut document);
        // What cannot be read is named by the validation that follows.
        let Ok(mut state) = decode_state(self, &document) else {
            return Ok(());
        };
        let before = encode_state(self, &state)?;
        Concern::before_save(self, saving, &mut state)?;
        write_changes(saving.change, &before, encode_state(self, &state)?);
        Ok(())
    }

    fn conclude(&self, conclusion: &mut Conclusion<'_>) -> Result<()> {
        let mut state = decode_state(self, &conclusion.current())?;
        let before = encode_state(self, &state)?;
        Concern::conclude(self, conclusion, &mut state)?;
        write_changes(conclusion.change, &before, encode_state(self, &state)?);
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

/// Adds to `change` what differs between two states of a concern.
pub(crate) fn write_changes(change: &mut Change, before: &Document, after: Document) {
    for (field, value) in after {
        if before.get(&field) != Some(&value) {
            change.put(field, value);
        }
    }
}
