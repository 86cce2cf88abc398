//! Claims for the workers of a server: for those that are idle, and ahead of need where jobs are
//! far shorter than a round trip.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bson::oid::ObjectId;
use rocketjob_core::{
    ClaimRequest, ClaimToken, Claimed, Filter, JobContext, JobDocument, Registry, Result,
    Settlement, Shared, Store, recover_successors, release_free_places,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    queue::Assignment,
    settler::{Counts, Item},
    worker::{Crew, hand_back},
};

/// How many jobs a server may read ahead of its idle workers, and so how far its claims reach into
/// the queue.
pub const MAX_READ_AHEAD: usize = 400;
/// Jobs are read ahead only while a claim takes this many times longer than one of them.
const FAR_SHORTER: u64 = 4;
/// For how long a job that was read ahead may wait before it is handed back.
const PATIENCE: Duration = Duration::from_millis(250);
/// How often due jobs and what a crash left behind are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How many jobs one sweep makes ready.
const SWEEP_GROUP: usize = 1000;
/// How many outcomes may wait to be written before the claims pause.
const MAX_UNSETTLED: usize = 4 * MAX_READ_AHEAD;
/// How long the claims wait after an error of the store, at first and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// What a server's claims need to know.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    pub(crate) store: Store,
    pub(crate) server: ObjectId,
    pub(crate) crew: Arc<Crew>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) workers: Vec<String>,
    pub(crate) kinds: Vec<String>,
    pub(crate) filter: Option<Filter>,
    pub(crate) shared: Shared,
    pub(crate) poll_interval: Duration,
    pub(crate) rank: Arc<AtomicUsize>,
    pub(crate) claims: Arc<AtomicU64>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) settler: mpsc::UnboundedSender<Item>,
    pub(crate) stop: CancellationToken,
}

/// How many jobs are wanted, and for whom.
#[derive(Debug, PartialEq, Eq)]
struct Want {
    count: usize,
    /// For these idle workers; none named means for whoever is free first.
    idle: Vec<usize>,
    /// Whether any worker has nothing to do.
    any_idle: bool,
}

impl Dispatcher {
    /// Claims until the server stops. Returns when nothing more is handed out.
    pub(crate) async fn run(self) {
        let mut sequence = 0;
        let mut round_trip = Duration::from_millis(5);
        let mut next_sweep = Instant::now();
        let mut back_off = BACK_OFF.0;
        let mut handed_out: usize = 0;
        let mut unanswered = Vec::new();
        // All workers are in jobs that take longer than was thought: nothing more is read ahead
        // until one of them is free.
        let mut all_busy = false;
        while !self.stop.is_cancelled() {
            if Instant::now() >= next_sweep {
                next_sweep = Instant::now() + SWEEP_INTERVAL;
                if let Err(error) = self.sweep().await {
                    tracing::warn!(error = error.chain(), "cannot sweep now");
                }
            }
            all_busy |= self.take_back();
            let settled = self.counts.settled.load(Ordering::Relaxed)
                + self.counts.refused.load(Ordering::Relaxed);
            let want = self.want(round_trip, handed_out.saturating_sub(settled));
            all_busy &= !want.any_idle;
            if want.count == 0 || all_busy {
                self.wait(self.crew.queue.wanting(), PATIENCE.min(SWEEP_INTERVAL))
                    .await;
                continue;
            }
            sequence += 1;
            let began = Instant::now();
            match self.claim(sequence, &want).await {
                Ok(claimed) => {
                    back_off = BACK_OFF.0;
                    self.hand_back_unanswered(&mut unanswered).await;
                    round_trip = (round_trip * 7 + began.elapsed()) / 8;
                    let found = claimed.jobs.len();
                    let next_due = claimed.next_due;
                    handed_out += self.hand_out(claimed, &want);
                    if found < want.count {
                        self.idle(next_due, &mut next_sweep).await;
                    }
                }
                Err(error) => {
                    tracing::warn!(error = error.chain(), "cannot claim now: trying again");
                    unanswered.push(self.token(sequence).to_string());
                    self.wait(std::future::pending(), back_off).await;
                    back_off = (back_off * 2).min(BACK_OFF.1);
                }
            }
        }
        for assignment in self.crew.queue.close() {
            let _ = self.settler.send(hand_back(assignment, &self.store));
        }
    }

    fn want(&self, round_trip: Duration, unsettled: usize) -> Want {
        let need = self.crew.queue.need();
        let any_idle = !need.idle.is_empty();
        let ahead = self.read_ahead(round_trip);
        if ahead == 0 {
            return Want {
                count: need.idle.len().saturating_sub(need.ahead),
                idle: need.idle,
                any_idle,
            };
        }
        let refill = need.ahead <= ahead / 2 && unsettled <= MAX_UNSETTLED;
        Want {
            count: if refill {
                ahead + need.idle.len() - need.ahead
            } else {
                0
            },
            idle: Vec::new(),
            any_idle,
        }
    }

    /// How many jobs to have ready beyond the idle workers: what is done in four round trips.
    fn read_ahead(&self, round_trip: Duration) -> usize {
        let Some(pace) = self.crew.pace.get() else {
            return 0;
        };
        let round_trip = u64::try_from(round_trip.as_nanos()).unwrap_or(u64::MAX);
        if pace.saturating_mul(FAR_SHORTER) > round_trip {
            return 0;
        }
        let each = usize::try_from(round_trip.saturating_mul(4) / pace).unwrap_or(MAX_READ_AHEAD);
        each.saturating_mul(self.workers.len()).min(MAX_READ_AHEAD)
    }

    async fn claim(&self, sequence: u64, want: &Want) -> Result<Claimed> {
        let named: Vec<String> = want
            .idle
            .iter()
            .take(want.count)
            .map(|worker| self.workers[*worker].clone())
            .collect();
        let request = ClaimRequest {
            token: self.token(sequence),
            workers: if named.is_empty() {
                &self.workers
            } else {
                &named
            },
            count: want.count,
            kinds: &self.kinds,
            filter: self.filter.as_ref(),
            skip: self.rank.load(Ordering::Relaxed) * want.count,
            limits: &*self.registry,
        };
        self.claims.fetch_add(1, Ordering::Relaxed);
        self.store.claim(&request).await
    }

    fn token(&self, sequence: u64) -> ClaimToken {
        ClaimToken {
            server: self.server,
            sequence,
        }
    }

    /// A claim that ended in an error may have been made all the same: nobody here knows its jobs,
    /// so they are handed back.
    async fn hand_back_unanswered(&self, tokens: &mut Vec<String>) {
        if tokens.is_empty() {
            return;
        }
        match self.settle_unanswered(tokens).await {
            Ok(()) => tokens.clear(),
            Err(error) => tracing::warn!(error = error.chain(), "cannot look for lost claims now"),
        }
    }

    async fn settle_unanswered(&self, tokens: &[String]) -> Result<()> {
        let mut after = None;
        loop {
            let page = self
                .store
                .claims_of(self.server, after, SWEEP_GROUP)
                .await?;
            after = page.last().map(JobDocument::id);
            let is_last = page.len() < SWEEP_GROUP;
            let lost = page.iter().filter_map(|job| {
                let claim = job.claim().filter(|claim| tokens.contains(&claim.token))?;
                Some(Settlement::hand_back(job, claim, self.store.now()).patch)
            });
            let lost: Vec<_> = lost.collect();
            if !lost.is_empty() {
                tracing::warn!(
                    jobs = lost.len(),
                    "handing back jobs of a claim without answer"
                );
                self.store.settle(lost).await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Passes claimed jobs on, and says how many.
    fn hand_out(&self, claimed: Claimed, want: &Want) -> usize {
        for set_aside in &claimed.set_aside {
            tracing::error!(
                id = set_aside.id,
                reason = set_aside.reason,
                "a document cannot be read: it is failed"
            );
        }
        let claimed_at = Instant::now();
        let assignments: Vec<Assignment> = claimed
            .jobs
            .into_iter()
            .filter_map(|job| self.assign(job, claimed_at))
            .collect();
        let count = assignments.len();
        if want.idle.is_empty() {
            self.crew
                .queue
                .read_ahead(assignments.into_iter(), want.count / 2);
        } else {
            self.crew
                .queue
                .deliver(want.idle.iter().copied().zip(assignments));
        }
        count
    }

    fn assign(&self, job: JobDocument, claimed_at: Instant) -> Option<Assignment> {
        let Some((handler, claim)) = self.registry.handler(job.kind()).cloned().zip(job.claim())
        else {
            tracing::error!(id = %job.id(), kind = job.kind(), "the store handed out a job that was not asked for");
            return None;
        };
        let context = JobContext::new(
            job,
            handler.definition(),
            Some(self.store.clone()),
            self.shared.clone(),
        );
        Some(Assignment {
            context,
            handler,
            claim,
            claimed_at,
        })
    }

    /// Nothing more is ready: waits for the bell, for the next due job or for the next poll.
    async fn idle(&self, next_due: Option<jiff::Timestamp>, next_sweep: &mut Instant) {
        // Spreads the polls of many servers: no two have the same rhythm.
        let spread = self.server.bytes()[11] % 50;
        let mut pause = self.poll_interval.mul_f64(0.75 + f64::from(spread) / 100.0);
        if let Some(due) = next_due {
            let until = due.duration_since(self.store.now());
            let until = Duration::try_from(until).unwrap_or(Duration::ZERO);
            if until < pause {
                pause = until;
                *next_sweep = Instant::now() + until;
            }
        }
        self.wait(self.store.work_ready(), pause).await;
    }

    async fn wait(&self, sooner: impl Future<Output = ()>, at_most: Duration) {
        tokio::select! {
            () = sooner => {}
            () = tokio::time::sleep(at_most) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// What no worker will come to soon is left to others. Says whether there was any.
    fn take_back(&self) -> bool {
        let assignments = self.crew.queue.take_back(PATIENCE);
        if assignments.is_empty() {
            return false;
        }
        tracing::debug!(jobs = assignments.len(), "handing back what was read ahead");
        for assignment in assignments {
            let _ = self.settler.send(hand_back(assignment, &self.store));
        }
        true
    }

    async fn sweep(&self) -> Result<()> {
        while self.store.promote(SWEEP_GROUP).await? == SWEEP_GROUP as u64 {}
        release_free_places(&*self.store, &*self.registry).await?;
        recover_successors(&*self.store, SWEEP_GROUP).await?;
        Ok(())
    }
}
