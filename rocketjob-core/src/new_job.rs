//! A job on its way into a store.

use std::time::Duration;

use bson::{Bson, Document, doc, oid::ObjectId};
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use tracing::{Instrument as _, Span, field};

use crate::{
    change::{Change, Insertion},
    clock::{Clock, IdSource, SystemClock, later},
    concern::{Concern, encode_state},
    conclusion::Saving,
    context::{JobContext, Shared},
    creation::{Created, Placed, place},
    definition::{Definition, LogLevel},
    document::JobDocument,
    encoding::{date, encode, integer},
    error::{Error, Result, ValidationFailed},
    handle::{JobHandle, due_of},
    job::{Job, Perform},
    name, perform,
    span::PerformSpan,
    state::State,
    storage::JobStore,
    store::{AsStore, Store},
    trace::{Trace, current_trace},
    transition,
    unique::mark_unique,
    version::FIRST_VERSION,
};

/// The worker name of a job that is performed in place; the original's.
const INLINE_WORKER: &str = "inline:0:0";

/// How many jobs of `create_many` go to the store in one call.
const INSERT_GROUP: usize = 1000;
/// How many such calls are open at once, so that the store never waits for the next. Where jobs have
/// unique keys it is one, since of two with the same key the first is to win.
const INSERTS_AT_ONCE: usize = 2;

/// A job with what is to be said of it besides its own fields. Made by the methods of
/// [`CreateJob`], which every job has.
#[derive(Debug, Clone)]
pub struct NewJob<T> {
    job: T,
    id: Option<ObjectId>,
    envelope: Document,
    concerns: Vec<(&'static str, Document)>,
    problems: ValidationFailed,
}

impl<T: Job> From<T> for NewJob<T> {
    fn from(job: T) -> Self {
        Self {
            job,
            id: None,
            envelope: Document::new(),
            concerns: Vec::new(),
            problems: ValidationFailed::new(),
        }
    }
}

impl<T: Job> NewJob<T> {
    fn with(mut self, field: &str, value: impl Into<Bson>) -> Self {
        self.envelope.insert(field, value);
        self
    }

    /// What is said of it besides its own fields, by stored names.
    pub(crate) fn with_envelope(mut self, envelope: Document) -> Self {
        self.envelope.extend(envelope);
        self
    }

    /// 1 (first) to 100 (last), in place of the kind's priority.
    #[must_use]
    pub fn priority(self, priority: u8) -> Self {
        self.with(name::PRIORITY, i32::from(priority))
    }

    /// Free text for people.
    #[must_use]
    pub fn description(self, description: impl Into<String>) -> Self {
        self.with(name::DESCRIPTION, description.into())
    }

    /// Not to be started before `time`.
    #[must_use]
    pub fn run_at(self, time: Timestamp) -> Self {
        self.with(name::RUN_AT, date(time))
    }

    /// Not to be started after `time`: it is then discarded.
    #[must_use]
    pub fn expires_at(self, time: Timestamp) -> Self {
        self.with(name::EXPIRES_AT, date(time))
    }

    /// From which level on the job's own log lines are kept.
    #[must_use]
    pub fn log_level(self, level: LogLevel) -> Self {
        self.with(name::LOG_LEVEL, level.as_str())
    }

    /// Whether the job stays in the store when it completes.
    #[must_use]
    pub fn keep_completed(self, keep: bool) -> Self {
        self.with(name::DESTROY_ON_COMPLETE, !keep)
    }

    /// The group whose running jobs are counted together.
    #[must_use]
    pub fn throttle_group(self, group: impl Into<String>) -> Self {
        self.with(name::THROTTLE_GROUP, group.into())
    }

    /// The trace that the job continues, where the program has set no
    /// [`Propagator`](crate::Propagator) that knows the present one.
    #[must_use]
    pub fn trace(self, trace: Trace) -> Self {
        self.with(name::TRACE, trace)
    }

    /// The state that the concern `C` begins with, in place of the attribute's.
    #[must_use]
    pub fn concern<C: Concern>(mut self, state: &C::State) -> Self {
        let concerns = T::DEFINITION.concerns;
        match concerns
            .iter()
            .find_map(|concern| concern.as_any().downcast_ref::<C>())
        {
            None => {
                let wanted = std::any::type_name::<C>();
                self.problems.add(
                    wanted,
                    format!("is no concern of kind `{}`", T::DEFINITION.kind),
                );
            }
            Some(concern) => match encode_state(concern, state) {
                Ok(document) => self.concerns.push((Concern::name(concern), document)),
                Err(error) => self.problems.add(Concern::name(concern), error.to_string()),
            },
        }
        self
    }

    /// The job's own fields.
    pub fn job(&self) -> &T {
        &self.job
    }

    /// The document as it would be inserted into `store` now, validated.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a rule is broken, [`Error::Unstorable`] when the struct cannot be
    /// stored.
    pub fn prepare(&self, store: &(impl JobStore + ?Sized)) -> Result<JobDocument> {
        let id = self.id.unwrap_or_else(|| store.next_id());
        self.prepare_at(store.now(), id, current_trace())
    }

    pub(crate) fn prepare_at(
        &self,
        now: Timestamp,
        id: ObjectId,
        trace: Option<Trace>,
    ) -> Result<JobDocument> {
        let definition = T::DEFINITION;
        let mut document = doc! { name::ID: id, name::STATE: State::Queued.as_str() };
        document.extend(doc! { name::FAILURE_COUNT: 0, name::PERCENT_COMPLETE: 0 });
        document.extend(encode(definition, &self.job)?);
        if definition.version > FIRST_VERSION {
            document.insert(name::PAYLOAD_VERSION, integer(definition.version.into()));
        }
        for concern in definition.concerns {
            document.extend(concern.initial_state()?);
        }
        for (_, state) in &self.concerns {
            document.extend(state.clone());
        }
        document.insert(name::DESCRIPTION, definition.description);
        document.insert(name::PRIORITY, i32::from(definition.priority));
        document.insert(name::DESTROY_ON_COMPLETE, !definition.keep_completed);
        document.insert(name::CREATED_AT, date(now));
        document.insert(name::KIND, definition.kind);
        document.insert(name::LOG_LEVEL, definition.log_level.map(LogLevel::as_str));
        document.insert(
            name::EXPIRES_AT,
            definition
                .expires_in
                .map(|duration| date(later(now, duration))),
        );
        if let Some(trace) = trace {
            document.insert(name::TRACE, trace);
        }
        document.extend(self.envelope.clone());
        let job = before_save(definition, document, now)?;
        validate(&self.job, &job, self.problems.clone())?;
        marked(definition, job, now)
    }

    /// Stores the job.
    ///
    /// Where a server of this process has an idle worker for it, it is inserted as running and begins
    /// at once, without waiting to be found; see [`Openings`](crate::Openings).
    ///
    /// Where the kind is `#[unique]`, the handle may be that of a job which was there before;
    /// [`create_unique`](Self::create_unique) tells.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a rule is broken, [`Error::Existing`] when a job with its unique key
    /// is active and does not stand for it; nothing is stored then.
    pub async fn create(self, store: &impl AsStore) -> Result<JobHandle<T>> {
        Ok(self.create_unique(store).await?.into_job())
    }

    /// Stores the job, and tells whether it was inserted, or another one with the same unique key
    /// stands for it or gave it its place; see [`Unique`](crate::Unique).
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub async fn create_unique(self, store: &impl AsStore) -> Result<Created<T>> {
        let store = store.as_store();
        let id = self.id.unwrap_or_else(|| store.next_id());
        let span = tracing::info_span!("enqueue", kind = T::DEFINITION.kind, %id);
        self.insert(store, id).instrument(span).await
    }

    async fn insert(self, store: Store, id: ObjectId) -> Result<Created<T>> {
        let document = self.prepare_at(store.now(), id, current_trace())?;
        let taken = store.openings().take(&document)?;
        let sent = taken.as_ref().map_or(&document, |taken| taken.document());
        let outcomes = store.insert(vec![sent.clone()]).await?;
        let outcome = outcomes.first().copied().unwrap_or(Insertion::Inserted);
        let placed = match (taken, outcome) {
            (Some(taken), Insertion::Inserted) => {
                let document = taken.document().clone();
                taken.begin();
                Placed::Inserted(document)
            }
            // It was there before, under whatever claim: the server looks whether it is its own.
            (Some(taken), Insertion::Existing(existing)) if existing == id => {
                Placed::Inserted(taken.document().clone())
            }
            (taken, outcome) => {
                if let Some(taken) = taken {
                    taken.decline();
                }
                place(&store, T::DEFINITION, document, outcome).await?
            }
        };
        match &placed {
            Placed::Inserted(job) => tracing::debug!(id = %job.id(), kind = job.kind(), "created"),
            Placed::Existing(job) => {
                tracing::debug!(id = %job.id(), kind = job.kind(), "exists already");
            }
            Placed::Replaced(job) => tracing::debug!(id = %job.id(), kind = job.kind(), "replaced"),
        }
        placed.typed(store, self.job)
    }

    /// Performs the job here and now, without any store: no server, no database, no limits.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a rule is broken; [`Error::Failed`] with what `perform` returned, or
    /// with its panic.
    pub async fn perform_now(self) -> Result<PerformedJob<T>>
    where
        T: Perform,
    {
        self.perform_now_with(Shared::new()).await
    }

    /// Like [`perform_now`](Self::perform_now), with the application's own shared state.
    pub async fn perform_now_with(self, shared: Shared) -> Result<PerformedJob<T>>
    where
        T: Perform,
    {
        let clock = SystemClock;
        let id = self.id.unwrap_or_else(|| IdSource::new().next(clock.now()));
        let mut document = self.prepare_at(clock.now(), id, None)?.into_document();
        document.extend(doc! {
            name::STATE: State::Running.as_str(),
            name::STARTED_AT: date(clock.now()),
            name::WORKER_NAME: INLINE_WORKER,
        });
        document.remove(name::READY);
        document.remove(name::HOLD);
        let context = JobContext::new(JobDocument::new(document)?, T::DEFINITION, shared);
        let mut job = self.job;
        let span = PerformSpan::begin(&context);
        let performing = perform::perform(&mut job, &context).instrument(span.span().clone());
        let performed = performing.await;
        drop(span);
        let failure = performed
            .result
            .as_ref()
            .err()
            .map(|error| error.failure().clone());
        if let Some(failure) = failure {
            return Err(Error::Failed(failure));
        }
        let mut document = context.document().as_document().clone();
        let mut change = performed.change;
        transition::complete(&mut change, clock.now());
        change.apply(&mut document);
        Ok(PerformedJob {
            job,
            document: JobDocument::new(document)?,
        })
    }
}

/// A new document with what the concerns add to it.
fn before_save(definition: &Definition, document: Document, now: Timestamp) -> Result<JobDocument> {
    let mut job = JobDocument::new(document)?;
    for concern in definition.concerns {
        let mut change = Change::new();
        concern.before_save(&mut Saving {
            definition,
            before: None,
            job: &job,
            now,
            change: &mut change,
        })?;
        if !change.is_empty() {
            let mut document = job.into_document();
            change.apply(&mut document);
            job = JobDocument::new(document)?;
        }
    }
    // `None` is absent in a new document.
    let document = job.into_document().into_iter();
    JobDocument::new(document.filter(|(_, value)| *value != Bson::Null).collect())
}

/// The document of a new job, with what its concerns add and its marks.
pub(crate) fn completed_document(
    definition: &Definition,
    document: Document,
    now: Timestamp,
) -> Result<JobDocument> {
    marked(definition, before_save(definition, document, now)?, now)
}

/// Adds the marks of a new job: its unique keys, ready or held.
fn marked(definition: &Definition, job: JobDocument, now: Timestamp) -> Result<JobDocument> {
    let mut hold = None;
    let mut change = Change::new();
    mark_unique(definition, &job, &mut change)?;
    for concern in definition.concerns {
        hold = hold.or(concern.hold(&job, now)?);
    }
    let run_at = due_of(definition, &job, job.run_at(), now)?;
    if run_at != job.run_at() {
        change.put(name::RUN_AT, run_at.map(date));
    }
    transition::mark(&mut change, run_at, hold, now);
    let mut document = job.into_document();
    change.apply(&mut document);
    JobDocument::new(document)
}

/// Checks everything that a job's kind has to say against it.
pub(crate) fn validate<T: Job>(
    job: &T,
    document: &JobDocument,
    mut problems: ValidationFailed,
) -> Result<()> {
    validate_envelope(document, &mut problems);
    job.check_rules(&mut problems);
    for concern in T::DEFINITION.concerns {
        concern.validate(document, &mut problems);
    }
    problems.into_result()
}

/// What holds for every job, of whatever kind.
pub(crate) fn validate_envelope(document: &JobDocument, problems: &mut ValidationFailed) {
    if !(1..=100).contains(&document.priority()) {
        problems.add(
            name::PRIORITY,
            format!("must lie between 1 and 100, and is {}", document.priority()),
        );
    }
}

fn has_unique_key(document: &JobDocument) -> bool {
    [name::UNIQUE_KEY, name::UNFINISHED_KEY]
        .iter()
        .any(|key| document.get(key).is_some())
}

/// What a second holder of the job's unique key is told.
pub(crate) fn unique_reason(document: &JobDocument) -> String {
    match document.get(name::UNIQUE_REASON) {
        Some(Bson::String(reason)) => reason.clone(),
        _ => "another job holds its unique key".into(),
    }
}

/// A job that was performed in place. Dereferences to the struct.
#[derive(Debug, Clone)]
pub struct PerformedJob<T> {
    job: T,
    document: JobDocument,
}

impl<T> PerformedJob<T> {
    /// The document as a store would hold it now.
    pub fn document(&self) -> &JobDocument {
        &self.document
    }

    /// The struct, given away.
    pub fn into_job(self) -> T {
        self.job
    }
}

impl<T> std::ops::Deref for PerformedJob<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.job
    }
}

/// What every job can do before it is stored.
///
/// ```
/// # use rocketjob_core::{CreateJob, Job, JobHandle, MemoryStore, Result, after};
/// # use std::time::Duration;
/// /// Creates `job` for tomorrow, before others.
/// async fn create_for_tomorrow<J: Job>(job: J, store: &MemoryStore) -> Result<JobHandle<J>> {
///     let tomorrow = after(store, Duration::from_secs(24 * 60 * 60));
///     job.priority(5).run_at(tomorrow).create(store).await
/// }
/// ```
#[expect(
    async_fn_in_trait,
    reason = "implemented for every job here, and nowhere else"
)]
pub trait CreateJob: Job {
    /// See [`NewJob::priority`].
    fn priority(self, priority: u8) -> NewJob<Self> {
        NewJob::from(self).priority(priority)
    }

    /// See [`NewJob::description`].
    fn description(self, description: impl Into<String>) -> NewJob<Self> {
        NewJob::from(self).description(description)
    }

    /// See [`NewJob::run_at`].
    fn run_at(self, time: Timestamp) -> NewJob<Self> {
        NewJob::from(self).run_at(time)
    }

    /// See [`NewJob::expires_at`].
    fn expires_at(self, time: Timestamp) -> NewJob<Self> {
        NewJob::from(self).expires_at(time)
    }

    /// See [`NewJob::log_level`].
    fn log_level(self, level: LogLevel) -> NewJob<Self> {
        NewJob::from(self).log_level(level)
    }

    /// See [`NewJob::keep_completed`].
    fn keep_completed(self, keep: bool) -> NewJob<Self> {
        NewJob::from(self).keep_completed(keep)
    }

    /// See [`NewJob::throttle_group`].
    fn throttle_group(self, group: impl Into<String>) -> NewJob<Self> {
        NewJob::from(self).throttle_group(group)
    }

    /// See [`NewJob::trace`].
    fn trace(self, trace: Trace) -> NewJob<Self> {
        NewJob::from(self).trace(trace)
    }

    /// See [`NewJob::concern`].
    fn concern<C: Concern>(self, state: &C::State) -> NewJob<Self> {
        NewJob::from(self).concern::<C>(state)
    }

    /// See [`NewJob::create`].
    async fn create(self, store: &impl AsStore) -> Result<JobHandle<Self>> {
        NewJob::from(self).create(store).await
    }

    /// See [`NewJob::create_unique`].
    async fn create_unique(self, store: &impl AsStore) -> Result<Created<Self>> {
        NewJob::from(self).create_unique(store).await
    }

    /// See [`NewJob::perform_now`].
    async fn perform_now(self) -> Result<PerformedJob<Self>>
    where
        Self: Perform,
    {
        NewJob::from(self).perform_now().await
    }

    /// Stores many jobs of the kind in few round trips, in their order, and says for each what
    /// became of it: a handle, or [`Error::Existing`]. Unique keys are seen to as by
    /// [`create`](Self::create), job by job.
    ///
    /// # Errors
    /// [`Error::Invalid`] and [`Error::Unstorable`] before anything is stored. After an error of
    /// the store some jobs may be stored and others not.
    async fn create_many<J>(
        store: &impl AsStore,
        jobs: impl IntoIterator<Item = J>,
    ) -> Result<Vec<Result<JobHandle<Self>>>>
    where
        J: Into<NewJob<Self>>,
    {
        let kind = Self::DEFINITION.kind;
        let span = tracing::info_span!("enqueue", kind, jobs = field::Empty);
        insert_many(store.as_store(), jobs, &span)
            .instrument(span.clone())
            .await
    }
}

impl<T: Job> CreateJob for T {}

/// Stores the jobs in groups, in `span`.
async fn insert_many<T, J>(
    store: Store,
    jobs: impl IntoIterator<Item = J>,
    span: &Span,
) -> Result<Vec<Result<JobHandle<T>>>>
where
    T: Job,
    J: Into<NewJob<T>>,
{
    let trace = current_trace();
    let mut prepared = Vec::new();
    for job in jobs {
        let job: NewJob<T> = job.into();
        let id = job.id.unwrap_or_else(|| store.next_id());
        let document = job.prepare_at(store.now(), id, trace.clone())?;
        prepared.push((document, job.job));
    }
    span.record("jobs", prepared.len());
    let mut handles = Vec::with_capacity(prepared.len());
    let in_turn = prepared
        .iter()
        .any(|(document, _)| has_unique_key(document));
    let at_once = if in_turn { 1 } else { INSERTS_AT_ONCE };
    let mut rest = prepared.into_iter();
    let groups = std::iter::from_fn(|| {
        let group: Vec<_> = rest.by_ref().take(INSERT_GROUP).collect();
        (!group.is_empty()).then_some(group)
    });
    let inserts = groups.map(async |group| {
        let documents = group.iter().map(|(document, _)| document.clone()).collect();
        let outcomes = store.insert(documents).await?;
        Ok::<_, Error>(group.into_iter().zip(outcomes))
    });
    let mut inserts = stream::iter(inserts).buffered(at_once);
    while let Some(group) = inserts.try_next().await? {
        for ((document, job), outcome) in group {
            let placed = match place(&store, T::DEFINITION, document, outcome).await {
                Err(error) if !matches!(error, Error::Existing { .. }) => return Err(error),
                placed => placed,
            };
            let created = placed.and_then(|placed| placed.typed(store.clone(), job));
            handles.push(created.map(Created::into_job));
        }
    }
    Ok(handles)
}

/// How long after now, for `run_at` and `expires_at`, in the store's time.
pub fn after(store: &impl AsStore, duration: Duration) -> Timestamp {
    later(store.as_store().now(), duration)
}
