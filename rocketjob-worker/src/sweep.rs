//! Sweeping: what dead servers left behind is put right. Their claims are ended, free places in
//! limits given on, and successors created. Every server does so, and any number at the same time do
//! no harm.

use std::{sync::Arc, time::Duration};

use rocketjob_core::{
    Registry, Result, ServerDocument, Store, Waiting, recover, recover_successors,
    release_free_places, release_suspects,
};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

#[cfg(feature = "simulation")]
use crate::simulation::Planted;
use crate::{
    crew::Crew,
    health::{Pulse, report},
    lapse::Observer,
    standing::Post,
};

/// How often free places and successors are looked for, at most: whoever frees a place or settles a
/// job sees to them itself, unless it dies on the way.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);
/// Who has settled a job creates its successors well within this time, if he lives.
const INTERRUPTED: Duration = Duration::from_secs(5);
/// How soon what could not be done is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How many claims are read at a time.
const PAGE: usize = 1000;
/// How many successors are created in one step.
const GROUP: usize = 1000;

/// What sweeping takes.
#[derive(Debug)]
pub(crate) struct Sweeper {
    pub(crate) store: Store,
    pub(crate) crew: Arc<Crew>,
    pub(crate) post: Arc<Post>,
    pub(crate) registry: Arc<Registry>,
    /// How often dead servers are looked for.
    pub(crate) interval: Duration,
    /// Rung when there is reason to look for the claims of dead servers at once.
    pub(crate) wake_up: Arc<Notify>,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) stop: CancellationToken,
    #[cfg(feature = "simulation")]
    pub(crate) planted: Option<Planted>,
}

impl Sweeper {
    /// Sweeps until the server has stopped.
    pub(crate) async fn run(self) {
        let mut observer = Observer::new(self.interval);
        let interval = INTERVAL.min(self.interval);
        let now = Instant::now();
        let (mut next_recovery, mut next_sweep) = (now, now);
        let (mut waiting, mut has_recovered) = (Waiting::default(), true);
        loop {
            let mut done = true;
            if Instant::now() >= next_recovery {
                next_recovery = Instant::now() + self.interval;
                let recovered = self.recover(&mut observer).await;
                if !matches!(recovered, Ok(false)) {
                    has_recovered = true;
                    // Who lost its claim cannot give its places on, nor create its successors.
                    next_sweep = Instant::now();
                }
                done = report("recover claims", &recovered.map(drop));
                done &= report("make suspects ready", &self.release_suspects().await);
            }
            if Instant::now() >= next_sweep {
                next_sweep = Instant::now() + interval;
                let given = self.give_places_on(&mut waiting, has_recovered).await;
                has_recovered &= given.is_err();
                done &= report("give free places on", &given);
                done &= report("create successors", &self.create_successors().await);
            }
            if done {
                self.pulse.completed();
            } else {
                let retry = Instant::now() + RETRY;
                next_recovery = next_recovery.min(retry);
                next_sweep = next_sweep.min(retry);
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.wake_up.notified() => next_recovery = Instant::now(),
                () = tokio::time::sleep_until(next_recovery.min(next_sweep)) => {}
            }
        }
    }

    /// The kinds of the jobs that `server` holds, each as often as there are jobs.
    async fn claims_of(&self, server: &ServerDocument) -> Result<Vec<String>> {
        let mut kinds = Vec::new();
        let mut after = None;
        loop {
            let page = self.store.claims_of(server.id, after, PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(kinds);
            };
            after = Some(last.id());
            kinds.extend(page.iter().map(|job| {
                let known = self.registry.definition(job.kind());
                known.map_or(job.kind(), |known| known.kind).to_owned()
            }));
        }
    }

    async fn give_places_on(&self, waiting: &mut Waiting, at_once: bool) -> Result<()> {
        let released = release_free_places(&*self.store, &*self.registry, waiting, at_once);
        released.await.map(drop)
    }

    /// Suspects that are held since their server died, or whoever was to make them ready.
    async fn release_suspects(&self) -> Result<()> {
        if self.crew.queue.need().suspects {
            return Ok(());
        }
        release_suspects(&*self.store).await.map(drop)
    }

    async fn create_successors(&self) -> Result<()> {
        recover_successors(&*self.store, GROUP, INTERRUPTED)
            .await
            .map(drop)
    }

    /// Removes the documents of servers that have lapsed, and ends all claims that have no server.
    /// Says whether anybody was declared dead or any claim ended.
    async fn recover(&self, observer: &mut Observer) -> Result<bool> {
        let mut found = false;
        let servers = self.store.servers().await?;
        let lapsed = observer.look(&servers);
        #[cfg(feature = "simulation")]
        let lapsed = if self.planted == Some(Planted::WallClock) {
            crate::simulation::lapsed_by_wall_clock(&self.store, &servers)
        } else {
            lapsed
        };
        for server in lapsed {
            if server.id == self.post.id() {
                continue;
            }
            // Before: as soon as it is declared dead, anybody ends them.
            let lost = self.claims_of(&server).await?;
            if self.store.declare_dead(server.id, server.beats()).await? {
                found = true;
                self.crew.tally.lose(lost);
                tracing::warn!(
                    server = server.name,
                    id = %server.id,
                    "no sign of life for its lease: declared dead"
                );
            }
        }
        let recovered = recover(&*self.store, &self.registry).await?;
        if recovered.requeued + recovered.failed > 0 {
            found = true;
            tracing::warn!(
                requeued = recovered.requeued,
                failed = recovered.failed,
                "ended the claims of dead servers"
            );
        }
        if recovered.unknown > 0 {
            tracing::info!(
                jobs = recovered.unknown,
                "left claims of dead servers to a server that knows their kinds"
            );
        }
        Ok(found)
    }
}
