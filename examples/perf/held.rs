//! A store whose claims can be held up, so that servers which are up already begin at once, and
//! which counts its calls.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bson::oid::ObjectId;
use jiff::Timestamp;
use rocketjob::{
    Bells, ClaimRequest, Claimed, Event, EventCursor, EventStore, Filter, Insertion, InspectStore,
    Inspection, JobDocument, JobSet, JobStore, LimitStore, Openings, Patch, Query, ReadFrom,
    Refusal, Result, ServerDocument, ServerState, ServerStore, SetAside, Settled, State, Store,
    StoredLimit,
};
use tokio::sync::watch;

/// A decorator of any store. Cloning it gives another handle on the same one.
#[derive(Debug, Clone)]
pub(crate) struct Held(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    is_held: AtomicBool,
    /// How often claims were let go: a bell of its own.
    let_go: watch::Sender<u64>,
    calls: AtomicU64,
}

impl Held {
    pub(crate) fn new(store: Store, is_held: bool) -> Self {
        Self(Arc::new(Inner {
            store,
            is_held: AtomicBool::new(is_held),
            let_go: watch::Sender::new(0),
            calls: AtomicU64::new(0),
        }))
    }

    /// From now on claims find nothing, or what there is.
    pub(crate) fn hold(&self, hold: bool) {
        self.0.is_held.store(hold, Ordering::Release);
        if !hold {
            self.0.let_go.send_modify(|count| *count += 1);
        }
    }

    /// How often the store was called so far.
    pub(crate) fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::Relaxed)
    }

    fn store(&self) -> &Store {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        &self.0.store
    }
}

#[async_trait]
impl JobStore for Held {
    fn now(&self) -> Timestamp {
        self.0.store.now()
    }

    fn next_id(&self) -> ObjectId {
        self.0.store.next_id()
    }

    fn address(&self) -> String {
        self.0.store.address()
    }

    async fn insert(&self, jobs: Vec<JobDocument>) -> Result<Vec<Insertion>> {
        self.store().insert(jobs).await
    }

    /// While claims are held up it asks for a kind that nobody has: the store is asked all the same,
    /// and how long it takes to answer is nothing new to the server when the claims are let go.
    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claimed> {
        if !self.0.is_held.load(Ordering::Acquire) {
            return self.store().claim(request).await;
        }
        let nothing = ["PerfNothing".to_owned()];
        let held = ClaimRequest {
            kinds: &nothing,
            ..*request
        };
        self.store().claim(&held).await
    }

    async fn settle(&self, patches: Vec<Patch>) -> Result<Vec<Settled>> {
        self.store().settle(patches).await
    }

    async fn update(&self, patch: Patch) -> Result<Result<JobDocument, Refusal>> {
        self.store().update(patch).await
    }

    async fn update_and_insert(
        &self,
        patch: Patch,
        jobs: Vec<JobDocument>,
    ) -> Result<Result<Vec<Insertion>, Refusal>> {
        self.store().update_and_insert(patch, jobs).await
    }

    async fn promote(&self, limit: usize) -> Result<u64> {
        self.store().promote(limit).await
    }

    async fn release(&self, hold: &str, count: usize) -> Result<u64> {
        self.store().release(hold, count).await
    }

    async fn next_held(&self, after: &str) -> Result<Option<JobDocument>> {
        self.store().next_held(after).await
    }

    async fn claims_of(
        &self,
        server: ObjectId,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<JobDocument>> {
        self.store().claims_of(server, after, limit).await
    }

    async fn next_claim(&self, after: &str) -> Result<Option<JobDocument>> {
        self.store().next_claim(after).await
    }

    async fn next_kind(&self, after: &str) -> Result<Option<String>> {
        self.store().next_kind(after).await
    }

    async fn get(&self, id: ObjectId) -> Result<Option<JobDocument>> {
        self.store().get(id).await
    }

    async fn find(&self, query: &Query) -> Result<Vec<JobDocument>> {
        self.store().find(query).await
    }

    async fn count(&self, filter: &Filter, read_from: ReadFrom) -> Result<u64> {
        self.store().count(filter, read_from).await
    }

    async fn count_by_state(
        &self,
        filter: &Filter,
        read_from: ReadFrom,
    ) -> Result<BTreeMap<State, u64>> {
        self.store().count_by_state(filter, read_from).await
    }

    async fn delete(&self, filter: &Filter) -> Result<u64> {
        self.store().delete(filter).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        self.store().next_due().await
    }

    fn bells(&self) -> Bells {
        let bells = self.0.store.bells();
        Bells {
            ready: bells.ready.wrapping_add(*self.0.let_go.borrow()),
            ..bells
        }
    }

    async fn work_ready(&self, known: Bells) -> Bells {
        let mut let_go = self.0.let_go.subscribe();
        let before = *let_go.borrow_and_update();
        let known = Bells {
            ready: known.ready.wrapping_sub(before),
            ..known
        };
        tokio::select! {
            biased;
            // The sender lives as long as `self`.
            _ = let_go.changed() => {}
            _ = self.0.store.work_ready(known) => {}
        }
        self.bells()
    }

    fn hears_others(&self) -> bool {
        self.0.store.hears_others()
    }

    fn openings(&self) -> &Openings {
        self.0.store.openings()
    }
}

#[async_trait]
impl ServerStore for Held {
    async fn insert_server(&self, server: &ServerDocument) -> Result<()> {
        self.store().insert_server(server).await
    }

    async fn heartbeat(&self, id: ObjectId, workers: u32) -> Result<Option<ServerDocument>> {
        self.store().heartbeat(id, workers).await
    }

    async fn set_server_state(
        &self,
        id: ObjectId,
        from: &[ServerState],
        to: ServerState,
    ) -> Result<bool> {
        self.store().set_server_state(id, from, to).await
    }

    async fn set_max_workers(&self, id: ObjectId, max_workers: u32) -> Result<bool> {
        self.store().set_max_workers(id, max_workers).await
    }

    async fn servers(&self) -> Result<Vec<ServerDocument>> {
        self.store().servers().await
    }

    async fn remove_server(&self, id: ObjectId) -> Result<bool> {
        self.store().remove_server(id).await
    }

    async fn declare_dead(&self, id: ObjectId, counter: u64) -> Result<bool> {
        self.store().declare_dead(id, counter).await
    }
}

#[async_trait]
impl InspectStore for Held {
    async fn inspect(&self) -> Result<Inspection> {
        self.store().inspect().await
    }

    async fn count_set(&self, set: &JobSet, at_most: u64) -> Result<u64> {
        self.store().count_set(set, at_most).await
    }

    async fn first_ready(
        &self,
        kind: &str,
        priorities: RangeInclusive<i64>,
        at_most: usize,
    ) -> Result<Vec<JobDocument>> {
        self.store().first_ready(kind, priorities, at_most).await
    }

    async fn undecodable(&self, at_most: usize) -> Result<Vec<SetAside>> {
        self.store().undecodable(at_most).await
    }
}

#[async_trait]
impl LimitStore for Held {
    async fn limit(&self, key: &str) -> Result<Option<StoredLimit>> {
        self.store().limit(key).await
    }

    async fn swap_limit(&self, previous: Option<ObjectId>, limit: &StoredLimit) -> Result<bool> {
        self.store().swap_limit(previous, limit).await
    }

    async fn due_limits(&self, limit: usize) -> Result<Vec<StoredLimit>> {
        self.store().due_limits(limit).await
    }

    async fn any_running(&self, kind: &str) -> Result<bool> {
        self.store().any_running(kind).await
    }
}

#[async_trait]
impl EventStore for Held {
    async fn publish(&self, event: &Event) -> Result<()> {
        self.store().publish(event).await
    }

    async fn event_end(&self) -> Result<EventCursor> {
        self.store().event_end().await
    }

    async fn events(&self, after: &EventCursor, limit: usize) -> Result<(Vec<Event>, EventCursor)> {
        self.store().events(after, limit).await
    }

    fn event_bells(&self) -> u64 {
        self.store().event_bells()
    }

    async fn event_published(&self, known: u64) -> u64 {
        self.store().event_published(known).await
    }

    fn hears_events(&self) -> bool {
        self.store().hears_events()
    }
}
