//! Signs of life, and what follows when they fail: the fence and the next incarnation.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bson::oid::ObjectId;
use parking_lot::Mutex;
use rocketjob_core::{Cancelled, Result, ServerDocument, ServerState, Store};
use tokio::{
    sync::{Mutex as AsyncMutex, Notify},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    crew::Crew,
    ending::Ending,
    health::Pulse,
    orders::Orders,
    registration::Registration,
    standing::{Mode, Post},
};

/// How long a heartbeat waits that failed, at most: the lease runs.
const RETRY: Duration = Duration::from_secs(1);

/// What supervising a server takes.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pub(crate) store: Store,
    pub(crate) post: Arc<Post>,
    pub(crate) crew: Arc<Crew>,
    pub(crate) registration: Registration,
    pub(crate) interval: Duration,
    pub(crate) rank: Arc<AtomicUsize>,
    pub(crate) ending: Arc<Ending>,
    pub(crate) orders: Arc<Orders>,
    /// Rung when claims of this server's former incarnation are to be ended.
    pub(crate) sweep: Arc<Notify>,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) stop: CancellationToken,
    /// Whether the document said so when it was last seen.
    pub(crate) paused: AtomicBool,
    /// The end of the lease for which the server was fenced last.
    pub(crate) lapsed: Mutex<Option<Instant>>,
    /// The document of the next incarnation, until it is registered.
    pub(crate) pending: AsyncMutex<Option<ServerDocument>>,
}

impl Supervisor {
    /// Gives signs of life until the server has stopped.
    pub(crate) async fn run(self) {
        let mut pause = self.interval;
        loop {
            // First of all, also on waking from a long sleep: whoever may be taken for dead acts no
            // more.
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.lapses() => self.fence(Cancelled::ServerLapsed),
                () = self.orders.news() => {}
                () = tokio::time::sleep(pause) => {}
            }
            let beat = self.beat();
            tokio::pin!(beat);
            let outcome = loop {
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return,
                    () = self.lapses() => self.fence(Cancelled::ServerLapsed),
                    outcome = &mut beat => break outcome,
                }
            };
            pause = match outcome {
                Ok(()) => {
                    self.pulse.completed();
                    self.interval
                }
                Err(error) => {
                    tracing::warn!(
                        error = error.chain(),
                        "cannot give a sign of life now: trying again"
                    );
                    self.interval.min(RETRY)
                }
            };
        }
    }

    /// Returns when the lease is over, once for each that ends.
    async fn lapses(&self) {
        loop {
            let end = self.post.lease.end();
            if Instant::now() < end {
                tokio::time::sleep_until(end).await;
            } else if self.lapsed.lock().replace(end) == Some(end) {
                return std::future::pending().await;
            } else {
                return;
            }
        }
    }

    /// Claims nothing more and tells all jobs to stop. What they have done by then is still offered
    /// to the store, which refuses it when others have taken over.
    fn fence(&self, reason: Cancelled) {
        // A server that stops claims nothing as it is.
        if self.post.set_mode(Mode::Fenced) {
            tracing::error!(
                server = self.post.now().name,
                %reason,
                "fenced: claims nothing, and its jobs are told to stop"
            );
        }
        self.crew.hand_back_all(self.crew.queue.drain());
        self.crew.tell_all(reason);
    }

    async fn beat(&self) -> Result<()> {
        self.write_order().await?;
        let sent = Instant::now();
        let alive = u32::try_from(self.crew.size()).unwrap_or(u32::MAX);
        let Some(server) = self.store.heartbeat(self.post.id(), alive).await? else {
            return self.reincarnate().await;
        };
        self.post.lease.renew(sent);
        self.apply(&server);
        let rank = rank_of(&self.store, server.id).await?;
        self.rank.store(rank, Ordering::Relaxed);
        Ok(())
    }

    /// Writes what an event said into the document, which then says it too.
    async fn write_order(&self) -> Result<()> {
        let Some(wanted) = self.orders.wanted() else {
            return Ok(());
        };
        let from: &[ServerState] = match wanted {
            ServerState::Paused => &[ServerState::Starting, ServerState::Running],
            _ => &[ServerState::Paused],
        };
        let id = self.post.id();
        self.store.set_server_state(id, from, wanted).await?;
        self.orders.written(wanted);
        Ok(())
    }

    /// Does what the document says, or an event that came later.
    fn apply(&self, server: &ServerDocument) {
        let state = match server.state {
            ServerState::Stopping => ServerState::Stopping,
            state => self.orders.wanted().unwrap_or(state),
        };
        let mode = match state {
            ServerState::Starting | ServerState::Running => Mode::Working,
            ServerState::Paused => Mode::Paused,
            ServerState::Stopping => {
                if self.post.mode() != Mode::Stopping {
                    self.ending.told();
                }
                return;
            }
        };
        self.paused.store(mode == Mode::Paused, Ordering::Relaxed);
        if self.post.set_mode(mode) {
            tracing::info!(server = server.name, ?mode, "goes on");
        }
        let wanted = usize::try_from(server.max_workers).unwrap_or(usize::MAX);
        if self.post.mode() != Mode::Stopping && wanted != self.crew.size() {
            tracing::info!(server = server.name, workers = wanted, "resizing");
            if let Err(error) = self.crew.resize(wanted) {
                tracing::error!(error = error.chain(), "cannot resize: trying again");
            }
        }
    }

    /// The document is gone: others have declared this server dead, or somebody removed it. What it
    /// holds is no longer its own; it goes on as another.
    async fn reincarnate(&self) -> Result<()> {
        tracing::error!(
            server = self.post.now().name,
            id = %self.post.id(),
            "declared dead: all its claims are lost"
        );
        self.fence(Cancelled::ClaimLost);
        if self.post.mode() == Mode::Stopping {
            return Ok(());
        }
        let sent = Instant::now();
        let workers = u32::try_from(self.crew.size()).unwrap_or(u32::MAX);
        let mut pending = self.pending.lock().await;
        // An operator's word outlives the incarnation.
        let state = if self.paused.load(Ordering::Relaxed) {
            ServerState::Paused
        } else {
            ServerState::Running
        };
        let registered = self
            .registration
            .again(&self.store, workers, state, &mut pending);
        let document = registered.await?;
        self.post.reincarnate(&document, sent);
        tracing::warn!(server = document.name, id = %document.id, "goes on under a new incarnation");
        self.sweep.notify_one();
        let rank = rank_of(&self.store, document.id).await?;
        self.rank.store(rank, Ordering::Relaxed);
        Ok(())
    }
}

/// The place of a server among those that run: where in the queue its claims begin, so that
/// servers do not fight for the head.
pub(crate) async fn rank_of(store: &Store, server: ObjectId) -> Result<usize> {
    let servers = store.servers().await?;
    let running = servers
        .iter()
        .filter(|other| other.state == ServerState::Running && other.id < server);
    Ok(running.count())
}
