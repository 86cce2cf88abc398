//! How a server is configured and started.

use std::{
    collections::BTreeSet,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize},
    },
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use rocketjob_core::{
    Error, EventCursor, Filter, LogControl, Perform, Registry, Result, ServerDocument, ServerState,
    Shared, Store, Subscriber, Subscribers, Subscription,
};
use tokio::{
    sync::{Mutex as AsyncMutex, Notify},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    calm::Calm,
    checks::{self, StartReport},
    control::Controls,
    crew::Crew,
    deadline::Deadline,
    dispatcher::{Claims, Dispatcher, SELDOM},
    ending::Ending,
    health::Pulse,
    listen::{self, Listen},
    logger::LogSubscriber,
    opening::Desk,
    orders::Orders,
    place::Place,
    registration::Registration,
    schedule::{self, Alarm, Scheduler},
    server::{Pulses, Server},
    settler::{self, Counts, Inbox, Settler},
    standing::Post,
    supervisor::{Supervisor, rank_of},
    sweep::{self, Sweeper},
    tally::Tally,
    watch::{self, Watch},
};

/// Says how a [`Server`] is to run.
#[derive(Debug)]
pub struct ServerBuilder {
    store: Store,
    name: Option<String>,
    workers: usize,
    registry: Result<Registry>,
    filter: Option<Filter>,
    shared: Shared,
    poll_interval: Option<Duration>,
    heartbeat_interval: Duration,
    lease: Option<Duration>,
    call_timeout: Option<Duration>,
    grace: Duration,
    cancel_grace: Duration,
    max_stuck: Option<usize>,
    log_control: Option<Arc<dyn LogControl>>,
    subscribers: Subscribers,
    subscriptions: Vec<Subscription>,
    #[cfg(feature = "simulation")]
    process: Option<crate::simulation::Process>,
    #[cfg(feature = "simulation")]
    planted: Option<crate::simulation::Planted>,
}

impl ServerBuilder {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            name: None,
            workers: 10,
            registry: Registry::collected(),
            filter: None,
            shared: Shared::new(),
            poll_interval: None,
            heartbeat_interval: Duration::from_secs(15),
            lease: None,
            call_timeout: None,
            grace: Duration::from_secs(30),
            cancel_grace: Duration::from_secs(5),
            max_stuck: None,
            log_control: None,
            subscribers: Subscribers::new(),
            subscriptions: Vec::new(),
            #[cfg(feature = "simulation")]
            process: None,
            #[cfg(feature = "simulation")]
            planted: None,
        }
    }

    /// The name, unique in the store. Without one it is `<host>:<process id>`, with something
    /// added where that is taken.
    ///
    /// A name that is given here and taken makes the server wait for the other's lease: if the
    /// other is dead, as after a crash, its name is taken over; if it lives, the start fails. A
    /// server that was declared dead while it slept goes on with something added to its name, if
    /// another has taken that meanwhile.
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

    /// How often an idle server looks for work of which it was not told, up to a quarter more or
    /// less.
    ///
    /// Unless said otherwise, every five seconds while the store tells it of all that there is, and
    /// twice a second while it does not: see
    /// [`JobStore::hears_others`](rocketjob_core::JobStore::hears_others). Scheduled jobs become
    /// ready when they fall due, whatever is said here.
    #[must_use]
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = Some(interval);
        self
    }

    /// How often the server gives a sign of life; 15 s unless said otherwise.
    #[must_use]
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.heartbeat_interval = interval;
        self
    }

    /// For how long the server may be silent before others take it for dead, and before it takes
    /// its own claims for lost; four heartbeats unless said otherwise, and at least two.
    ///
    /// A short lease brings the jobs of dead servers back sooner. It must be longer than any pause
    /// that a living process may suffer.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// How long one call of the store may take; half the lease unless said otherwise. Then it
    /// counts as failed, and is tried again.
    #[must_use]
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = Some(timeout);
        self
    }

    /// How long running jobs may take to finish when the server stops; 30 s unless said otherwise.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How long code may take to stop that was told to, by a timeout or a stop; 5 s unless said
    /// otherwise. Then its future is dropped where it awaits something; code that blocks its
    /// thread is reported as stuck, its claim is given up, and its worker is replaced.
    #[must_use]
    pub fn cancel_grace(mut self, grace: Duration) -> Self {
        self.cancel_grace = grace;
        self
    }

    /// How many threads may be stuck in jobs; as many as there are workers unless said otherwise.
    /// With more the server stops, and asks for its process to be recycled.
    #[must_use]
    pub fn max_stuck(mut self, threads: usize) -> Self {
        self.max_stuck = Some(threads);
        self
    }

    /// What changes log levels when an event asks this process for it; unless said otherwise, the
    /// process's own ([`set_log_control`](rocketjob_core::set_log_control)).
    #[must_use]
    pub fn log_control(mut self, control: Arc<dyn LogControl>) -> Self {
        self.log_control = Some(control);
        self
    }

    /// Calls `subscriber` for the events of its name while the server runs. It runs on the caller's
    /// runtime, and must not block its threads.
    #[must_use]
    pub fn subscribe(mut self, subscriber: impl Subscriber) -> Self {
        self.subscriptions
            .push(self.subscribers.subscribe(subscriber));
        self
    }

    /// Runs the server in a simulated process.
    #[cfg(feature = "simulation")]
    #[doc(hidden)]
    #[must_use]
    pub fn simulated(
        mut self,
        process: crate::simulation::Process,
        planted: Option<crate::simulation::Planted>,
    ) -> Self {
        self.process = Some(process);
        self.planted = planted;
        self
    }

    /// Registers the server and starts its workers. The I/O runs on the tokio runtime of the
    /// caller, which must be the one that connected the store.
    ///
    /// # Errors
    /// [`Error::NoKinds`] when there is nothing to perform, [`Error::DuplicateKind`],
    /// [`Error::ServerNameTaken`], [`Error::Configuration`], and errors of the store.
    pub async fn start(mut self) -> Result<Server> {
        let settings = self.settings()?;
        let registry = std::mem::replace(&mut self.registry, Ok(Registry::new()));
        let registry = Arc::new(registry?);
        if registry.is_empty() {
            return Err(Error::NoKinds);
        }
        let workers = u32::try_from(self.workers).unwrap_or(u32::MAX);
        let store = Store::new(Deadline::new(self.store.clone(), settings.call_timeout));
        let report = checks::check(&store, &registry).await?;
        let registration = Registration {
            name: self.name.clone(),
            registry: Arc::clone(&registry),
            lease: settings.lease,
            interval: self.heartbeat_interval,
            filter: self.filter.clone(),
            poll_interval: self.poll_interval.unwrap_or(SELDOM),
        };
        // Whoever finds the server can steer it.
        let heard = store.event_end().await?;
        let document = registration.first(&store, workers).await?;
        let entered = self.enter(&store, registry, &document, heard, &settings);
        match entered.await {
            Ok(parts) => Ok(self.launch(parts, registration, report)),
            Err(error) => {
                // As far as it goes: what stays is swept when its lease is over.
                let _ = store.remove_server(document.id).await;
                Err(error)
            }
        }
    }

    /// Takes up the work of the registered server `document`.
    async fn enter(
        &self,
        store: &Store,
        registry: Arc<Registry>,
        document: &ServerDocument,
        heard: EventCursor,
        settings: &Settings,
    ) -> Result<Parts> {
        let sent = Instant::now();
        store.heartbeat(document.id, document.max_workers).await?;
        store
            .set_server_state(document.id, &[ServerState::Starting], ServerState::Running)
            .await?;
        let kinds = registry.kinds().join(", ");
        let parts = self
            .parts(store.clone(), registry, document, heard, settings)
            .await?;
        parts.post.lease.renew(sent);
        parts.crew.resize(self.workers)?;
        tracing::info!(
            server = document.name,
            workers = document.max_workers,
            kinds,
            "started"
        );
        Ok(parts)
    }

    /// What the loops of the server share.
    async fn parts(
        &self,
        store: Store,
        registry: Arc<Registry>,
        document: &ServerDocument,
        heard: EventCursor,
        settings: &Settings,
    ) -> Result<Parts> {
        #[cfg(not(feature = "simulation"))]
        let place = Place::current();
        #[cfg(feature = "simulation")]
        let place = Place::of(self.process.clone());
        let post = Arc::new(Post::new(document, settings.lease));
        let (outbox, inbox) = settler::channel();
        let crew = Crew::new(
            store.clone(),
            Arc::clone(&post),
            outbox,
            Tally::new(&registry),
            place.clone(),
        );
        let patience = settings.call_timeout * 2;
        let poll = self.poll_interval.unwrap_or(SELDOM);
        Ok(Parts {
            rank: Arc::new(AtomicUsize::new(rank_of(&store, document.id).await?)),
            pulses: Pulses {
                dispatch: Pulse::new("dispatch", poll * 2 + patience),
                settle: Pulse::new("settle", patience),
                heartbeat: Pulse::new("heartbeat", self.heartbeat_interval + patience),
                schedule: Pulse::new("schedule", schedule::TICK * 2 + patience),
                sweep: Pulse::new("sweep", sweep::INTERVAL * 2 + patience),
                watch: Pulse::new("watch", watch::INTERVAL * 2 + patience),
                listen: Pulse::new("listen", listen::SELDOM * 2 + patience),
            },
            store,
            post,
            registry,
            crew: Arc::new(crew),
            place,
            inbox,
            heard,
            ending: Arc::default(),
            orders: Arc::default(),
            counts: Arc::default(),
            claims: Arc::default(),
            alarm: Arc::default(),
            sweep: Arc::default(),
            stop_claims: CancellationToken::new(),
            stop_loops: CancellationToken::new(),
        })
    }

    /// Starts the loops.
    fn launch(self, parts: Parts, registration: Registration, report: StartReport) -> Server {
        let desk = Arc::new(self.desk(&parts));
        let (settler, dispatcher) = (self.settler(&parts, &desk), self.dispatcher(&parts, &desk));
        let (watch, sweeper) = (self.watch(&parts), self.sweeper(&parts));
        let listen = self.listen(&parts);
        let supervisor = Supervisor {
            store: parts.store.clone(),
            post: Arc::clone(&parts.post),
            crew: Arc::clone(&parts.crew),
            registration,
            interval: self.heartbeat_interval,
            rank: Arc::clone(&parts.rank),
            ending: Arc::clone(&parts.ending),
            orders: Arc::clone(&parts.orders),
            sweep: Arc::clone(&parts.sweep),
            pulse: Arc::clone(&parts.pulses.heartbeat),
            stop: parts.stop_loops.clone(),
            paused: AtomicBool::new(false),
            lapsed: Mutex::new(None),
            pending: AsyncMutex::new(None),
        };
        let scheduler = Scheduler {
            store: parts.store.clone(),
            registry: Arc::clone(&desk.registry),
            alarm: Arc::clone(&parts.alarm),
            rank: Arc::clone(&parts.rank),
            pulse: Arc::clone(&parts.pulses.schedule),
            stop: parts.stop_loops.clone(),
        };
        let spawn = |name, task| {
            let task = guarded(name, Arc::clone(&parts.ending), task);
            parts.place.spawn(task)
        };
        parts.store.openings().offer(&desk);
        Server {
            settling: spawn("settle", settler.run(parts.inbox).boxed()),
            dispatcher: spawn("dispatch", dispatcher.run().boxed()),
            loops: vec![
                spawn("watch", watch.run().boxed()),
                spawn("schedule", scheduler.run().boxed()),
                spawn("sweep", sweeper.run().boxed()),
                spawn("heartbeat", supervisor.run().boxed()),
                spawn("listen", listen.run().boxed()),
            ],
            store: parts.store,
            subscribers: self.subscribers,
            subscriptions: self.subscriptions,
            post: parts.post,
            kinds: parts.registry.kinds(),
            report,
            crew: parts.crew,
            ending: parts.ending,
            pulses: parts.pulses,
            counts: parts.counts,
            claims: parts.claims,
            stop_claims: parts.stop_claims,
            stop_loops: parts.stop_loops,
            grace: self.grace,
            cancel_grace: self.cancel_grace,
        }
    }

    #[cfg_attr(
        not(feature = "simulation"),
        expect(clippy::unused_self, reason = "like the others")
    )]
    fn settler(&self, parts: &Parts, desk: &Arc<Desk>) -> Settler {
        Settler {
            store: parts.store.clone(),
            desk: Arc::clone(desk),
            crew: Arc::clone(&parts.crew),
            counts: Arc::clone(&parts.counts),
            place: parts.place.clone(),
            awaited: awaited_kinds(&parts.registry),
            pulse: Arc::clone(&parts.pulses.settle),
            #[cfg(feature = "simulation")]
            planted: self.planted,
        }
    }

    fn desk(&self, parts: &Parts) -> Desk {
        Desk {
            store: parts.store.clone(),
            post: Arc::clone(&parts.post),
            crew: Arc::clone(&parts.crew),
            registry: Arc::clone(&parts.registry),
            kinds: parts.registry.kinds(),
            filter: self.filter.clone(),
            shared: self.shared.clone(),
            claims: Arc::clone(&parts.claims),
        }
    }

    fn dispatcher(&self, parts: &Parts, desk: &Arc<Desk>) -> Dispatcher {
        Dispatcher {
            desk: Arc::clone(desk),
            store: parts.store.clone(),
            post: Arc::clone(&parts.post),
            crew: Arc::clone(&parts.crew),
            claims: Arc::clone(&parts.claims),
            poll_interval: self.poll_interval,
            calm: Calm::default(),
            alarm: Arc::clone(&parts.alarm),
            rank: Arc::clone(&parts.rank),
            pulse: Arc::clone(&parts.pulses.dispatch),
            stop: parts.stop_claims.clone(),
        }
    }

    fn watch(&self, parts: &Parts) -> Watch {
        Watch {
            store: parts.store.clone(),
            post: Arc::clone(&parts.post),
            crew: Arc::clone(&parts.crew),
            claims: Arc::clone(&parts.claims),
            audit_interval: self.heartbeat_interval,
            cancel_grace: self.cancel_grace,
            max_stuck: self.max_stuck.unwrap_or(self.workers),
            ending: Arc::clone(&parts.ending),
            pulse: Arc::clone(&parts.pulses.watch),
            stop: parts.stop_loops.clone(),
            #[cfg(feature = "simulation")]
            planted: self.planted,
        }
    }

    fn listen(&self, parts: &Parts) -> Listen {
        let controls = Controls {
            post: Arc::clone(&parts.post),
            crew: Arc::clone(&parts.crew),
            ending: Arc::clone(&parts.ending),
            orders: Arc::clone(&parts.orders),
            place: parts.place.clone(),
            cancel_grace: self.cancel_grace,
        };
        let own = Subscribers::new();
        let mut subscriptions = controls.subscribe(&own);
        let logger = LogSubscriber::of_server(self.log_control.clone());
        subscriptions.push(own.subscribe(logger.on_dump(move || controls.dump())));
        Listen {
            store: parts.store.clone(),
            cursor: parts.heard.clone(),
            subscriptions,
            own,
            others: self.subscribers.clone(),
            place: parts.place.clone(),
            pulse: Arc::clone(&parts.pulses.listen),
            stop: parts.stop_loops.clone(),
        }
    }

    fn sweeper(&self, parts: &Parts) -> Sweeper {
        Sweeper {
            store: parts.store.clone(),
            crew: Arc::clone(&parts.crew),
            post: Arc::clone(&parts.post),
            registry: Arc::clone(&parts.registry),
            interval: self.heartbeat_interval,
            wake_up: Arc::clone(&parts.sweep),
            pulse: Arc::clone(&parts.pulses.sweep),
            stop: parts.stop_loops.clone(),
            #[cfg(feature = "simulation")]
            planted: self.planted,
        }
    }

    /// Checks what was said against each other.
    fn settings(&self) -> Result<Settings> {
        if self.workers == 0 {
            return Err(Error::configuration("a server needs at least one worker"));
        }
        if self.heartbeat_interval.is_zero()
            || self
                .poll_interval
                .is_some_and(|interval| interval.is_zero())
        {
            return Err(Error::configuration(
                "the heartbeat and poll intervals of a server must be longer than nothing",
            ));
        }
        let lease = self.lease.unwrap_or(self.heartbeat_interval * 4);
        if lease < self.heartbeat_interval * 2 {
            return Err(Error::configuration(format!(
                "a lease of {lease:?} is too short for a heartbeat every {:?}: it must be at least twice as long",
                self.heartbeat_interval
            )));
        }
        let call_timeout = self.call_timeout.unwrap_or(lease / 2);
        if call_timeout.is_zero() {
            return Err(Error::configuration(
                "the deadline of store calls must be longer than nothing",
            ));
        }
        Ok(Settings {
            lease,
            call_timeout,
        })
    }
}

/// What the loops of a server share.
struct Parts {
    store: Store,
    post: Arc<Post>,
    registry: Arc<Registry>,
    crew: Arc<Crew>,
    place: Place,
    inbox: Inbox,
    rank: Arc<AtomicUsize>,
    /// Up to where events are those of others.
    heard: EventCursor,
    ending: Arc<Ending>,
    orders: Arc<Orders>,
    counts: Arc<Counts>,
    claims: Arc<Claims>,
    alarm: Arc<Alarm>,
    sweep: Arc<Notify>,
    pulses: Pulses,
    stop_claims: CancellationToken,
    stop_loops: CancellationToken,
}

struct Settings {
    lease: Duration,
    call_timeout: Duration,
}

/// Runs a loop of the server. If it ends by a panic the process cannot be trusted any more.
async fn guarded(name: &'static str, ending: Arc<Ending>, task: BoxFuture<'static, ()>) {
    if AssertUnwindSafe(task).catch_unwind().await.is_err() {
        ending.recycle(format!("the {name} loop has panicked"));
    }
}
/// The kinds that jobs of others in `registry` wait for.
fn awaited_kinds(registry: &Registry) -> BTreeSet<String> {
    let kinds = registry.kinds();
    let definitions = kinds.iter().filter_map(|kind| registry.definition(kind));
    let concerns = definitions.flat_map(|definition| definition.concerns);
    let awaited = concerns.flat_map(|concern| concern.waits_for());
    awaited.map(ToOwned::to_owned).collect()
}
