//! A deadline for every call of the store: none waits for ever.

use std::{collections::BTreeMap, future::Future, ops::RangeInclusive, time::Duration};

use async_trait::async_trait;
use bson::oid::ObjectId;
use jiff::Timestamp;
use rocketjob_core::{
    Bells, ClaimRequest, Claimed, Error, Event, EventCursor, EventStore, Filter, Insertion,
    InspectStore, Inspection, JobDocument, JobSet, JobStore, LimitStore, Openings, Patch, Query,
    ReadFrom, Refusal, Result, ServerDocument, ServerState, ServerStore, SetAside, Settled, State,
    Store, StoredLimit,
};

/// A store whose calls end in [`Error::Unavailable`] when they take longer than the deadline.
/// Whether such a call was made stays open, as with every error of a store.
#[derive(Debug)]
pub(crate) struct Deadline {
    inner: Store,
    at_most: Duration,
}

impl Deadline {
    pub(crate) fn new(inner: Store, at_most: Duration) -> Self {
        Self { inner, at_most }
    }

    async fn within<T>(&self, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        tokio::time::timeout(self.at_most, call)
            .await
            .unwrap_or_else(|_| {
                Err(Error::Unavailable {
                    address: self.inner.address(),
                    source: format!("no answer within {:?}", self.at_most).into(),
                })
            })
    }
}

#[async_trait]
impl JobStore for Deadline {
    fn now(&self) -> Timestamp {
        self.inner.now()
    }

    fn next_id(&self) -> ObjectId {
        self.inner.next_id()
    }

    fn address(&self) -> String {
        self.inner.address()
    }

    async fn insert(&self, jobs: Vec<JobDocument>) -> Result<Vec<Insertion>> {
        self.within(self.inner.insert(jobs)).await
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claimed> {
        self.within(self.inner.claim(request)).await
    }

    async fn settle(&self, patches: Vec<Patch>) -> Result<Vec<Settled>> {
        self.within(self.inner.settle(patches)).await
    }

    async fn update(&self, patch: Patch) -> Result<Result<JobDocument, Refusal>> {
        self.within(self.inner.update(patch)).await
    }

    async fn update_and_insert(
        &self,
        patch: Patch,
        jobs: Vec<JobDocument>,
    ) -> Result<Result<Vec<Insertion>, Refusal>> {
        self.within(self.inner.update_and_insert(patch, jobs)).await
    }

    async fn promote(&self, limit: usize) -> Result<u64> {
        self.within(self.inner.promote(limit)).await
    }

    async fn release(&self, hold: &str, count: usize) -> Result<u64> {
        self.within(self.inner.release(hold, count)).await
    }

    async fn next_held(&self, after: &str) -> Result<Option<JobDocument>> {
        self.within(self.inner.next_held(after)).await
    }

    async fn claims_of(
        &self,
        server: ObjectId,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<JobDocument>> {
        self.within(self.inner.claims_of(server, after, limit))
            .await
    }

    async fn next_claim(&self, after: &str) -> Result<Option<JobDocument>> {
        self.within(self.inner.next_claim(after)).await
    }

    async fn next_kind(&self, after: &str) -> Result<Option<String>> {
        self.within(self.inner.next_kind(after)).await
    }

    async fn get(&self, id: ObjectId) -> Result<Option<JobDocument>> {
        self.within(self.inner.get(id)).await
    }

    async fn find(&self, query: &Query) -> Result<Vec<JobDocument>> {
        self.within(self.inner.find(query)).await
    }

    async fn count(&self, filter: &Filter, read_from: ReadFrom) -> Result<u64> {
        self.within(self.inner.count(filter, read_from)).await
    }

    async fn count_by_state(
        &self,
        filter: &Filter,
        read_from: ReadFrom,
    ) -> Result<BTreeMap<State, u64>> {
        self.within(self.inner.count_by_state(filter, read_from))
            .await
    }

    async fn delete(&self, filter: &Filter) -> Result<u64> {
        self.within(self.inner.delete(filter)).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        self.within(self.inner.next_due()).await
    }

    fn bells(&self) -> Bells {
        self.inner.bells()
    }

    async fn work_ready(&self, known: Bells) -> Bells {
        self.inner.work_ready(known).await
    }

    fn hears_others(&self) -> bool {
        self.inner.hears_others()
    }

    fn openings(&self) -> &Openings {
        self.inner.openings()
    }
}

#[async_trait]
impl ServerStore for Deadline {
    async fn insert_server(&self, server: &ServerDocument) -> Result<()> {
        self.within(self.inner.insert_server(server)).await
    }

    async fn heartbeat(&self, id: ObjectId, workers: u32) -> Result<Option<ServerDocument>> {
        self.within(self.inner.heartbeat(id, workers)).await
    }

    async fn set_server_state(
        &self,
        id: ObjectId,
        from: &[ServerState],
        to: ServerState,
    ) -> Result<bool> {
        self.within(self.inner.set_server_state(id, from, to)).await
    }

    async fn set_max_workers(&self, id: ObjectId, max_workers: u32) -> Result<bool> {
        self.within(self.inner.set_max_workers(id, max_workers))
            .await
    }

    async fn servers(&self) -> Result<Vec<ServerDocument>> {
        self.within(self.inner.servers()).await
    }

    async fn remove_server(&self, id: ObjectId) -> Result<bool> {
        self.within(self.inner.remove_server(id)).await
    }

    async fn declare_dead(&self, id: ObjectId, counter: u64) -> Result<bool> {
        self.within(self.inner.declare_dead(id, counter)).await
    }
}

#[async_trait]
impl LimitStore for Deadline {
    async fn limit(&self, key: &str) -> Result<Option<StoredLimit>> {
        self.within(self.inner.limit(key)).await
    }

    async fn swap_limit(&self, previous: Option<ObjectId>, limit: &StoredLimit) -> Result<bool> {
        self.within(self.inner.swap_limit(previous, limit)).await
    }

    async fn due_limits(&self, limit: usize) -> Result<Vec<StoredLimit>> {
        self.within(self.inner.due_limits(limit)).await
    }

    async fn any_running(&self, kind: &str) -> Result<bool> {
        self.within(self.inner.any_running(kind)).await
    }
}

#[async_trait]
impl EventStore for Deadline {
    async fn publish(&self, event: &Event) -> Result<()> {
        self.within(self.inner.publish(event)).await
    }

    async fn event_end(&self) -> Result<EventCursor> {
        self.within(self.inner.event_end()).await
    }

    async fn events(&self, after: &EventCursor, limit: usize) -> Result<(Vec<Event>, EventCursor)> {
        self.within(self.inner.events(after, limit)).await
    }

    fn event_bells(&self) -> u64 {
        self.inner.event_bells()
    }

    async fn event_published(&self, known: u64) -> u64 {
        self.inner.event_published(known).await
    }

    fn hears_events(&self) -> bool {
        self.inner.hears_events()
    }
}

#[async_trait]
impl InspectStore for Deadline {
    async fn inspect(&self) -> Result<Inspection> {
        self.within(self.inner.inspect()).await
    }

    async fn count_set(&self, set: &JobSet, at_most: u64) -> Result<u64> {
        self.within(self.inner.count_set(set, at_most)).await
    }

    async fn first_ready(
        &self,
        kind: &str,
        priorities: RangeInclusive<i64>,
        at_most: usize,
    ) -> Result<Vec<JobDocument>> {
        self.within(self.inner.first_ready(kind, priorities, at_most))
            .await
    }

    async fn undecodable(&self, at_most: usize) -> Result<Vec<SetAside>> {
        self.within(self.inner.undecodable(at_most)).await
    }
}
