//! Stored jobs, typed: read, changed, steered.

use std::ops::{Deref, DerefMut};

use bson::{Bson, Document, oid::ObjectId};
use jiff::Timestamp;

use crate::{
    change::{Change, Guard, Patch, Refusal},
    concern::{Concern, concern_of, decode_state},
    conclusion::{conclude, put_successors},
    context::{differences, payload_changes},
    definition::{Definition, LogLevel},
    document::JobDocument,
    encoding::{date, decode, encode},
    error::{Error, Result, ValidationFailed},
    failure::JobFailure,
    filter::Filter,
    job::Job,
    limit::Limit,
    name,
    new_job::{unique_reason, validate},
    release::places,
    state::{State, Transition, sources},
    store::Store,
    successor::create_successors,
    transition,
    unique::move_unique,
};

/// A stored job. Dereferences to the struct; [`document`](Self::document) has the rest.
///
/// It is a copy from the moment it was read: [`reload`](Self::reload) fetches what others changed,
/// and [`save`](Self::save) writes only what changed here, so that two writers of different fields
/// do not undo each other's work.
#[derive(Debug, Clone)]
pub struct JobHandle<T> {
    store: Store,
    document: JobDocument,
    job: T,
    envelope: Document,
}

impl<T> Deref for JobHandle<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.job
    }
}

impl<T> DerefMut for JobHandle<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.job
    }
}

impl<T: Job> JobHandle<T> {
    pub(crate) fn new(store: Store, document: JobDocument, job: T) -> Self {
        Self {
            store,
            document,
            job,
            envelope: Document::new(),
        }
    }

    /// The handle of a document that was read from `store`.
    ///
    /// # Errors
    /// [`Error::Undecodable`] when the document does not fit the struct.
    pub fn decode(store: Store, document: JobDocument) -> Result<Self> {
        let job = decode(T::DEFINITION, document.as_document())?;
        Ok(Self::new(store, document, job))
    }

    /// The id.
    pub fn id(&self) -> ObjectId {
        self.document.id()
    }

    /// The state when the job was last read.
    pub fn state(&self) -> State {
        self.document.state()
    }

    /// The last failure.
    pub fn exception(&self) -> Option<JobFailure> {
        self.document.exception()
    }

    /// The document when it was last read: the envelope and the stored fields.
    pub fn document(&self) -> &JobDocument {
        &self.document
    }

    /// The struct, given away.
    pub fn into_job(self) -> T {
        self.job
    }

    /// The state that the concern `C` keeps on the job, such as the failed attempts that
    /// [`Retry`](crate::Retry) notes.
    ///
    /// # Errors
    /// When the kind has no such concern, or the document's fields do not fit.
    pub fn concern<C: Concern>(&self) -> Result<C::State> {
        decode_state(concern_of::<C>(T::DEFINITION)?, self.document.as_document())
    }

    /// Changes the priority, 1 to 100; [`save`](Self::save) writes it.
    pub fn set_priority(&mut self, priority: u8) {
        self.envelope.insert(name::PRIORITY, i32::from(priority));
    }

    /// Changes the description; [`save`](Self::save) writes it.
    pub fn set_description(&mut self, description: Option<String>) {
        self.envelope.insert(name::DESCRIPTION, description);
    }

    /// Changes when the job may start; [`save`](Self::save) writes it.
    pub fn set_run_at(&mut self, run_at: Option<Timestamp>) {
        self.envelope.insert(name::RUN_AT, run_at.map(date));
    }

    /// Changes when the job expires; [`save`](Self::save) writes it.
    pub fn set_expires_at(&mut self, expires_at: Option<Timestamp>) {
        self.envelope.insert(name::EXPIRES_AT, expires_at.map(date));
    }

    /// Changes from which level on the job's log lines are kept; [`save`](Self::save) writes it.
    pub fn set_log_level(&mut self, level: Option<LogLevel>) {
        self.envelope
            .insert(name::LOG_LEVEL, level.map(LogLevel::as_str));
    }

    /// Writes the fields that were changed here, and no others.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a rule is broken, [`Error::NotFound`] when the job is gone,
    /// [`Error::Existing`] when another job holds the unique key that it would have then.
    pub async fn save(&mut self) -> Result<()> {
        let payload = encode(T::DEFINITION, &self.job)?;
        let stored = self.document.as_document();
        let mut change = payload_changes(T::DEFINITION, stored, &payload);
        change.add(differences(stored, &self.envelope));
        let mut after = self.document.as_document().clone();
        change.apply(&mut after);
        let after = JobDocument::new(after)?;
        validate(&self.job, &after, ValidationFailed::new())?;
        move_unique(T::DEFINITION, &self.document, &after, &mut change)?;
        if change.is_empty() {
            return Ok(());
        }
        self.document = if change.set.contains_key(name::RUN_AT) {
            self.reschedule(change, &after).await?
        } else {
            written(self.write(Guard::default(), change).await?, self.id())?
        };
        self.envelope.clear();
        Ok(())
    }

    /// A new `run_at` makes a queued job ready or scheduled; to others it is just a field.
    async fn reschedule(&self, change: Change, after: &JobDocument) -> Result<JobDocument> {
        loop {
            let mut queued = change.clone();
            let hold = hold_of(T::DEFINITION, after, self.store.now())?;
            transition::mark(&mut queued, after.run_at(), hold, self.store.now());
            match self.write(Guard::states([State::Queued]), queued).await? {
                Err(Refusal::State(_)) => {}
                outcome => return written(outcome, self.id()),
            }
            let others = State::ALL
                .into_iter()
                .filter(|state| *state != State::Queued);
            match self.write(Guard::states(others), change.clone()).await? {
                Err(Refusal::State(_)) => {}
                outcome => return written(outcome, self.id()),
            }
        }
    }

    async fn write(&self, guard: Guard, change: Change) -> Result<Result<JobDocument, Refusal>> {
        self.store
            .update(Patch {
                id: self.id(),
                guard,
                change,
            })
            .await
    }

    /// Reads the job again; changes that were not saved are lost.
    ///
    /// A job that vanished because it completed and is not kept reads as completed.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the job is kept on completion and yet gone.
    pub async fn reload(&mut self) -> Result<()> {
        let document = match self.store.get(self.id()).await? {
            Some(document) => document,
            None if self.document.destroy_on_complete() => {
                let mut change = Change::new();
                transition::complete(&mut change, self.store.now());
                let mut document = self.document.as_document().clone();
                change.apply(&mut document);
                JobDocument::new(document)?
            }
            None => return Err(Error::NotFound { id: self.id() }),
        };
        *self = Self::decode(self.store.clone(), document)?;
        Ok(())
    }

    /// Deletes the job, whatever its state; a worker that runs it finds its claim lost.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is gone already.
    pub async fn delete(self) -> Result<()> {
        let outcome = self.write(Guard::default(), Change::delete()).await?;
        written(outcome, self.id()).map(drop)
    }

    /// Lets a scheduled job start now. One that is not scheduled is left as it is.
    pub async fn run_now(&mut self) -> Result<()> {
        self.document = run_now(&self.store, self.id()).await?;
        Ok(())
    }

    /// Lets a failed job wait for a worker again.
    ///
    /// # Errors
    /// [`Error::WrongState`] when it has not failed, [`Error::Existing`] when another job holds its
    /// unique key.
    pub async fn retry(&mut self) -> Result<()> {
        self.steer(Transition::Retry, None).await
    }

    /// Stops the job for now; a running one only when its kind is pausable.
    pub async fn pause(&mut self) -> Result<()> {
        self.steer(Transition::Pause, None).await
    }

    /// Lets a paused job go on.
    pub async fn resume(&mut self) -> Result<()> {
        self.steer(Transition::Resume, None).await
    }

    /// Gives the job up for good. A worker that runs it is told, and its outcome is refused.
    pub async fn abort(&mut self) -> Result<()> {
        self.steer(Transition::Abort, None).await
    }

    /// Fails the job with a message.
    pub async fn fail(&mut self, message: impl Into<String>) -> Result<()> {
        self.steer(Transition::Fail, Some(JobFailure::message(message)))
            .await
    }

    async fn steer(&mut self, transition: Transition, failure: Option<JobFailure>) -> Result<()> {
        self.document = steer(
            &self.store,
            Some(T::DEFINITION),
            self.id(),
            transition,
            failure,
        )
        .await?;
        self.job = decode(T::DEFINITION, self.document.as_document())?;
        Ok(())
    }
}

/// Makes a transition that was asked for from outside, and returns the job after it.
///
/// Without the definition (a kind that this program does not know) no concern is asked, and a
/// running job may not be paused.
///
/// # Errors
/// [`Error::WrongState`] when the state machine does not allow it, [`Error::NotFound`], and
/// [`Error::Existing`] when the job would become active while another holds its unique key.
pub async fn steer(
    store: &Store,
    definition: Option<&'static Definition>,
    id: ObjectId,
    transition: Transition,
    failure: Option<JobFailure>,
) -> Result<JobDocument> {
    let pausable = definition.is_some_and(|definition| definition.pausable);
    let allowed = sources(transition, pausable);
    loop {
        let job = store.get(id).await?.ok_or(Error::NotFound { id })?;
        if !allowed.contains(&job.state()) {
            return Err(Error::WrongState {
                id,
                from: job.state(),
                transition,
            });
        }
        let change = steered(definition, &job, transition, failure.as_ref(), store.now())?;
        let concerns = definition
            .map(|definition| definition.concerns)
            .unwrap_or_default();
        // What was read decides what is written: whoever changed the state in between wins.
        let guard = Guard {
            states: vec![job.state()],
            claim: None,
            matching: None,
        };
        let has_successors = change.set.contains_key(name::SUCCESSORS);
        match store.update(Patch { id, guard, change }).await? {
            Ok(after) => {
                tracing::info!(%id, kind = after.kind(), %transition, from = %job.state(), "steered");
                if job.state() == State::Running {
                    give_places_on(store, &job).await;
                }
                if has_successors {
                    follow(store, id).await;
                }
                for concern in concerns
                    .iter()
                    .filter(|concern| concern.observes(transition))
                {
                    concern.after_transition(transition, &after).await;
                }
                return Ok(after);
            }
            Err(Refusal::State(_) | Refusal::ClaimLost) => {}
            Err(Refusal::NotFound) => return Err(Error::NotFound { id }),
            Err(Refusal::Existing(existing)) => {
                return Err(Error::Existing {
                    reason: unique_reason(&job),
                    existing,
                });
            }
        }
    }
}

/// Gives the places on that `job` had while it ran.
pub(crate) async fn give_places_on(store: &Store, job: &JobDocument) {
    for (key, count) in places([job]) {
        if let Err(error) = store.release(&Limit::hold(&key), count).await {
            let error = error.chain();
            tracing::warn!(key, error, "cannot give places on: the sweep will");
        }
    }
}

/// Creates the successors of a job that was steered, or leaves it to the servers' sweep.
pub(crate) async fn follow(store: &Store, id: ObjectId) {
    if let Err(error) = create_successors(&**store, id).await {
        tracing::warn!(%id, error = error.chain(), "cannot create successors: a server will");
    }
}

/// What a transition that was asked for from outside writes to `job`; concerns may add to it, or
/// refuse it.
pub(crate) fn steered(
    definition: Option<&'static Definition>,
    job: &JobDocument,
    transition: Transition,
    failure: Option<&JobFailure>,
    now: Timestamp,
) -> Result<Change> {
    let mut change = Change::new();
    match transition {
        Transition::Retry => {
            let hold = held(definition, job, now)?;
            transition::retry(&mut change, job, hold.clone(), now);
            put_off(definition, job, &mut change, hold, now)?;
        }
        Transition::Resume => {
            let hold = held(definition, job, now)?;
            transition::resume(&mut change, job, hold.clone(), now);
            put_off(definition, job, &mut change, hold, now)?;
        }
        Transition::Pause => transition::pause(&mut change, job, now),
        Transition::Abort => transition::abort(&mut change, job, now),
        Transition::Requeue => transition::requeue(&mut change, job, now),
        Transition::Fail => {
            let failure = failure
                .cloned()
                .unwrap_or_else(|| JobFailure::message("failed by hand"));
            transition::fail(&mut change, job, failure, now);
        }
        Transition::Start | Transition::Complete => {
            return Err(Error::configuration(format!(
                "a job may not {transition} from outside: only a worker does"
            )));
        }
    }
    for concern in definition
        .map(|definition| definition.concerns)
        .unwrap_or_default()
    {
        concern.before_transition(transition, job, &mut change)?;
    }
    if let Some(definition) = definition {
        let mut successors = Vec::new();
        conclude(
            definition,
            job,
            transition,
            now,
            &mut successors,
            &mut change,
        )?;
        put_successors(&mut change, job, successors);
    }
    Ok(change)
}

/// Lets a scheduled job start now, and returns the job after it.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn run_now(store: &Store, id: ObjectId) -> Result<JobDocument> {
    let scheduled =
        Guard::states([State::Queued]).matching(Filter::eq(name::HOLD, name::HOLD_SCHEDULED));
    let change = Change::new()
        .set(name::RUN_AT, Bson::Null)
        .set(name::READY, true)
        .unset(name::HOLD);
    match store
        .update(Patch {
            id,
            guard: scheduled,
            change,
        })
        .await?
    {
        Ok(job) => Ok(job),
        Err(_) => store.get(id).await?.ok_or(Error::NotFound { id }),
    }
}

/// Lets a job that becomes queued wait as long as its concerns want it to.
fn put_off(
    definition: Option<&'static Definition>,
    job: &JobDocument,
    change: &mut Change,
    hold: Option<String>,
    now: Timestamp,
) -> Result<()> {
    let Some(definition) = definition else {
        return Ok(());
    };
    let run_at = due_of(definition, job, job.run_at(), now)?;
    if run_at != job.run_at() {
        change.put(name::RUN_AT, run_at.map(date));
        transition::mark(change, run_at, hold, now);
    }
    Ok(())
}

fn held(
    definition: Option<&'static Definition>,
    job: &JobDocument,
    now: Timestamp,
) -> Result<Option<String>> {
    definition.map_or(Ok(None), |definition| hold_of(definition, job, now))
}

/// The `run_at` of a job that becomes queued: its own, or a later one before which its concerns do
/// not let it start.
pub(crate) fn due_of(
    definition: &Definition,
    job: &JobDocument,
    run_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<Option<Timestamp>> {
    let wanted = run_at.map_or(now, |run_at| run_at.max(now));
    let mut due = wanted;
    for concern in definition.concerns {
        due = concern
            .not_before(job, due)?
            .map_or(due, |time| time.max(due));
    }
    Ok(if due > wanted { Some(due) } else { run_at })
}

pub(crate) fn hold_of(
    definition: &Definition,
    job: &JobDocument,
    now: Timestamp,
) -> Result<Option<String>> {
    for concern in definition.concerns {
        if let Some(hold) = concern.hold(job, now)? {
            return Ok(Some(hold));
        }
    }
    Ok(None)
}

pub(crate) fn written(outcome: Result<JobDocument, Refusal>, id: ObjectId) -> Result<JobDocument> {
    outcome.map_err(|refusal| match refusal {
        Refusal::NotFound => Error::NotFound { id },
        Refusal::Existing(existing) => Error::Existing {
            reason: "another job holds its unique key".into(),
            existing,
        },
        Refusal::State(_) | Refusal::ClaimLost => Error::ClaimLost { id },
    })
}
