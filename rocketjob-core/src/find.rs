//! Looking for jobs of a kind.

use std::{collections::BTreeMap, marker::PhantomData};

use bson::{Bson, oid::ObjectId};

use crate::{
    document::JobDocument,
    encoding::date,
    error::Result,
    filter::{Cursor, Filter, Query, ReadFrom, Sort},
    handle::JobHandle,
    job::Job,
    name,
    state::State,
    store::{AsStore, Store},
};

/// How many jobs stand where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateCounts {
    /// Jobs by state; states without any are left out.
    pub by_state: BTreeMap<State, u64>,
    /// Of the queued ones: those that wait for a worker.
    pub queued_now: u64,
    /// Of the queued ones: those whose time has not come.
    pub scheduled: u64,
}

impl StateCounts {
    /// How many are in `state`.
    pub fn get(&self, state: State) -> u64 {
        self.by_state.get(&state).copied().unwrap_or(0)
    }
}

/// A search for jobs of the kind of `T`, aliases included, built step by step.
#[derive(Debug)]
pub struct JobQuery<T> {
    store: Store,
    query: Query,
    job: PhantomData<fn() -> T>,
}

impl<T> Clone for JobQuery<T> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            query: self.query.clone(),
            job: PhantomData,
        }
    }
}

impl<T: Job> JobQuery<T> {
    /// All jobs of the kind, in the order of arrival, at most [`DEFAULT_LIMIT`](crate::DEFAULT_LIMIT).
    pub fn new(store: &impl AsStore) -> Self {
        let query = Query::new(Filter::kinds(T::DEFINITION.names()));
        Self {
            store: store.as_store(),
            query,
            job: PhantomData,
        }
    }

    /// Only jobs that meet `filter` as well.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.query.filter = self.query.filter.and(filter);
        self
    }

    /// Only jobs whose stored `field` equals `value`.
    #[must_use]
    pub fn field(self, field: &str, value: impl Into<Bson>) -> Self {
        self.filter(Filter::eq(field, value))
    }

    /// Only jobs in `state`.
    #[must_use]
    pub fn state(self, state: State) -> Self {
        self.filter(Filter::state(state))
    }

    /// Only jobs of this priority.
    #[must_use]
    pub fn priority(self, priority: u8) -> Self {
        self.filter(Filter::eq(name::PRIORITY, i32::from(priority)))
    }

    /// Only queued jobs whose time has not come.
    #[must_use]
    pub fn scheduled(self) -> Self {
        let later = Filter::gt(name::RUN_AT, date(self.store.now()));
        self.state(State::Queued).filter(later)
    }

    /// Only queued jobs whose time has come.
    #[must_use]
    pub fn queued_now(self) -> Self {
        let due =
            Filter::missing(name::RUN_AT).or(Filter::lte(name::RUN_AT, date(self.store.now())));
        self.state(State::Queued).filter(due)
    }

    /// In which order.
    #[must_use]
    pub fn sort(mut self, sort: Sort) -> Self {
        self.query.sort = sort;
        self
    }

    /// The last first.
    #[must_use]
    pub fn descending(mut self) -> Self {
        self.query.descending = true;
        self
    }

    /// How many at most.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.query.limit = limit;
        self
    }

    /// Only what follows on `job` in the order: the next page after its last job.
    #[must_use]
    pub fn after(mut self, job: &JobDocument) -> Self {
        let value = job
            .get(self.query.sort.field())
            .cloned()
            .unwrap_or(Bson::Null);
        self.query.after = Some(Cursor {
            value,
            id: job.id(),
        });
        self
    }

    /// From which members of a replica set lists and counts may be read.
    #[must_use]
    pub fn read_from(mut self, read_from: ReadFrom) -> Self {
        self.query.read_from = read_from;
        self
    }

    /// The jobs.
    ///
    /// # Errors
    /// [`Error::Undecodable`](crate::Error::Undecodable) when one does not fit the struct;
    /// [`documents`](Self::documents) reads those too.
    pub async fn list(self) -> Result<Vec<JobHandle<T>>> {
        let documents = self.store.find(&self.query).await?;
        documents
            .into_iter()
            .map(|document| JobHandle::decode(self.store.clone(), document))
            .collect()
    }

    /// The jobs, undecoded.
    pub async fn documents(self) -> Result<Vec<JobDocument>> {
        self.store.find(&self.query).await
    }

    /// The first job.
    pub async fn first(self) -> Result<Option<JobHandle<T>>> {
        Ok(self.limit(1).list().await?.into_iter().next())
    }

    /// How many there are, whatever the limit.
    pub async fn count(self) -> Result<u64> {
        self.store
            .count(&self.query.filter, self.query.read_from)
            .await
    }

    /// How many there are in each state, whatever the limit.
    pub async fn count_by_state(self) -> Result<StateCounts> {
        let Query {
            filter, read_from, ..
        } = &self.query;
        let by_state = self.store.count_by_state(filter, *read_from).await?;
        let queued = by_state.get(&State::Queued).copied().unwrap_or(0);
        let scheduled = if queued > 0 {
            self.clone().scheduled().count().await?.min(queued)
        } else {
            0
        };
        Ok(StateCounts {
            by_state,
            queued_now: queued - scheduled,
            scheduled,
        })
    }

    /// Deletes the jobs, whatever the limit, except running ones, and says how many.
    pub async fn delete_all(self) -> Result<u64> {
        self.store.delete(&self.query.filter).await
    }
}

/// What every kind of job can be asked for.
#[expect(
    async_fn_in_trait,
    reason = "implemented for every job here, and nowhere else"
)]
pub trait FindJob: Job {
    /// A search for jobs of this kind.
    fn query(store: &impl AsStore) -> JobQuery<Self> {
        JobQuery::new(store)
    }

    /// The job with this id, if it is of this kind.
    ///
    /// # Errors
    /// [`Error::Undecodable`](crate::Error::Undecodable) when it does not fit the struct.
    async fn find(store: &impl AsStore, id: ObjectId) -> Result<Option<JobHandle<Self>>> {
        let store = store.as_store();
        match store.get(id).await? {
            Some(job) if Self::DEFINITION.names().any(|kind| kind == job.kind()) => {
                JobHandle::decode(store, job).map(Some)
            }
            _ => Ok(None),
        }
    }
}

impl<T: Job> FindJob for T {}
