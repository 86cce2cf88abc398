//! A server: a process, or a part of one, with worker threads.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bson::oid::ObjectId;
use rocketjob_core::{
    AsStore, Cancelled, Error, Filter, Perform, Query, Registry, Result, ServerDocument,
    ServerState, Settlement, Shared, State, Store, name,
};
use tokio::{runtime::Handle, sync::mpsc, task};
use tokio_util::sync::CancellationToken;

use crate::{
    dispatcher::Dispatcher,
    heartbeat,
    settler::{self, Counts, Item},
    watch,
    worker::{self, Crew},
};

/// How long code that was told to stop may take before its claim is handed back over its head.
const LAST_GRACE: Duration = Duration::from_secs(5);
/// How often a server that ends by itself looks whether there is something left to do.
const IDLE_POLL: Duration = Duration::from_millis(25);
/// How often a stopping server looks whether its workers are done.
const STOP_POLL: Duration = Duration::from_millis(5);

/// Says how a [`Server`] is to run.
#[derive(Debug)]
pub struct ServerBuilder {
    store: Store,
    name: Option<String>,
    workers: usize,
    registry: Result<Registry>,
    filter: Option<Filter>,
    shared: Shared,
    poll_interval: Duration,
    heartbeat_interval: Duration,
    grace: Duration,
}

impl ServerBuilder {
    fn new(store: Store) -> Self {
        Self {
            store,
            name: None,
            workers: 10,
            registry: Registry::collected(),
            filter: None,
            shared: Shared::new(),
            poll_interval: Duration::from_millis(250),
            heartbeat_interval: Duration::from_secs(15),
            grace: Duration::from_secs(30),
        }
    }

    /// The name, unique in the store. Without one it is `<host>:<process id>`, with something
    /// added where that is taken.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How many worker threads; 10 unless said otherwise.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Performs jobs of this kind as well as of those that registered themselves. Needed for kinds
    /// of a library from which the program uses nothing else.
    #[must_use]
    pub fn register<T: Perform>(mut self) -> Self {
        if let Ok(registry) = &mut self.registry
            && let Err(error) = registry.register::<T>()
        {
            self.registry = Err(error);
        }
        self
    }

    /// Performs jobs of these kinds only, whatever registered itself.
    #[must_use]
    pub fn only(mut self, registry: Registry) -> Self {
        self.registry = Ok(registry);
        self
    }

    /// Takes only jobs that meet `filter`.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Shares a value with all jobs, such as a pool of connections to a database replica:
    /// [`JobContext::shared`](rocketjob_core::JobContext::shared). One value of each type.
    #[must_use]
    pub fn shared<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.shared = self.shared.with(value);
        self
    }

    /// How often an idle server looks for work of which it was not told; 250 ms unless said
    /// otherwise, and up to a quarter more or less.
    #[must_use]
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// How often the server gives a sign of life; 15 s unless said otherwise.
    #[must_use]
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.heartbeat_interval = interval;
        self
    }

    /// How long running jobs may take to finish when the server stops; 30 s unless said otherwise.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Registers the server and starts its workers. The I/O runs on the tokio runtime of the
    /// caller, which must be the one that connected the store.
    ///
    /// # Errors
    /// [`Error::NoKinds`] when there is nothing to perform, [`Error::DuplicateKind`],
    /// [`Error::ServerNameTaken`], [`Error::Configuration`], and errors of the store.
    pub async fn start(self) -> Result<Server> {
        let registry = Arc::new(self.registry?);
        if registry.is_empty() {
            return Err(Error::NoKinds);
        }
        let workers = u32::try_from(self.workers).unwrap_or(u32::MAX);
        if workers == 0 {
            return Err(Error::configuration("a server needs at least one worker"));
        }
        let store = self.store;
        let document = register(&store, self.name, workers, &registry).await?;
        let ServerDocument { id, name, .. } = document;
        store.heartbeat(id, workers).await?;
        store
            .set_server_state(id, &[ServerState::Starting], ServerState::Running)
            .await?;
        let kinds = registry.kinds();
        tracing::info!(
            server = name,
            workers,
            kinds = kinds.join(", "),
            store = store.address(),
            "started"
        );

        let rank = Arc::new(AtomicUsize::new(heartbeat::rank_of(&store, id).await?));
        let crew = Arc::new(Crew::new(store.clone(), self.workers));
        let counts = Arc::new(Counts::default());
        let claims = Arc::new(AtomicU64::new(0));
        let stop_claims = CancellationToken::new();
        let stop_loops = CancellationToken::new();
        let (settler, items) = mpsc::unbounded_channel();
        let names: Vec<_> = (1..=self.workers)
            .map(|number| format!("{name}:{number}"))
            .collect();
        let threads = names
            .iter()
            .enumerate()
            .map(|(number, name)| {
                worker::start(
                    Arc::clone(&crew),
                    number,
                    name,
                    Handle::current(),
                    settler.clone(),
                )
            })
            .collect::<Result<Vec<_>>>()?;
        let dispatcher = Dispatcher {
            store: store.clone(),
            server: id,
            crew: Arc::clone(&crew),
            registry,
            workers: names,
            kinds: kinds.clone(),
            filter: self.filter,
            shared: self.shared,
            poll_interval: self.poll_interval,
            rank: Arc::clone(&rank),
            claims: Arc::clone(&claims),
            counts: Arc::clone(&counts),
            settler: settler.clone(),
            stop: stop_claims.clone(),
        };
        Ok(Server {
            dispatcher: tokio::spawn(dispatcher.run()),
            settling: tokio::spawn(settler::run(store.clone(), items, Arc::clone(&counts))),
            watching: tokio::spawn(watch::run(
                store.clone(),
                id,
                Arc::clone(&crew),
                stop_loops.clone(),
            )),
            beating: tokio::spawn(heartbeat::run(
                store.clone(),
                id,
                workers,
                self.heartbeat_interval,
                rank,
                stop_loops.clone(),
            )),
            store,
            id,
            name,
            kinds,
            crew,
            threads,
            settler,
            counts,
            claims,
            stop_claims,
            stop_loops,
            grace: self.grace,
        })
    }
}

async fn register(
    store: &Store,
    name: Option<String>,
    workers: u32,
    registry: &Registry,
) -> Result<ServerDocument> {
    let id = store.next_id();
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    let given = name.is_some();
    let mut server = ServerDocument {
        id,
        name: name.unwrap_or_else(|| format!("{host}:{}", std::process::id())),
        max_workers: workers,
        started_at: Some(store.now()),
        state: ServerState::Starting,
        heartbeat: None,
        version: env!("CARGO_PKG_VERSION").into(),
        definitions: registry.publish(),
    };
    match store.insert_server(&server).await {
        // A container that restarts has the host name and process id of its predecessor.
        Err(Error::ServerNameTaken { .. }) if !given => {
            server.name = format!("{}-{}", server.name, &id.to_hex()[18..]);
            store.insert_server(&server).await?;
        }
        outcome => outcome?,
    }
    Ok(server)
}

/// What a server has done when it stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Outcomes that were accepted, claims that were handed back among them.
    pub settled: usize,
    /// Outcomes that were refused since the claim was lost.
    pub refused: usize,
    /// Jobs that did not stop when told to: their claims were handed back, and their threads left.
    pub abandoned: usize,
    /// How often the store was asked for jobs.
    pub claims: u64,
}

/// Worker threads that perform the jobs of a store.
///
/// ```
/// use rocketjob_core::MemoryStore;
/// use rocketjob_worker::Server;
///
/// # let runtime = tokio::runtime::Runtime::new().unwrap();
/// # runtime.block_on(async {
/// let store = MemoryStore::new();
/// // Nothing registered itself in this program:
/// let error = Server::builder(&store).workers(2).start().await.unwrap_err();
/// assert!(error.to_string().contains("no job kinds are registered"));
/// # });
/// ```
#[derive(Debug)]
pub struct Server {
    store: Store,
    id: ObjectId,
    name: String,
    kinds: Vec<String>,
    crew: Arc<Crew>,
    threads: Vec<JoinHandle<()>>,
    dispatcher: task::JoinHandle<()>,
    settling: task::JoinHandle<()>,
    watching: task::JoinHandle<()>,
    beating: task::JoinHandle<()>,
    settler: mpsc::UnboundedSender<Item>,
    counts: Arc<Counts>,
    claims: Arc<AtomicU64>,
    stop_claims: CancellationToken,
    stop_loops: CancellationToken,
    grace: Duration,
}

impl Server {
    /// A server on `store` with the kinds that registered themselves in this program.
    pub fn builder(store: &impl AsStore) -> ServerBuilder {
        ServerBuilder::new(store.as_store())
    }

    /// The incarnation: the id of the server's document.
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Works until `until` is done, then stops. Typically `until` waits for a signal:
    /// `server.run_until(rocketjob::terminated())`.
    pub async fn run_until(self, until: impl Future<Output = ()>) -> Result<Stopped> {
        until.await;
        self.stop().await
    }

    /// The kinds that it performs, aliases included.
    pub fn kinds(&self) -> &[String] {
        &self.kinds
    }

    /// How many outcomes the store has accepted so far, claims that were handed back among them.
    pub fn settled(&self) -> usize {
        self.counts.settled.load(Ordering::Relaxed)
    }

    /// Works until no job of its kinds is ready or running anywhere, then stops; scheduled and held
    /// jobs are left. For scripts and tests.
    pub async fn run_until_idle(self) -> Result<Stopped> {
        let kinds = || Filter::kinds(self.kinds.iter().cloned());
        let ready = Filter::state(State::Queued)
            .and(Filter::eq(name::READY, true))
            .and(kinds());
        let running = Filter::state(State::Running)
            .and(Filter::exists(name::CLAIM))
            .and(kinds());
        let any = async |filter: &Filter| {
            let query = Query {
                limit: 1,
                ..Query::new(filter.clone())
            };
            Ok::<_, Error>(!self.store.find(&query).await?.is_empty())
        };
        while self.store.promote(1).await? > 0 || any(&ready).await? || any(&running).await? {
            tokio::time::sleep(IDLE_POLL).await;
        }
        self.stop().await
    }

    /// Stops: claims nothing more, hands back what was not begun, lets running jobs finish within
    /// the grace, then tells them to stop and hands back what does not finish. Nothing is failed,
    /// and no attempt is used up.
    ///
    /// While the store is away it waits for the grace, and not longer: claims whose outcome could not
    /// be written are left to whoever finds this server dead.
    ///
    /// # Errors
    /// Errors of the store while the server's document is removed.
    pub async fn stop(self) -> Result<Stopped> {
        tracing::info!(server = self.name, "stopping");
        self.stop_claims.cancel();
        let stopping = [
            ServerState::Starting,
            ServerState::Running,
            ServerState::Paused,
        ];
        let told = self
            .store
            .set_server_state(self.id, &stopping, ServerState::Stopping);
        if let Err(error) = told.await {
            tracing::warn!(
                error = error.chain(),
                "cannot tell others that this server stops"
            );
        }
        let _ = self.dispatcher.await;
        let abandoned = stop_workers(&self.crew, self.threads, &self.settler, self.grace).await;
        drop(self.settler);
        // An abandoned thread holds a sender, and the store may be away: what can be written by now is.
        let patience = if abandoned == 0 {
            self.grace.max(LAST_GRACE)
        } else {
            LAST_GRACE
        };
        let mut settling = self.settling;
        if tokio::time::timeout(patience, &mut settling).await.is_err() {
            settling.abort();
            if abandoned == 0 {
                tracing::error!("outcomes cannot be written: their jobs will be performed again");
            }
        }
        self.stop_loops.cancel();
        let _ = self.watching.await;
        let _ = self.beating.await;
        self.store.remove_server(self.id).await?;
        let stopped = Stopped {
            settled: self.counts.settled.load(Ordering::Relaxed),
            refused: self.counts.refused.load(Ordering::Relaxed),
            abandoned,
            claims: self.claims.load(Ordering::Relaxed),
        };
        tracing::info!(server = self.name, ?stopped, "stopped");
        Ok(stopped)
    }
}

/// Waits for the workers, in the end not any longer, and says how many were left behind.
async fn stop_workers(
    crew: &Crew,
    threads: Vec<JoinHandle<()>>,
    settler: &mpsc::UnboundedSender<Item>,
    grace: Duration,
) -> usize {
    let running = || {
        threads
            .iter()
            .filter(|thread| !thread.is_finished())
            .count()
    };
    let wait = async |at_most: Duration| {
        let end = Instant::now() + at_most;
        while running() > 0 && Instant::now() < end {
            tokio::time::sleep(STOP_POLL).await;
        }
    };
    wait(grace).await;
    for performing in crew.performing() {
        performing.context.cancel(Cancelled::Shutdown);
    }
    wait(LAST_GRACE).await;
    for performing in crew.performing() {
        let context = performing.context;
        tracing::error!(id = %context.id(), kind = context.kind(), "does not stop: handing its claim back");
        let Some(claim) = context.document().claim() else {
            continue;
        };
        let settling = Settlement::hand_back(context.document(), claim, crew.store.now());
        let _ = settler.send(Item { context, settling });
    }
    running()
}
