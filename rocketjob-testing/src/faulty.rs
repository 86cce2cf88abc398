//! A store that fails when a test says so.

use std::{collections::BTreeMap, fmt, ops::RangeInclusive, pin::Pin, sync::Arc};

use async_trait::async_trait;
use bson::oid::ObjectId;
use jiff::Timestamp;
use parking_lot::Mutex;
use rocketjob_core::{
    Bells, ClaimRequest, Claimed, Error, Event, EventCursor, EventStore, Filter, Insertion,
    InspectStore, Inspection, JobDocument, JobSet, JobStore, LimitStore, Openings, Patch, Query,
    ReadFrom, Refusal, Result, ServerDocument, ServerState, ServerStore, SetAside, Settled, State,
    Store, StoredLimit,
};

/// A call that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is the method of the same name")]
pub enum Call {
    Insert,
    Claim,
    Settle,
    Update,
    UpdateAndInsert,
    Promote,
    Release,
    NextHeld,
    ClaimsOf,
    NextClaim,
    NextKind,
    NextDue,
    Get,
    Find,
    Count,
    CountByState,
    Delete,
    Limit,
    SwapLimit,
    DueLimits,
    AnyRunning,
    InsertServer,
    Heartbeat,
    SetServerState,
    SetMaxWorkers,
    Servers,
    RemoveServer,
    DeclareDead,
    Inspect,
    Publish,
    EventEnd,
    Events,
}

/// When a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The store never hears of it: the request was lost.
    Before,
    /// The store has done it, and nobody hears of that: the answer was lost.
    After,
}

/// A decorator of any store whose calls fail as scripted; all others go through. Cloning it gives
/// another handle on the same script.
///
/// A failed call yields [`Error::Unavailable`], as when a network breaks.
///
/// ```
/// # use rocketjob_core::{JobStore, MemoryStore, Store};
/// # use rocketjob_testing::{Call, Fault, Faulty, job};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = Store::new(MemoryStore::new());
/// let faulty = Faulty::new(&store);
/// faulty.fail_next(Call::Insert, Fault::After);
/// let job = job("A").build(&store);
/// assert!(faulty.insert(vec![job.clone()]).await.unwrap_err().is_transient());
/// assert!(store.get(job.id()).await.unwrap().is_some());
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct Faulty {
    inner: Store,
    script: Arc<Mutex<Script>>,
    openings: Arc<Openings>,
}

#[derive(Default)]
struct Script {
    faults: Vec<(Call, Fault)>,
    others: Vec<(Call, Act)>,
    outage: bool,
    silence: bool,
    calls: BTreeMap<Call, usize>,
}

type Act = Pin<Box<dyn Future<Output = ()> + Send>>;

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script")
            .field("faults", &self.faults)
            .field("outage", &self.outage)
            .field("calls", &self.calls)
            .finish_non_exhaustive()
    }
}

impl Faulty {
    /// Decorates `store`; nothing fails yet.
    pub fn new(store: &Store) -> Self {
        Self {
            inner: store.clone(),
            script: Arc::default(),
            openings: Arc::default(),
        }
    }

    /// The next `call` that has no fault yet fails. Said twice, the next two fail.
    pub fn fail_next(&self, call: Call, fault: Fault) {
        self.script.lock().faults.push((call, fault));
    }

    /// Before the store hears of the next `call`, `act` happens: another process was faster.
    pub fn before_next(&self, call: Call, act: impl Future<Output = ()> + Send + 'static) {
        self.script.lock().others.push((call, Box::pin(act)));
    }

    /// From now on all calls fail before the store hears of them, or none except those scripted.
    pub fn set_outage(&self, outage: bool) {
        self.script.lock().outage = outage;
    }

    /// From now on no call is ever answered, nor does the store hear of any; or all are again.
    pub fn set_silence(&self, silence: bool) {
        self.script.lock().silence = silence;
    }

    /// How often `call` was made so far, failed or not.
    pub fn calls(&self, call: Call) -> usize {
        self.script.lock().calls.get(&call).copied().unwrap_or(0)
    }

    /// How many scripted faults have not happened yet.
    pub fn pending(&self) -> usize {
        self.script.lock().faults.len()
    }

    fn fault(&self, call: Call) -> Option<Fault> {
        let mut script = self.script.lock();
        *script.calls.entry(call).or_insert(0) += 1;
        if script.outage {
            return Some(Fault::Before);
        }
        let place = script.faults.iter().position(|(other, _)| *other == call)?;
        Some(script.faults.remove(place).1)
    }

    fn other(&self, call: Call) -> Option<Act> {
        let others = &mut self.script.lock().others;
        let place = others.iter().position(|(other, _)| *other == call)?;
        Some(others.remove(place).1)
    }

    async fn through<T>(
        &self,
        call: Call,
        act: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        if let Some(other) = self.other(call) {
            other.await;
        }
        let fault = self.fault(call);
        if self.script.lock().silence {
            std::future::pending::<()>().await;
        }
        match fault {
            None => act.await,
            Some(Fault::Before) => Err(self.unavailable("the request was lost")),
            Some(Fault::After) => {
                act.await?;
                Err(self.unavailable("the answer was lost"))
            }
        }
    }

    fn unavailable(&self, what: &str) -> Error {
        Error::Unavailable {
            address: self.inner.address(),
            source: what.into(),
        }
    }
}

#[async_trait]
impl JobStore for Faulty {
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
        self.through(Call::Insert, self.inner.insert(jobs)).await
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claimed> {
        self.through(Call::Claim, self.inner.claim(request)).await
    }

    async fn settle(&self, patches: Vec<Patch>) -> Result<Vec<Settled>> {
        self.through(Call::Settle, self.inner.settle(patches)).await
    }

    async fn update(&self, patch: Patch) -> Result<Result<JobDocument, Refusal>> {
        self.through(Call::Update, self.inner.update(patch)).await
    }

    async fn update_and_insert(
        &self,
        patch: Patch,
        jobs: Vec<JobDocument>,
    ) -> Result<Result<Vec<Insertion>, Refusal>> {
        let written = self.inner.update_and_insert(patch, jobs);
        self.through(Call::UpdateAndInsert, written).await
    }

    async fn promote(&self, limit: usize) -> Result<u64> {
        self.through(Call::Promote, self.inner.promote(limit)).await
    }

    async fn release(&self, hold: &str, count: usize) -> Result<u64> {
        self.through(Call::Release, self.inner.release(hold, count))
            .await
    }

    async fn next_held(&self, after: &str) -> Result<Option<JobDocument>> {
        self.through(Call::NextHeld, self.inner.next_held(after))
            .await
    }

    async fn claims_of(
        &self,
        server: ObjectId,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<JobDocument>> {
        self.through(Call::ClaimsOf, self.inner.claims_of(server, after, limit))
            .await
    }

    async fn next_claim(&self, after: &str) -> Result<Option<JobDocument>> {
        self.through(Call::NextClaim, self.inner.next_claim(after))
            .await
    }

    async fn next_kind(&self, after: &str) -> Result<Option<String>> {
        self.through(Call::NextKind, self.inner.next_kind(after))
            .await
    }

    async fn get(&self, id: ObjectId) -> Result<Option<JobDocument>> {
        self.through(Call::Get, self.inner.get(id)).await
    }

    async fn find(&self, query: &Query) -> Result<Vec<JobDocument>> {
        self.through(Call::Find, self.inner.find(query)).await
    }

    async fn count(&self, filter: &Filter, read_from: ReadFrom) -> Result<u64> {
        self.through(Call::Count, self.inner.count(filter, read_from))
            .await
    }

    async fn count_by_state(
        &self,
        filter: &Filter,
        read_from: ReadFrom,
    ) -> Result<BTreeMap<State, u64>> {
        let counts = self.inner.count_by_state(filter, read_from);
        self.through(Call::CountByState, counts).await
    }

    async fn delete(&self, filter: &Filter) -> Result<u64> {
        self.through(Call::Delete, self.inner.delete(filter)).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        self.through(Call::NextDue, self.inner.next_due()).await
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
        &self.openings
    }
}

#[async_trait]
impl ServerStore for Faulty {
    async fn insert_server(&self, server: &ServerDocument) -> Result<()> {
        self.through(Call::InsertServer, self.inner.insert_server(server))
            .await
    }

    async fn heartbeat(&self, id: ObjectId, workers: u32) -> Result<Option<ServerDocument>> {
        self.through(Call::Heartbeat, self.inner.heartbeat(id, workers))
            .await
    }

    async fn set_server_state(
        &self,
        id: ObjectId,
        from: &[ServerState],
        to: ServerState,
    ) -> Result<bool> {
        let changed = self.inner.set_server_state(id, from, to);
        self.through(Call::SetServerState, changed).await
    }

    async fn set_max_workers(&self, id: ObjectId, max_workers: u32) -> Result<bool> {
        let changed = self.inner.set_max_workers(id, max_workers);
        self.through(Call::SetMaxWorkers, changed).await
    }

    async fn servers(&self) -> Result<Vec<ServerDocument>> {
        self.through(Call::Servers, self.inner.servers()).await
    }

    async fn remove_server(&self, id: ObjectId) -> Result<bool> {
        self.through(Call::RemoveServer, self.inner.remove_server(id))
            .await
    }

    async fn declare_dead(&self, id: ObjectId, counter: u64) -> Result<bool> {
        self.through(Call::DeclareDead, self.inner.declare_dead(id, counter))
            .await
    }
}

#[async_trait]
impl InspectStore for Faulty {
    async fn inspect(&self) -> Result<Inspection> {
        self.through(Call::Inspect, self.inner.inspect()).await
    }

    async fn count_set(&self, set: &JobSet, at_most: u64) -> Result<u64> {
        self.through(Call::Inspect, self.inner.count_set(set, at_most))
            .await
    }

    async fn first_ready(
        &self,
        kind: &str,
        priorities: RangeInclusive<i64>,
        at_most: usize,
    ) -> Result<Vec<JobDocument>> {
        self.through(
            Call::Inspect,
            self.inner.first_ready(kind, priorities, at_most),
        )
        .await
    }

    async fn undecodable(&self, at_most: usize) -> Result<Vec<SetAside>> {
        self.through(Call::Inspect, self.inner.undecodable(at_most))
            .await
    }
}

#[async_trait]
impl LimitStore for Faulty {
    async fn limit(&self, key: &str) -> Result<Option<StoredLimit>> {
        self.through(Call::Limit, self.inner.limit(key)).await
    }

    async fn swap_limit(&self, previous: Option<ObjectId>, limit: &StoredLimit) -> Result<bool> {
        self.through(Call::SwapLimit, self.inner.swap_limit(previous, limit))
            .await
    }

    async fn due_limits(&self, limit: usize) -> Result<Vec<StoredLimit>> {
        self.through(Call::DueLimits, self.inner.due_limits(limit))
            .await
    }

    async fn any_running(&self, kind: &str) -> Result<bool> {
        self.through(Call::AnyRunning, self.inner.any_running(kind))
            .await
    }
}

#[async_trait]
impl EventStore for Faulty {
    async fn publish(&self, event: &Event) -> Result<()> {
        self.through(Call::Publish, self.inner.publish(event)).await
    }

    async fn event_end(&self) -> Result<EventCursor> {
        self.through(Call::EventEnd, self.inner.event_end()).await
    }

    async fn events(&self, after: &EventCursor, limit: usize) -> Result<(Vec<Event>, EventCursor)> {
        self.through(Call::Events, self.inner.events(after, limit))
            .await
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
