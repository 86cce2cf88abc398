//! What `perform` knows of the job that it works on.

use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use bson::{Bson, Document, oid::ObjectId};
use parking_lot::Mutex;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{
    change::{Change, Guard, Patch, Refusal, Settled},
    claim::Claim,
    clock::{Clock as _, SystemClock},
    concern::{Concern, concern_of, decode_state, encode_state, write_changes},
    conclusion::put_successors,
    definition::{Definition, LogLevel},
    document::JobDocument,
    encoding,
    error::{Error, Result},
    failure::{JobError, JobFailure, JobResult, Wish},
    job::Job,
    name,
    restart::next_instance,
    store::Store,
    successor::{create_others, create_successors, successor_id},
    trace::Trace,
    version::{is_other, upgrade_stored, upgraded},
};

/// The application's own state, shared by all jobs of a process, by type.
///
/// ```
/// use rocketjob_core::Shared;
///
/// struct Pool(&'static str);
///
/// let shared = Shared::new().with(Pool("replica"));
/// assert_eq!(shared.get::<Pool>().unwrap().0, "replica");
/// assert!(shared.get::<String>().is_none());
/// ```
#[derive(Clone, Default)]
pub struct Shared {
    values: HashMap<TypeId, (&'static str, Arc<dyn Any + Send + Sync>)>,
}

impl Shared {
    /// Nothing shared.
    pub fn new() -> Self {
        Self::default()
    }

    /// Shares `value`; one value of each type.
    #[must_use]
    pub fn with<T: Any + Send + Sync>(mut self, value: T) -> Self {
        self.values
            .insert(TypeId::of::<T>(), (type_name::<T>(), Arc::new(value)));
        self
    }

    /// The value of this type.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let (_, value) = self.values.get(&TypeId::of::<T>())?;
        Arc::clone(value).downcast().ok()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.values.values().map(|(name, _)| name))
            .finish()
    }
}

/// Why running code was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cancelled {
    /// The server stops: whatever is not finished is handed back.
    Shutdown,
    /// The claim is gone: the job was paused, aborted, deleted, requeued or taken over.
    ClaimLost,
    /// The server could not show in time that it is alive: others may take its jobs over.
    ServerLapsed,
    /// The job takes longer than its kind's timeout.
    TimedOut,
}

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shutdown => "the server stops",
            Self::ClaimLost => "the claim on the job is lost",
            Self::ServerLapsed => "the server could not show that it is alive",
            Self::TimedOut => "the job takes longer than its timeout",
        })
    }
}

/// Says at any moment whether a server may still act on a claim: it could show in time that it is
/// alive, and is still who made the claim.
pub type Validity = Arc<dyn Fn() -> bool + Send + Sync>;

/// The job that `perform` works on: who it is, whether it should go on, and how far it is.
///
/// Cloning it costs nothing, so that tasks which the job starts can have it.
#[derive(Clone)]
pub struct JobContext {
    inner: Arc<Inner>,
}

/// Asked right before a job's own code: whether it may begin.
type Gate = Box<dyn FnOnce() -> bool + Send>;

struct Inner {
    document: JobDocument,
    definition: &'static Definition,
    claim: Option<Claim>,
    store: Option<Store>,
    shared: Shared,
    validity: Option<Validity>,
    token: CancellationToken,
    reason: Mutex<Option<Cancelled>>,
    percent: AtomicU8,
    /// What is to be written with the outcome.
    change: Mutex<Change>,
    /// The document as it stands after what was saved on the way; nothing was yet when absent.
    saved: Mutex<Option<Document>>,
    gate: Mutex<Option<Gate>>,
}

impl fmt::Debug for JobContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobContext")
            .field("id", &self.id())
            .field("kind", &self.kind())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}

impl JobContext {
    /// The context of a job that no store holds. For who performs jobs without a server: a test.
    pub fn new(document: JobDocument, definition: &'static Definition, shared: Shared) -> Self {
        Self::build(document, definition, shared, None)
    }

    /// The context of a job that a server has claimed from `store`, and may work on as long as
    /// `validity` says so.
    pub fn claimed(
        document: JobDocument,
        definition: &'static Definition,
        shared: Shared,
        store: Store,
        validity: Validity,
    ) -> Self {
        Self::build(document, definition, shared, Some((store, validity)))
    }

    fn build(
        document: JobDocument,
        definition: &'static Definition,
        shared: Shared,
        claimed: Option<(Store, Validity)>,
    ) -> Self {
        let percent = u8::try_from(document.percent_complete())
            .unwrap_or(0)
            .min(100);
        let (store, validity) = claimed.unzip();
        Self {
            inner: Arc::new(Inner {
                claim: document.claim(),
                document,
                definition,
                store,
                shared,
                validity,
                token: CancellationToken::new(),
                reason: Mutex::new(None),
                percent: AtomicU8::new(percent),
                change: Mutex::new(Change::new()),
                saved: Mutex::default(),
                gate: Mutex::default(),
            }),
        }
    }

    /// The job's id.
    pub fn id(&self) -> ObjectId {
        self.inner.document.id()
    }

    /// The kind under which the job was stored; an alias for jobs of a renamed kind.
    pub fn kind(&self) -> &str {
        self.inner.document.kind()
    }

    /// Which attempt this is, from 1. What was handed back or lost does not count.
    pub fn attempt(&self) -> u64 {
        u64::try_from(self.inner.document.failure_count()).unwrap_or(0) + 1
    }

    /// The worker's name.
    pub fn worker_name(&self) -> &str {
        self.inner.document.worker_name().unwrap_or_default()
    }

    /// From which level on the job's log lines are kept, where the job says so.
    pub fn log_level(&self) -> Option<LogLevel> {
        self.inner.document.log_level()
    }

    /// The trace that the job continues.
    pub fn trace(&self) -> Option<Trace> {
        self.inner.document.trace()
    }

    /// The document as it was claimed.
    pub fn document(&self) -> &JobDocument {
        &self.inner.document
    }

    /// What is known of the kind.
    pub fn definition(&self) -> &'static Definition {
        self.inner.definition
    }

    /// The store from which the job came, to create further jobs in; none in `perform_now`.
    pub fn store(&self) -> Option<&Store> {
        self.inner.store.as_ref()
    }

    /// The application's own state of type `T`.
    ///
    /// # Errors
    /// Fails the job when the server was started without it; the message names the type.
    pub fn shared<T: Any + Send + Sync>(&self) -> JobResult<Arc<T>> {
        self.inner.shared.get().ok_or_else(|| {
            JobError::from(format!(
                "no shared `{}`: start the server with `.shared(…)` of that type",
                type_name::<T>()
            ))
        })
    }

    /// Says how far the job is, 0 to 100; more counts as 100. Costs nothing: it is written with
    /// the outcome, and every second before.
    pub fn progress(&self, percent: u8) {
        self.inner
            .percent
            .store(percent.min(100), Ordering::Relaxed);
    }

    /// How far the job is, 0 to 100.
    pub fn percent_complete(&self) -> u8 {
        self.inner.percent.load(Ordering::Relaxed)
    }

    /// Whether the job should stop.
    ///
    /// It looks at the server's lease too: while this says `false`, nobody else can have been given
    /// the job. So whatever was done before such a look was done under a valid claim.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled_for().is_some()
    }

    /// Returns when the job should stop.
    pub async fn cancelled(&self) {
        self.inner.token.cancelled().await;
    }

    /// A check point: an error for `?` when the job should stop. The claim is then handed back
    /// without using up an attempt; after a timeout the job fails.
    pub fn check(&self) -> JobResult {
        match self.cancelled_for() {
            None => Ok(()),
            Some(reason) => Err(JobError::stopped(reason)),
        }
    }

    /// Why the job should stop, if it should.
    pub fn cancelled_for(&self) -> Option<Cancelled> {
        let validity = self.inner.validity.as_ref();
        if validity.is_some_and(|is_valid| !is_valid()) {
            self.cancel(Cancelled::ServerLapsed);
        }
        *self.inner.reason.lock()
    }

    /// Tells the running code to stop. For who runs jobs.
    pub fn cancel(&self, reason: Cancelled) {
        self.inner.reason.lock().get_or_insert(reason);
        self.inner.token.cancel();
    }

    /// Writes the job's changed fields and its progress now, and not only with the outcome.
    ///
    /// Without a store (`perform_now`) there is nothing to do.
    ///
    /// # Errors
    /// [`Error::ClaimLost`] when the job is no longer this worker's: nothing was written, and the
    /// code should stop. [`Error::Unstorable`] when the struct does not serialize.
    pub async fn save<J: Job + Serialize>(&self, job: &J) -> Result<()> {
        let (Some(store), Some(claim)) = (self.store(), self.inner.claim.clone()) else {
            return Ok(());
        };
        let payload = encoding::encode(self.inner.definition, job)?;
        let mut change = self.payload_changes(&payload);
        change.put(name::PERCENT_COMPLETE, i32::from(self.percent_complete()));
        let patch = Patch {
            id: self.id(),
            guard: Guard::claimed(claim),
            change,
        };
        match store.settle(vec![patch.clone()]).await?.first() {
            Some(Settled::Accepted) => {
                let mut saved = self.inner.saved.lock();
                let stored = saved.get_or_insert_with(|| self.document().as_document().clone());
                patch.change.apply(stored);
                Ok(())
            }
            Some(Settled::Refused(Refusal::NotFound | Refusal::ClaimLost | Refusal::State(_)))
            | None => {
                self.cancel(Cancelled::ClaimLost);
                Err(Error::ClaimLost { id: self.id() })
            }
            Some(Settled::Refused(Refusal::Existing(existing))) => Err(Error::Existing {
                reason: "its unique key is in use".into(),
                existing: *existing,
            }),
        }
    }

    /// Writes `change` now, under the claim, and creates `successors` because of it: exactly once,
    /// also when the process dies in between. For concerns that go on before `perform` does.
    ///
    /// Without a store (`perform_now`) nothing is written.
    ///
    /// # Errors
    /// [`Error::ClaimLost`] when the job is no longer this worker's: nothing was written. After any
    /// other error the code should hand the claim back.
    pub async fn go_on_with(&self, successors: Vec<JobDocument>, mut change: Change) -> Result<()> {
        let (Some(store), Some(claim)) = (self.store(), self.inner.claim.clone()) else {
            return Ok(());
        };
        let written = change.clone();
        put_successors(&mut change, self.document(), successors);
        let (id, guard) = (self.id(), Guard::claimed(claim));
        let settled = store.settle(vec![Patch { id, guard, change }]).await?;
        if settled.first() != Some(&Settled::Accepted) {
            self.cancel(Cancelled::ClaimLost);
            return Err(Error::ClaimLost { id });
        }
        self.note(written);
        create_successors(&**store, id).await
    }

    /// What has been written is written once more with the outcome, so that whoever asks for a state
    /// sees it.
    fn note(&self, written: Change) {
        let mut change = self.inner.change.lock();
        for (field, value) in written.set {
            change.put(field, value);
        }
        for field in written.unset {
            change.take(field);
        }
    }

    /// A new instance of the job, with the fields that are copied on restart as they stand in the
    /// document, and with `overrides`; `None` when the job has expired. Nothing is stored: see
    /// [`go_on_with`](Self::go_on_with).
    ///
    /// # Errors
    /// Those of a new job whose concerns' states do not fit.
    pub fn restarted(&self, overrides: &Document) -> Result<Option<JobDocument>> {
        let now = match self.store() {
            Some(store) => store.now(),
            None => SystemClock.now(),
        };
        let mut document = self.document().as_document().clone();
        self.inner.change.lock().apply(&mut document);
        let id = successor_id(self.id(), now, 0);
        next_instance(self.definition(), &document, id, now, overrides)
    }

    /// Lets `gate` decide at the last moment, before the job's own code, whether it begins; otherwise
    /// its claim is handed back. For those who perform jobs.
    pub fn ask_before_code(&self, gate: impl FnOnce() -> bool + Send + 'static) {
        *self.inner.gate.lock() = Some(Box::new(gate));
    }

    /// The job's own code comes next.
    pub(crate) fn begin(&self) -> JobResult {
        let gate = self.inner.gate.lock().take();
        if gate.is_none_or(|gate| gate()) {
            return Ok(());
        }
        let message = "the job was stopped before it began, until the time for it was over";
        Err(JobError::new(Wish::HandBack, JobFailure::message(message)))
    }

    /// Creates successors that an earlier claim on the job has left uncreated.
    ///
    /// Of a job that goes when it completes nothing would be left to tell that it has been there: so
    /// before it begins, the one that it follows on forgets it, or it could be created again.
    pub(crate) async fn finish_successors(&self) -> Result<()> {
        let Some(store) = self.store() else {
            return Ok(());
        };
        if let Some(Bson::ObjectId(before)) = self.document().get(name::FOLLOWS) {
            create_others(&**store, *before, Some(self.id())).await?;
        }
        if self.document().get(name::SUCCESSORS).is_some() {
            create_successors(&**store, self.id()).await?;
        }
        Ok(())
    }

    /// The state that the concern `C` keeps on the job.
    ///
    /// # Errors
    /// When the kind has no such concern, or the document's fields do not fit.
    pub fn concern<C: Concern>(&self) -> Result<C::State> {
        let concern = self.find_concern::<C>()?;
        let mut document = self.inner.document.as_document().clone();
        self.inner.change.lock().apply(&mut document);
        decode_state(concern, &document)
    }

    /// Changes the state that the concern `C` keeps on the job: what differs is written with the
    /// outcome.
    ///
    /// # Errors
    /// When the kind has no such concern, or its state cannot be read or does not serialize.
    pub fn set_concern<C: Concern>(&self, state: &C::State) -> Result<()> {
        let concern = self.find_concern::<C>()?;
        let before = encode_state(concern, &self.concern::<C>()?)?;
        let after = encode_state(concern, state)?;
        // What is the same may have been changed in the store by a write whose answer was lost.
        write_changes(&mut self.inner.change.lock(), &before, after);
        Ok(())
    }

    fn find_concern<C: Concern>(&self) -> Result<&'static C> {
        concern_of(self.inner.definition)
    }

    /// The fields of `payload` that differ from what the store has.
    fn payload_changes(&self, payload: &Document) -> Change {
        let saved = self.inner.saved.lock();
        let stored = saved.as_ref().unwrap_or(self.document().as_document());
        payload_changes(self.inner.definition, stored, payload)
    }

    /// What is to be written with the outcome besides the outcome itself: the fields that `perform`
    /// changed, the concerns' states, the progress.
    pub(crate) fn changes(&self, payload: Option<&Document>) -> Change {
        let mut change = self.inner.change.lock().clone();
        if let Some(payload) = payload {
            change.add(self.payload_changes(payload));
        }
        let percent = self.percent_complete();
        if i64::from(percent) != self.inner.document.percent_complete() {
            change.put(name::PERCENT_COMPLETE, i32::from(percent));
        }
        change
    }
}

/// The fields of `payload` that differ from those in `stored`. One that was never set stays absent.
/// Where an earlier version of the kind wrote them, they become those of the present one.
pub(crate) fn payload_changes(
    definition: &Definition,
    stored: &Document,
    payload: &Document,
) -> Change {
    if is_other(definition, stored) {
        let mut change = upgrade_stored(definition, stored);
        let upgraded = upgraded(definition, stored);
        change.add(differences(&upgraded, payload));
        return change;
    }
    differences(stored, payload)
}

/// The fields of `wanted` that differ from those in `stored`. One that was never set stays absent.
pub(crate) fn differences(stored: &Document, wanted: &Document) -> Change {
    let mut change = Change::new();
    for (field, value) in wanted {
        let before = stored.get(field);
        let absent = before.is_none() && *value == bson::Bson::Null;
        if before != Some(value) && !absent {
            change.put(field, value.clone());
        }
    }
    change
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use bson::doc;

    use super::*;
    use crate::{MemoryStore, State};

    #[test]
    fn a_look_at_the_context_is_a_look_at_the_lease() {
        static DEFINITION: Definition = Definition::new("Some", "Some");
        let document = JobDocument::new(doc! {
            name::ID: ObjectId::new(), name::KIND: "Some", name::STATE: State::Running.as_str(),
        });
        let valid = Arc::new(AtomicBool::new(true));
        let seen = Arc::clone(&valid);
        let context = JobContext::claimed(
            document.unwrap(),
            &DEFINITION,
            Shared::new(),
            Store::new(MemoryStore::new()),
            Arc::new(move || seen.load(Ordering::SeqCst)),
        );
        assert!(!context.is_cancelled());
        assert!(context.check().is_ok());
        // Nobody has told the context yet.
        valid.store(false, Ordering::SeqCst);
        assert!(context.check().is_err());
        assert_eq!(context.cancelled_for(), Some(Cancelled::ServerLapsed));
        // What was told once stays told.
        valid.store(true, Ordering::SeqCst);
        assert!(context.is_cancelled());
    }
}
