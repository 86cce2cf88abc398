//! Valid job documents with few words.

use bson::{Bson, Document, doc, oid::ObjectId};
use jiff::Timestamp;
use rocketjob_core::{Insertion, JobDocument, State, Store, date, name};

/// A queued job of this kind that is ready, as a producer inserts it.
pub fn job(kind: impl Into<String>) -> JobBuilder {
    JobBuilder {
        fields: doc! {
            name::STATE: State::Queued.as_str(),
            name::FAILURE_COUNT: 0,
            name::PERCENT_COMPLETE: 0,
            name::PRIORITY: 50,
            name::DESTROY_ON_COMPLETE: true,
            name::KIND: kind.into(),
            name::READY: true,
        },
    }
}

/// Makes a job's document; see [`job`].
#[derive(Debug, Clone)]
pub struct JobBuilder {
    fields: Document,
}

impl JobBuilder {
    /// Any field, of the envelope or the job's own.
    #[must_use]
    pub fn set(mut self, field: &str, value: impl Into<Bson>) -> Self {
        self.fields.insert(field, value);
        self
    }

    /// Without this field.
    #[must_use]
    pub fn unset(mut self, field: &str) -> Self {
        self.fields.remove(field);
        self
    }

    /// With this id, instead of the store's next one.
    #[must_use]
    pub fn id(self, id: ObjectId) -> Self {
        self.set(name::ID, id)
    }

    /// 1 (first) to 100 (last).
    #[must_use]
    pub fn priority(self, priority: i32) -> Self {
        self.set(name::PRIORITY, priority)
    }

    /// The document stays when the job completes.
    #[must_use]
    pub fn keep(self) -> Self {
        self.set(name::DESTROY_ON_COMPLETE, false)
    }

    /// In another state than queued, and not ready.
    #[must_use]
    pub fn state(self, state: State) -> Self {
        self.unset(name::READY).set(name::STATE, state.as_str())
    }

    /// Not ready, and why.
    #[must_use]
    pub fn held(self, hold: &str) -> Self {
        self.unset(name::READY).set(name::HOLD, hold)
    }

    /// Held until `run_at`.
    #[must_use]
    pub fn scheduled(self, run_at: Timestamp) -> Self {
        self.held(name::HOLD_SCHEDULED)
            .set(name::RUN_AT, date(run_at))
    }

    /// Without any mark of ours, as the original queues it.
    #[must_use]
    pub fn unmarked(self) -> Self {
        self.unset(name::READY).unset(name::HOLD)
    }

    /// Unique among queued and running jobs.
    #[must_use]
    pub fn unique(self, key: &str) -> Self {
        self.set(name::UNIQUE_KEY, key)
    }

    /// Unique among unfinished jobs.
    #[must_use]
    pub fn unfinished(self, key: &str) -> Self {
        self.set(name::UNFINISHED_KEY, key)
    }

    /// The document, with the store's next id and time. Not yet inserted.
    pub fn document(self, store: &Store) -> Document {
        let id = match self.fields.get(name::ID) {
            Some(id) => id.clone(),
            None => Bson::ObjectId(store.next_id()),
        };
        let mut document = doc! { name::ID: id, name::CREATED_AT: date(store.now()) };
        document.extend(self.fields);
        document
    }

    /// The job, with the store's next id and time. Not yet inserted.
    pub fn build(self, store: &Store) -> JobDocument {
        JobDocument::new(self.document(store)).expect("the factory makes valid jobs")
    }

    /// The job, inserted.
    pub async fn insert(self, store: &Store) -> JobDocument {
        let job = self.build(store);
        let insertions = store.insert(vec![job.clone()]).await.unwrap();
        assert_eq!(insertions, [Insertion::Inserted]);
        job
    }
}

/// Inserts jobs at once, all of which must be new, and tells their ids in the same order.
pub async fn insert_all(
    store: &Store,
    jobs: impl IntoIterator<Item = JobBuilder>,
) -> Vec<ObjectId> {
    let jobs: Vec<JobDocument> = jobs.into_iter().map(|job| job.build(store)).collect();
    let ids = jobs.iter().map(JobDocument::id).collect();
    let count = jobs.len();
    let insertions = store.insert(jobs).await.unwrap();
    assert_eq!(insertions, vec![Insertion::Inserted; count]);
    ids
}
