//! A server: a process, or a part of one, with worker threads.

use std::{
    future::Future,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bson::oid::ObjectId;
use rocketjob_core::{
    AsStore, Cancelled, Error, Filter, Query, Result, ServerState, Settlement, State, Store,
    Subscribers, Subscription, name,
};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    builder::ServerBuilder,
    checks::StartReport,
    crew::Crew,
    dispatcher::Claims,
    dump::Dump,
    ending::Ending,
    health::{Health, Pulse},
    meter::Meter,
    settler::{Counts, Item},
    signal::Signals,
    standing::{Mode, Post},
};

/// How often a server that ends by itself looks whether there is something left to do.
const IDLE_POLL: Duration = Duration::from_millis(25);
/// How often a stopping server looks whether its workers are done.
const STOP_POLL: Duration = Duration::from_millis(5);
/// How long dropping the futures of jobs may take that do not stop.
const DROP_GRACE: Duration = Duration::from_millis(100);
/// How long a stopping server tries to write the last outcomes, at least.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// What a server has done when it stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Outcomes that were accepted, claims that were handed back among them.
    pub settled: usize,
    /// Outcomes that were refused since the claim was lost.
    pub refused: usize,
    /// Jobs that did not stop when told to: their claims were handed back or given up, and their
    /// threads left.
    pub abandoned: usize,
    /// How often the store was asked for jobs.
    pub claims: u64,
    /// Why the process should be started anew, if it should: too many of its threads are stuck in
    /// jobs, for example. [`recycle`](crate::recycle) does so.
    pub recycle: Option<String>,
}

/// What a server has done so far, to see how well it is fed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// How often the store was asked for jobs.
    pub claims: u64,
    /// How often it had some.
    pub successful_claims: u64,
    /// How many jobs it gave. Divided by the successful claims, this is the size of a group.
    pub claimed: u64,
    /// How many jobs were found and then lost to another server that was faster to claim them.
    pub lost: u64,
    /// How many jobs began as they were created in this process, without being asked for.
    pub at_once: u64,
    /// Outcomes that were accepted, claims that were handed back among them.
    pub settled: u64,
    /// Outcomes that were refused since the claim was lost.
    pub refused: u64,
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
    pub(crate) store: Store,
    pub(crate) subscribers: Subscribers,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) post: Arc<Post>,
    pub(crate) kinds: Vec<String>,
    pub(crate) report: StartReport,
    pub(crate) crew: Arc<Crew>,
    pub(crate) ending: Arc<Ending>,
    pub(crate) pulses: Pulses,
    pub(crate) dispatcher: JoinHandle<()>,
    pub(crate) settling: JoinHandle<()>,
    pub(crate) loops: Vec<JoinHandle<()>>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) claims: Arc<Claims>,
    pub(crate) stop_claims: CancellationToken,
    pub(crate) stop_loops: CancellationToken,
    pub(crate) grace: Duration,
    pub(crate) cancel_grace: Duration,
}

/// The pulses of all loops.
#[derive(Debug, Clone)]
pub(crate) struct Pulses {
    pub(crate) dispatch: Arc<Pulse>,
    pub(crate) settle: Arc<Pulse>,
    pub(crate) heartbeat: Arc<Pulse>,
    pub(crate) schedule: Arc<Pulse>,
    pub(crate) sweep: Arc<Pulse>,
    pub(crate) watch: Arc<Pulse>,
    pub(crate) listen: Arc<Pulse>,
}

/// Tells how a server is, from anywhere in its process: for probes.
#[derive(Debug, Clone)]
pub struct HealthMonitor(Pulses);

impl HealthMonitor {
    /// How the loops of the server are now.
    pub fn health(&self) -> Health {
        let Pulses {
            dispatch,
            settle,
            heartbeat,
            schedule,
            sweep,
            watch,
            listen,
        } = &self.0;
        let loops = [dispatch, settle, heartbeat, schedule, sweep, watch, listen];
        Health {
            loops: loops.into_iter().map(|pulse| pulse.health()).collect(),
        }
    }
}

impl Server {
    /// A server on `store` with the kinds that registered themselves in this program.
    pub fn builder(store: &impl AsStore) -> ServerBuilder {
        ServerBuilder::new(store.as_store())
    }

    /// The incarnation: the id of the server's document. Another one when the server was declared
    /// dead meanwhile and went on.
    pub fn id(&self) -> ObjectId {
        self.post.id()
    }

    /// The name.
    pub fn name(&self) -> String {
        self.post.now().name
    }

    /// How many workers it has.
    pub fn workers(&self) -> usize {
        self.crew.size()
    }

    /// What it found out about the store when it started.
    pub fn report(&self) -> &StartReport {
        &self.report
    }

    /// What each of its workers does.
    pub fn dump(&self) -> Dump {
        Dump::of(&self.post, &self.crew)
    }

    /// Those in this program that hear the events of the store, to add some or to take some away;
    /// see [`ServerBuilder::subscribe`].
    pub fn subscribers(&self) -> &Subscribers {
        &self.subscribers
    }

    /// How its loops are.
    pub fn health(&self) -> Health {
        self.monitor().health()
    }

    /// A handle that tells [`health`](Self::health) while the server runs somewhere else.
    pub fn monitor(&self) -> HealthMonitor {
        HealthMonitor(self.pulses.clone())
    }

    /// The kinds that it performs, aliases included.
    pub fn kinds(&self) -> &[String] {
        &self.kinds
    }

    /// How many outcomes the store has accepted so far, claims that were handed back among them.
    pub fn settled(&self) -> usize {
        self.counts.settled.load(Ordering::Relaxed)
    }

    /// What it has done so far.
    pub fn figures(&self) -> Figures {
        figures(&self.claims, &self.counts)
    }

    /// A handle that reads what the server counts while it runs somewhere else: for metrics.
    pub fn meter(&self) -> Meter {
        Meter {
            crew: Arc::clone(&self.crew),
            claims: Arc::clone(&self.claims),
            counts: Arc::clone(&self.counts),
        }
    }

    /// The store on which it works.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Works until the process is told to end by SIGTERM or SIGINT, then stops as
    /// [`stop`](Self::stop) does. A second signal makes an end of it: whatever is not finished is
    /// handed back at once.
    ///
    /// Also ends when an operator stops the server through the store, and when the process must be
    /// recycled; see [`Stopped::recycle`].
    ///
    /// # Errors
    /// As [`stop`](Self::stop).
    pub async fn run_until_terminated(self) -> Result<Stopped> {
        let mut signals = Signals::new();
        tokio::select! {
            biased;
            () = signals.next() => {}
            () = self.ending.wait() => {}
        }
        self.stop_unless(signals.next()).await
    }

    /// Works until `until` is done, then stops; earlier when an operator stops the server through
    /// the store, or when the process must be recycled.
    ///
    /// # Errors
    /// As [`stop`](Self::stop).
    pub async fn run_until(self, until: impl Future<Output = ()>) -> Result<Stopped> {
        tokio::select! {
            biased;
            () = until => {}
            () = self.ending.wait() => {}
        }
        self.stop().await
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
        self.stop_unless(std::future::pending()).await
    }

    /// Stops without letting running jobs finish: they are told to stop, and what does not do so at
    /// once is handed back.
    ///
    /// # Errors
    /// As [`stop`](Self::stop).
    pub async fn stop_now(self) -> Result<Stopped> {
        self.stop_unless(std::future::ready(())).await
    }

    /// Stops gracefully, and from when `hurry` is done without any grace.
    async fn stop_unless(self, hurry: impl Future<Output = ()>) -> Result<Stopped> {
        let ending = Arc::clone(&self.ending);
        let hurry = async move {
            tokio::select! {
                biased;
                () = hurry => {}
                () = ending.hurried() => {}
            }
        };
        let server = self.post.now().name;
        tracing::info!(server, "stopping");
        self.post.set_mode(Mode::Stopping);
        self.stop_claims.cancel();
        let _ = self.dispatcher.await;
        // What nobody has begun goes back first.
        self.crew.hand_back_all(self.crew.queue.close());
        let stopping = [
            ServerState::Starting,
            ServerState::Running,
            ServerState::Paused,
        ];
        let told = self
            .store
            .set_server_state(self.post.id(), &stopping, ServerState::Stopping);
        if let Err(error) = told.await {
            tracing::warn!(
                error = error.chain(),
                "cannot tell others that this server stops"
            );
        }
        let abandoned = stop_workers(&self.crew, hurry, self.grace, self.cancel_grace).await;
        // The store may be away: what can be written by now is.
        let patience = self.grace.max(LAST_WRITES);
        let written = tokio::time::timeout(patience, self.crew.settler.settled()).await;
        if written.is_err() {
            tracing::error!("outcomes cannot be written: their jobs will be performed again");
        }
        self.settling.abort();
        self.stop_loops.cancel();
        for task in self.loops {
            let _ = task.await;
        }
        self.subscriptions
            .into_iter()
            .for_each(Subscription::unsubscribe);
        self.store.remove_server(self.post.id()).await?;
        let stopped = Stopped {
            settled: self.counts.settled.load(Ordering::Relaxed),
            refused: self.counts.refused.load(Ordering::Relaxed),
            abandoned,
            claims: self.claims.count.load(Ordering::Relaxed),
            recycle: self.ending.recycles(),
        };
        tracing::info!(server, ?stopped, "stopped");
        Ok(stopped)
    }
}

pub(crate) fn figures(claims: &Claims, counts: &Counts) -> Figures {
    let Claims {
        count,
        successful,
        jobs,
        lost,
        at_once,
        ..
    } = claims;
    Figures {
        claims: count.load(Ordering::Relaxed),
        successful_claims: successful.load(Ordering::Relaxed),
        claimed: jobs.load(Ordering::Relaxed),
        lost: lost.load(Ordering::Relaxed),
        at_once: at_once.load(Ordering::Relaxed),
        settled: counts.settled.load(Ordering::Relaxed) as u64,
        refused: counts.refused.load(Ordering::Relaxed) as u64,
    }
}

/// Waits for the workers, in the end not any longer, and says how many were left behind.
async fn stop_workers(
    crew: &Crew,
    hurry: impl Future<Output = ()>,
    grace: Duration,
    cancel_grace: Duration,
) -> usize {
    let wait = async |at_most: Duration| {
        let end = Instant::now() + at_most;
        while crew.running() > 0 && Instant::now() < end {
            tokio::time::sleep(STOP_POLL).await;
        }
    };
    tokio::select! {
        biased;
        () = hurry => {
            tracing::warn!("handing back at once what is not finished");
            crew.tell_all(Cancelled::Shutdown);
        }
        () = async {
            wait(grace).await;
            crew.tell_all(Cancelled::Shutdown);
            wait(cancel_grace).await;
        } => {}
    }
    // Where the code awaits something, it ends here.
    for (_, performing) in crew.performing() {
        performing.given_up.cancel();
    }
    wait(DROP_GRACE).await;
    let mut abandoned = 0;
    for (_, performing) in crew.performing() {
        let context = performing.context;
        tracing::error!(id = %context.id(), kind = context.kind(), "does not stop: handing its claim back");
        let Some(claim) = context.document().claim() else {
            continue;
        };
        abandoned += 1;
        let settling = Settlement::hand_back(context.document(), claim, crew.store.now());
        crew.settle(Item { context, settling });
    }
    abandoned + crew.stuck()
}
