//! What lies between a simulated process and the store: requests and replies take their time, get
//! lost, or arrive when nobody waits for them any more.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bson::oid::ObjectId;
use futures_util::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use rocketjob_core::{
    Bells, ClaimRequest, Claimed, Error, Event, EventCursor, EventStore, Filter, Insertion,
    InspectStore, Inspection, JobDocument, JobSet, JobStore, LimitStore, Openings, Patch, Query,
    ReadFrom, Refusal, Registry, Result, ServerDocument, ServerState, ServerStore, SetAside,
    Settled, State, StoredLimit,
};
use rocketjob_worker::simulation::Process;
use tokio::{sync::oneshot, time::sleep};

use super::{ear::Ear, world::World};

/// How bad a network is, in percent of all calls.
#[derive(Debug, Default)]
pub(super) struct Weather {
    /// Requests or replies that get lost.
    pub(super) lost: AtomicU64,
    /// Requests that arrive seconds later.
    pub(super) late: AtomicU64,
    /// Calls at which the process dies when the store has acted.
    pub(super) deadly: AtomicU64,
}

/// One process's way to the store.
#[derive(Debug, Clone)]
pub(super) struct Network {
    pub(super) world: World,
    pub(super) number: usize,
    pub(super) process: Process,
    pub(super) weather: Arc<Weather>,
    pub(super) registry: Arc<Registry>,
    pub(super) ear: Arc<Ear>,
    pub(super) openings: Arc<Openings>,
}

impl Network {
    /// Sends a request. The store acts on it whatever becomes of the process meanwhile.
    async fn send<T: Send + 'static>(
        &self,
        call: &'static str,
        act: impl FnOnce(World) -> BoxFuture<'static, Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let this = self.clone();
        let chance = |weather: &AtomicU64| this.world.chance(weather.load(Ordering::Relaxed));
        let lost_request = chance(&this.weather.lost);
        let lost_reply = chance(&this.weather.lost);
        let late = chance(&this.weather.late);
        let deadly = chance(&this.weather.deadly) && this.world.chance(10);
        let there = Duration::from_millis(this.world.number(0..6));
        let back = Duration::from_millis(this.world.number(0..6));
        let more = Duration::from_millis(if late {
            this.world.number(100..6000)
        } else {
            0
        });
        let world = self.world.clone();
        tokio::task::spawn_local(async move {
            sleep(there + more).await;
            if lost_request {
                this.world
                    .note(|| format!("server {} {call}: request lost", this.number));
                let _ = reply.send(None);
                return;
            }
            let result = act(this.world.clone()).await;
            this.world
                .note(|| format!("server {} {call}{}", this.number, fate(lost_reply, late)));
            if deadly {
                this.world.note(|| format!("server {} dies", this.number));
                this.process.kill();
                return;
            }
            sleep(back).await;
            let _ = reply.send((!lost_reply).then_some(result));
        });
        match answer.await {
            Ok(Some(result)) => result,
            Ok(None) | Err(_) => Err(Error::Unavailable {
                address: world.store().address(),
                source: "the network broke".into(),
            }),
        }
    }
}

fn fate(lost_reply: bool, late: bool) -> &'static str {
    match (lost_reply, late) {
        (true, true) => ": late, reply lost",
        (true, false) => ": reply lost",
        (false, true) => ": late",
        (false, false) => "",
    }
}

#[async_trait]
impl JobStore for Network {
    fn now(&self) -> Timestamp {
        self.world.store().now()
    }

    fn next_id(&self) -> ObjectId {
        self.world.store().next_id()
    }

    fn address(&self) -> String {
        self.world.store().address()
    }

    async fn insert(&self, jobs: Vec<JobDocument>) -> Result<Vec<Insertion>> {
        self.send("insert", |world| {
            async move { world.insert(jobs).await }.boxed()
        })
        .await
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claimed> {
        let token = request.token;
        let workers = request.workers.to_vec();
        let kinds = request.kinds.to_vec();
        let filter = request.filter.cloned();
        let (count, skip, may_lag) = (request.count, request.skip, request.may_lag);
        let at_once = request.at_once;
        let registry = Arc::clone(&self.registry);
        self.send("claim", move |world| {
            async move {
                let request = ClaimRequest {
                    token,
                    workers: &workers,
                    count,
                    kinds: &kinds,
                    filter: filter.as_ref(),
                    skip,
                    may_lag,
                    at_once,
                    limits: &*registry,
                };
                world.claim(&request).await
            }
            .boxed()
        })
        .await
    }

    async fn settle(&self, patches: Vec<Patch>) -> Result<Vec<Settled>> {
        let process = self.number;
        self.send("settle", move |world| {
            async move { world.settle(process, patches).await }.boxed()
        })
        .await
    }

    async fn update(&self, patch: Patch) -> Result<Result<JobDocument, Refusal>> {
        self.send("update", |world| {
            async move { world.update(patch).await }.boxed()
        })
        .await
    }

    async fn update_and_insert(
        &self,
        patch: Patch,
        jobs: Vec<JobDocument>,
    ) -> Result<Result<Vec<Insertion>, Refusal>> {
        self.send("update and insert", |world| {
            async move { world.update_and_insert(patch, jobs).await }.boxed()
        })
        .await
    }

    async fn promote(&self, limit: usize) -> Result<u64> {
        self.send("promote", move |world| {
            async move { world.store().promote(limit).await }.boxed()
        })
        .await
    }

    async fn release(&self, hold: &str, count: usize) -> Result<u64> {
        let hold = hold.to_owned();
        self.send("release", move |world| {
            async move { world.store().release(&hold, count).await }.boxed()
        })
        .await
    }

    async fn next_held(&self, after: &str) -> Result<Option<JobDocument>> {
        let after = after.to_owned();
        self.send("next_held", move |world| {
            async move { world.store().next_held(&after).await }.boxed()
        })
        .await
    }

    async fn claims_of(
        &self,
        server: ObjectId,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<JobDocument>> {
        self.send("claims_of", move |world| {
            async move { world.store().claims_of(server, after, limit).await }.boxed()
        })
        .await
    }

    async fn next_claim(&self, after: &str) -> Result<Option<JobDocument>> {
        let after = after.to_owned();
        self.send("next_claim", move |world| {
            async move { world.store().next_claim(&after).await }.boxed()
        })
        .await
    }

    async fn next_kind(&self, after: &str) -> Result<Option<String>> {
        let after = after.to_owned();
        self.send("next_kind", move |world| {
            async move { world.store().next_kind(&after).await }.boxed()
        })
        .await
    }

    async fn get(&self, id: ObjectId) -> Result<Option<JobDocument>> {
        self.send("get", move |world| {
            async move { world.store().get(id).await }.boxed()
        })
        .await
    }

    async fn find(&self, query: &Query) -> Result<Vec<JobDocument>> {
        let query = query.clone();
        self.send("find", move |world| {
            async move { world.store().find(&query).await }.boxed()
        })
        .await
    }

    async fn count(&self, filter: &Filter, read_from: ReadFrom) -> Result<u64> {
        let filter = filter.clone();
        self.send("count", move |world| {
            async move { world.store().count(&filter, read_from).await }.boxed()
        })
        .await
    }

    async fn count_by_state(
        &self,
        filter: &Filter,
        read_from: ReadFrom,
    ) -> Result<BTreeMap<State, u64>> {
        let filter = filter.clone();
        self.send("count_by_state", move |world| {
            async move { world.store().count_by_state(&filter, read_from).await }.boxed()
        })
        .await
    }

    async fn delete(&self, filter: &Filter) -> Result<u64> {
        let filter = filter.clone();
        self.send("delete", move |world| {
            async move { world.store().delete(&filter).await }.boxed()
        })
        .await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        self.send("next_due", |world| {
            async move { world.store().next_due().await }.boxed()
        })
        .await
    }

    fn bells(&self) -> Bells {
        self.ear.rung()
    }

    async fn work_ready(&self, known: Bells) -> Bells {
        self.ear.wait(known).await
    }

    fn hears_others(&self) -> bool {
        self.ear.hears_others()
    }

    fn openings(&self) -> &Openings {
        &self.openings
    }
}

#[async_trait]
impl ServerStore for Network {
    async fn insert_server(&self, server: &ServerDocument) -> Result<()> {
        let server = server.clone();
        self.send("insert_server", |world| {
            async move { world.insert_server(&server).await }.boxed()
        })
        .await
    }

    async fn heartbeat(&self, id: ObjectId, workers: u32) -> Result<Option<ServerDocument>> {
        self.send("heartbeat", move |world| {
            async move { world.heartbeat(id, workers).await }.boxed()
        })
        .await
    }

    async fn set_server_state(
        &self,
        id: ObjectId,
        from: &[ServerState],
        to: ServerState,
    ) -> Result<bool> {
        let from = from.to_vec();
        self.send("set_server_state", move |world| {
            async move { world.store().set_server_state(id, &from, to).await }.boxed()
        })
        .await
    }

    async fn set_max_workers(&self, id: ObjectId, max_workers: u32) -> Result<bool> {
        self.send("set_max_workers", move |world| {
            async move { world.store().set_max_workers(id, max_workers).await }.boxed()
        })
        .await
    }

    async fn servers(&self) -> Result<Vec<ServerDocument>> {
        self.send("servers", |world| {
            async move { world.store().servers().await }.boxed()
        })
        .await
    }

    async fn remove_server(&self, id: ObjectId) -> Result<bool> {
        self.send("remove_server", move |world| {
            async move { world.store().remove_server(id).await }.boxed()
        })
        .await
    }

    async fn declare_dead(&self, id: ObjectId, counter: u64) -> Result<bool> {
        self.send("declare_dead", move |world| {
            async move { world.declare_dead(id, counter).await }.boxed()
        })
        .await
    }
}

#[async_trait]
impl LimitStore for Network {
    async fn limit(&self, key: &str) -> Result<Option<StoredLimit>> {
        let key = key.to_owned();
        self.send("limit", move |world| {
            async move { world.store().limit(&key).await }.boxed()
        })
        .await
    }

    async fn swap_limit(&self, previous: Option<ObjectId>, limit: &StoredLimit) -> Result<bool> {
        let limit = limit.clone();
        self.send("swap_limit", move |world| {
            async move { world.store().swap_limit(previous, &limit).await }.boxed()
        })
        .await
    }

    async fn due_limits(&self, limit: usize) -> Result<Vec<StoredLimit>> {
        self.send("due_limits", move |world| {
            async move { world.store().due_limits(limit).await }.boxed()
        })
        .await
    }

    async fn any_running(&self, kind: &str) -> Result<bool> {
        let kind = kind.to_owned();
        self.send("any_running", move |world| {
            async move { world.store().any_running(&kind).await }.boxed()
        })
        .await
    }
}

#[async_trait]
impl EventStore for Network {
    async fn publish(&self, event: &Event) -> Result<()> {
        let event = event.clone();
        self.send("publish", move |world| {
            async move { world.store().publish(&event).await }.boxed()
        })
        .await
    }

    async fn event_end(&self) -> Result<EventCursor> {
        self.send("event_end", |world| {
            async move { world.store().event_end().await }.boxed()
        })
        .await
    }

    async fn events(&self, after: &EventCursor, limit: usize) -> Result<(Vec<Event>, EventCursor)> {
        let after = after.clone();
        self.send("events", move |world| {
            async move { world.store().events(&after, limit).await }.boxed()
        })
        .await
    }

    fn event_bells(&self) -> u64 {
        self.world.store().event_bells()
    }

    async fn event_published(&self, known: u64) -> u64 {
        if self.ear.hears_others() {
            self.world.store().event_published(known).await
        } else {
            std::future::pending().await
        }
    }

    fn hears_events(&self) -> bool {
        self.ear.hears_others()
    }
}

#[async_trait]
impl InspectStore for Network {
    async fn inspect(&self) -> Result<Inspection> {
        self.send("inspect", |world| {
            async move { world.store().inspect().await }.boxed()
        })
        .await
    }

    async fn count_set(&self, set: &JobSet, at_most: u64) -> Result<u64> {
        let set = set.clone();
        self.send("count_set", move |world| {
            async move { world.store().count_set(&set, at_most).await }.boxed()
        })
        .await
    }

    async fn first_ready(
        &self,
        kind: &str,
        priorities: RangeInclusive<i64>,
        at_most: usize,
    ) -> Result<Vec<JobDocument>> {
        let kind = kind.to_owned();
        self.send("first_ready", move |world| {
            async move { world.store().first_ready(&kind, priorities, at_most).await }.boxed()
        })
        .await
    }

    async fn undecodable(&self, at_most: usize) -> Result<Vec<SetAside>> {
        self.send("undecodable", move |world| {
            async move { world.store().undecodable(at_most).await }.boxed()
        })
        .await
    }
}
