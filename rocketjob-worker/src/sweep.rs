//! Sweeping: due jobs become ready, free places are given on, and what dead servers left behind is
//! put right. Every server does so, and any number at the same time do no harm.

use std::{sync::Arc, time::Duration};

use rocketjob_core::{Registry, Result, Store, recover, recover_successors, release_free_places};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

#[cfg(feature = "simulation")]
use crate::simulation::Planted;
use crate::{
    health::{Pulse, report},
    lapse::Observer,
    standing::Post,
};

/// How often due jobs and free places are looked for.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);
/// How many jobs are made ready in one step.
const GROUP: usize = 1000;

/// What sweeping takes.
#[derive(Debug)]
pub(crate) struct Sweeper {
    pub(crate) store: Store,
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
        let mut next_recovery = Instant::now();
        loop {
            let mut all = [
                report("make due jobs ready", &promote(&self.store).await),
                report("give free places on", &self.give_places_on().await),
                report("create successors", &self.create_successors().await),
                true,
            ];
            if Instant::now() >= next_recovery {
                next_recovery = Instant::now() + self.interval;
                all[3] = report("recover claims", &self.recover(&mut observer).await);
            }
            if all.iter().all(|done| *done) {
                self.pulse.completed();
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.wake_up.notified() => next_recovery = Instant::now(),
                () = tokio::time::sleep(INTERVAL.min(self.interval)) => {}
            }
        }
    }

    async fn give_places_on(&self) -> Result<()> {
        release_free_places(&*self.store, &*self.registry)
            .await
            .map(drop)
    }

    async fn create_successors(&self) -> Result<()> {
        recover_successors(&*self.store, GROUP).await.map(drop)
    }

    /// Removes the documents of servers that have lapsed, and ends all claims that have no server.
    async fn recover(&self, observer: &mut Observer) -> Result<()> {
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
            if self.store.declare_dead(server.id, server.beats()).await? {
                tracing::warn!(
                    server = server.name,
                    id = %server.id,
                    "no sign of life for its lease: declared dead"
                );
            }
        }
        let recovered = recover(&*self.store, &self.registry).await?;
        if recovered.requeued + recovered.failed > 0 {
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
        Ok(())
    }
}

/// Makes all due jobs ready.
pub(crate) async fn promote(store: &Store) -> Result<()> {
    while store.promote(GROUP).await? == GROUP as u64 {}
    Ok(())
}
