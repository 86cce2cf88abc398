//! Claims for the workers of a server: for those that are idle, and ahead of need where jobs are
//! far shorter than a round trip.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rocketjob_core::{
    Bells, ClaimRequest, ClaimToken, Claimed, Filter, Result, Store, name, release_suspects,
};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, field};

use crate::{
    calm::Calm,
    crew::{Crew, MAX_HELD, worker_name},
    health::Pulse,
    opening::{Desk, note_claim},
    queue::Assignment,
    schedule::Alarm,
    standing::{Mode, Post, Standing},
};

/// How many jobs a server may read ahead of its idle workers, and so how far its claims reach into
/// the queue.
pub const MAX_READ_AHEAD: usize = 400;
/// Many jobs are read ahead only while a claim takes this many times longer than one of them.
const FAR_SHORTER: u32 = 4;
/// How much is read ahead then: what the workers do in so many round trips.
const ROUND_TRIPS: u32 = 4;
/// Of longer jobs those are claimed that workers begin in so many round trips, or in this time, and
/// no more than one for each worker; and the next before what they begin meanwhile has run out: so
/// none of them waits for a claim, and claims are few however busy the store is.
const FEW_ROUND_TRIPS: u32 = 2;
const SPAN: Duration = Duration::from_millis(25);
/// A job that takes longer than this, and than many round trips, is a long one.
const LONG: Duration = Duration::from_millis(50);
/// For how long a job that was read ahead may wait before it is handed back, at least and at most;
/// between them it is twice what was meant to be read ahead, or what a few jobs take.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));
const JOBS: u32 = 3;
/// And a suspect, of which one is performed at a time: to hand them back and claim them again and
/// again costs more than is won when other servers share in them.
const SUSPECT_PATIENCE: Duration = Duration::from_secs(5);
/// How often jobs that were read ahead are looked after while their workers do not ask for more.
const LOOK: Duration = Duration::from_millis(5);
/// How often a server that may not claim looks whether it may again.
const PAUSE: Duration = Duration::from_millis(250);
/// How often an idle server looks for work while it is told of all that there is, and otherwise.
pub(crate) const SELDOM: Duration = Duration::from_secs(5);
const OFTEN: Duration = Duration::from_millis(500);
/// How soon a server looks again that knows of work which it could not have just now.
const SOON: Duration = Duration::from_millis(2);
/// How long the claims wait after an error of the store, at first and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// What a server's claims need to know.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    pub(crate) desk: Arc<Desk>,
    pub(crate) store: Store,
    pub(crate) post: Arc<Post>,
    pub(crate) crew: Arc<Crew>,
    pub(crate) claims: Arc<Claims>,
    /// `None` for what fits the store.
    pub(crate) poll_interval: Option<Duration>,
    pub(crate) alarm: Arc<Alarm>,
    pub(crate) calm: Calm,
    pub(crate) rank: Arc<AtomicUsize>,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) stop: CancellationToken,
}

/// The claims of a server so far.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// How often the store was asked.
    pub(crate) count: AtomicU64,
    /// How often it had something.
    pub(crate) successful: AtomicU64,
    /// How many jobs it gave.
    pub(crate) jobs: AtomicU64,
    /// How many jobs other servers were faster to take.
    pub(crate) lost: AtomicU64,
    /// How many jobs began with their insertion.
    pub(crate) at_once: AtomicU64,
    /// The number of the last claim.
    last: AtomicU64,
    /// All claims with a lower number have been answered, or are given up.
    pub(crate) answered: AtomicU64,
    /// Rung when a claim that was given up may have been made all the same.
    pub(crate) doubtful: Notify,
    /// The number of the last claim that may have been made although its answer is missing.
    doubted: AtomicU64,
    /// Rung when there is such a claim.
    doubts: Notify,
}

impl Claims {
    /// The number of a new claim, above those of all others.
    pub(crate) fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The claim with this number may have been made all the same.
    pub(crate) fn doubt(&self, sequence: u64) {
        self.doubted.fetch_max(sequence, Ordering::Relaxed);
        self.doubts.notify_one();
    }

    /// All claims up to this number have been answered, or are given up.
    fn answer(&self, sequence: u64) {
        self.answered.store(sequence + 1, Ordering::Release);
    }

    /// The store can be reached again: claims in doubt before this one can be looked for.
    fn clear_up(&self, sequence: u64) {
        let doubted = self.doubted.load(Ordering::Relaxed);
        let relaxed = Ordering::Relaxed;
        if doubted != 0
            && doubted < sequence
            && self
                .doubted
                .compare_exchange(doubted, 0, relaxed, relaxed)
                .is_ok()
        {
            self.doubtful.notify_one();
        }
    }

    fn note(&self, claimed: &Claimed) {
        let add = |counter: &AtomicU64, count: usize| {
            counter.fetch_add(count as u64, Ordering::Relaxed);
        };
        add(&self.successful, usize::from(!claimed.jobs.is_empty()));
        add(&self.jobs, claimed.jobs.len());
        add(&self.lost, claimed.lost);
    }
}

/// How many jobs are wanted, and for whom.
#[derive(Debug, PartialEq, Eq)]
struct Want {
    count: usize,
    /// At how many jobs read ahead the next are to be claimed.
    low_water: usize,
    /// For these idle workers; none named means for whoever is free first.
    idle: Vec<usize>,
    /// Whether any worker has nothing to do.
    any_idle: bool,
    /// How many jobs were read ahead that nobody has begun.
    ahead: usize,
    /// How many workers can begin a job at once.
    at_once: usize,
    /// What is claimed is read ahead, and nobody has asked for what is new.
    may_lag: bool,
    /// No more suspects.
    no_suspects: bool,
}

/// How many jobs to have read ahead.
#[derive(Debug, Default)]
struct Ahead {
    jobs: usize,
    /// At how many the next are to be claimed.
    low_water: usize,
}

impl Dispatcher {
    /// Claims until the server stops. Returns when nothing more is handed out.
    pub(crate) async fn run(self) {
        let mut round_trip = Duration::from_millis(5);
        self.crew.pace.set_long(long(round_trip));
        let mut back_off = BACK_OFF.0;
        // All workers are in jobs that take longer than was thought: nothing more is read ahead
        // until one of them is free.
        let mut all_busy = false;
        // Its own place in the queue had less than wanted: what others have left comes next.
        let mut from_head = false;
        while !self.stop.is_cancelled() {
            all_busy |= self.take_back(round_trip);
            let standing = self.post.now();
            if standing.mode != Mode::Working || self.post.lease.is_over() {
                self.crew.hand_back_all(self.crew.queue.drain());
                self.pulse.completed();
                self.wait(self.post.changed(), PAUSE).await;
                continue;
            }
            let want = self.want(round_trip, self.crew.held());
            all_busy &= !want.any_idle;
            if want.count == 0 || all_busy {
                self.pulse.completed();
                let at_most = if want.ahead > 0 { LOOK } else { PAUSE };
                self.wait(self.crew.queue.wanting(), at_most).await;
                continue;
            }
            self.release_suspects().await;
            let sequence = self.claims.next();
            let began = Instant::now();
            let known = self.store.bells();
            let skip = if std::mem::take(&mut from_head) {
                0
            } else {
                self.rank.load(Ordering::Relaxed) * want.count
            };
            match self.claim(&standing, sequence, &want, skip).await {
                Ok(claimed) => {
                    back_off = BACK_OFF.0;
                    self.pulse.completed();
                    round_trip = (round_trip * 7 + began.elapsed()) / 8;
                    self.crew.pace.set_long(long(round_trip));
                    self.claims.note(&claimed);
                    let found = claimed.jobs.len();
                    let next_due = claimed.next_due;
                    // What others were faster to take tells nothing of what is behind it.
                    let ended = !claimed.left && (found + claimed.lost < want.count || found == 0);
                    // What is left needs a worker that is idle.
                    let waits = claimed.left && found == 0;
                    self.hand_out(&standing, claimed, &want);
                    from_head = ended && skip > 0;
                    let exhausted = ended && !from_head;
                    self.crew.queue.tell_news(exhausted.then_some(known));
                    self.claims.answer(sequence);
                    self.claims.clear_up(sequence);
                    if waits {
                        self.wait(self.crew.queue.wanting(), SPAN).await;
                    }
                    if exhausted {
                        self.idle(&standing, known, found > 0, next_due, want.no_suspects)
                            .await;
                    }
                }
                Err(error) => {
                    tracing::warn!(error = error.chain(), "cannot claim now: trying again");
                    self.claims.answer(sequence);
                    self.claims.doubt(sequence);
                    self.crew.queue.tell_news(None);
                    self.wait(std::future::pending(), back_off).await;
                    back_off = (back_off * 2).min(BACK_OFF.1);
                }
            }
        }
        self.crew.hand_back_all(self.crew.queue.close());
    }

    /// When the last suspect in hand has ended, the next are made ready.
    async fn release_suspects(&self) {
        if self.crew.queue.wants_suspects()
            && let Err(error) = release_suspects(&*self.store).await
        {
            tracing::warn!(
                error = error.chain(),
                "cannot make suspects ready: the sweep will"
            );
        }
    }

    fn want(&self, round_trip: Duration, held: usize) -> Want {
        let need = self.crew.queue.need();
        let Ahead { jobs, low_water } = self.ahead(round_trip);
        let (idle, any_idle) = (need.idle.len(), !need.idle.is_empty());
        let count = if jobs == 0 {
            idle.saturating_sub(need.ahead)
        } else if need.ahead <= low_water && held <= MAX_HELD {
            jobs + idle - need.ahead
        } else {
            0
        };
        let for_idle = jobs == 0 && need.want_news == 0;
        Want {
            count: count.max(need.want_news),
            low_water,
            idle: if for_idle { need.idle } else { Vec::new() },
            any_idle,
            ahead: need.ahead,
            at_once: idle.saturating_sub(need.ahead),
            may_lag: jobs > 0 && need.want_news == 0,
            no_suspects: need.suspects,
        }
    }

    /// How many jobs to have ready beyond the idle workers: what those workers begin in a few round
    /// trips that are not in a long job now.
    fn ahead(&self, round_trip: Duration) -> Ahead {
        let Some(pace) = self.crew.pace.get() else {
            return Ahead::default();
        };
        let begun = |workers: usize, span: Duration| {
            let jobs = span.as_nanos() * workers as u128 / pace.as_nanos().max(1);
            usize::try_from(jobs).map_or(MAX_READ_AHEAD, |jobs| jobs.min(MAX_READ_AHEAD))
        };
        let many = round_trip * ROUND_TRIPS;
        if pace * FAR_SHORTER <= round_trip {
            let jobs = begun(self.crew.available(many), many);
            let low_water = jobs / 2;
            return Ahead { jobs, low_water };
        }
        let workers = self.crew.available(many.max(pace * FEW_ROUND_TRIPS));
        let few = round_trip * FEW_ROUND_TRIPS;
        let low_water = begun(workers, few.min(pace));
        let jobs = low_water + begun(workers, few.max(SPAN).min(pace));
        Ahead { jobs, low_water }
    }

    async fn claim(
        &self,
        standing: &Standing,
        sequence: u64,
        want: &Want,
        skip: usize,
    ) -> Result<Claimed> {
        let workers = self.workers(standing, sequence, want);
        let filter = self.condition(want.no_suspects);
        let request = ClaimRequest {
            token: ClaimToken {
                server: standing.id,
                sequence,
            },
            workers: &workers,
            count: want.count,
            kinds: &self.desk.kinds,
            filter: filter.as_ref(),
            skip,
            may_lag: want.may_lag,
            at_once: want.at_once,
            limits: &*self.desk.registry,
        };
        self.claims.count.fetch_add(1, Ordering::Relaxed);
        let span = tracing::debug_span!(
            "claim",
            server = standing.name,
            sequence,
            wanted = want.count,
            found = field::Empty
        );
        let claimed = self.store.claim(&request).instrument(span.clone()).await;
        if let Ok(claimed) = &claimed {
            span.record("found", claimed.jobs.len());
            span.in_scope(|| note_claim(&claimed.jobs));
        }
        claimed
    }

    /// The names under which jobs are claimed: of the idle workers that will have them. What is read
    /// ahead is claimed in the name of one worker, so that one statement of a store can take it all.
    fn workers(&self, standing: &Standing, sequence: u64, want: &Want) -> Vec<String> {
        let names = self.crew.names();
        if want.idle.is_empty() {
            let turn = usize::try_from(sequence).unwrap_or(0) % names.len().max(1);
            let name = names.into_iter().nth(turn).map(|(_, name)| name);
            return vec![name.unwrap_or_else(|| worker_name(&standing.name, 1))];
        }
        let chosen = names
            .into_iter()
            .filter(|(number, _)| want.idle.contains(number))
            .map(|(_, name)| name);
        let chosen: Vec<_> = chosen.take(want.count).collect();
        if chosen.is_empty() {
            // All whom it was for have left meanwhile: whoever comes performs it.
            return vec![worker_name(&standing.name, 1)];
        }
        chosen
    }

    /// Which jobs may be claimed now.
    fn condition(&self, no_suspects: bool) -> Option<Filter> {
        if !no_suspects {
            return self.desk.filter.clone();
        }
        let fresh = Filter::missing(name::LOST_CLAIMS);
        Some(match &self.desk.filter {
            Some(filter) => filter.clone().and(fresh),
            None => fresh,
        })
    }

    /// Passes claimed jobs on.
    fn hand_out(&self, standing: &Standing, claimed: Claimed, want: &Want) {
        for set_aside in &claimed.set_aside {
            tracing::error!(
                id = set_aside.id,
                reason = set_aside.reason,
                "a document cannot be read: it is failed"
            );
        }
        let claimed_at = Instant::now();
        let validity = self.desk.validity(standing.id);
        let assignments: Vec<Assignment> = claimed
            .jobs
            .into_iter()
            .filter_map(|job| self.desk.assign(job, &validity, claimed_at))
            .collect();
        self.crew.hold(assignments.iter());
        let undelivered = if !self.post.may_begin(standing.id) {
            assignments
        } else if want.idle.is_empty() {
            self.crew.queue.read_ahead(assignments, want.low_water)
        } else {
            let workers = want.idle.iter().copied();
            self.crew.queue.deliver(workers.zip(assignments))
        };
        self.crew.hand_back_all(undelivered);
    }

    /// Nothing more is ready: waits for a bell that is not among `known`, or for the next poll.
    async fn idle(
        &self,
        standing: &Standing,
        known: Bells,
        found: bool,
        next_due: Option<jiff::Timestamp>,
        no_suspects: bool,
    ) {
        let _idle = self.alarm.idles();
        self.alarm.tell(next_due);
        let interval = self.poll_interval.unwrap_or_else(|| {
            if self.store.hears_others() {
                SELDOM
            } else {
                OFTEN
            }
        });
        // Spreads the polls of many servers: no two have the same rhythm.
        let spread = standing.id.bytes()[11] % 50;
        let mut pause = interval.mul_f64(0.75 + f64::from(spread) / 100.0);
        if next_due.is_some_and(|due| due <= self.store.now()) {
            // It is being made ready now, or others were in the way and more may be had.
            pause = pause.min(SOON);
        }
        let trusting = async {
            if no_suspects || self.crew.queue.need().suspects {
                self.crew.queue.trusting().await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let calm = self.calm.pause(found);
        let bell = async {
            if !calm.is_zero() {
                tokio::time::sleep(calm).await;
            }
            self.work_ready(known).await;
            self.calm.rang();
        };
        let sooner = async {
            tokio::select! {
                biased;
                () = trusting => {}
                () = self.claims.doubts.notified() => {}
                () = bell => {}
            }
        };
        self.wait(sooner, pause).await;
    }

    /// Returns when the bell has rung for work that may be claimed; what is to become ready is not
    /// worth a claim, and only passed on.
    async fn work_ready(&self, mut known: Bells) {
        let hears = self.store.hears_others();
        loop {
            let heard = self.store.work_ready(known).await;
            if heard.waiting != known.waiting {
                self.alarm.rings();
            }
            if heard.ready != known.ready || self.store.hears_others() != hears {
                return;
            }
            known = heard;
        }
    }

    async fn wait(&self, sooner: impl Future<Output = ()>, at_most: Duration) {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            () = sooner => {}
            () = tokio::time::sleep(at_most) => {}
        }
    }

    /// What no worker will come to soon is left to others. Says whether all workers turned out to
    /// be in longer jobs than was thought.
    fn take_back(&self, round_trip: Duration) -> bool {
        let jobs = self.crew.pace.get().unwrap_or_default() * JOBS;
        let patience = (round_trip * ROUND_TRIPS * 2).max(jobs);
        let patience = patience.clamp(PATIENCE.0, PATIENCE.1);
        let mut assignments = self.crew.queue.take_back(patience);
        let waited = !assignments.is_empty();
        if waited {
            self.crew.pace.raise(patience);
        }
        assignments.extend(self.crew.queue.take_back_suspects(SUSPECT_PATIENCE));
        if self.ahead(round_trip).jobs == 0 {
            assignments.extend(self.crew.queue.take_back_rest());
        }
        if !assignments.is_empty() {
            tracing::debug!(jobs = assignments.len(), "handing back what was read ahead");
            self.crew.hand_back_all(assignments);
        }
        waited
    }
}

/// From when on a job is a long one.
fn long(round_trip: Duration) -> Duration {
    LONG.max(round_trip * ROUND_TRIPS)
}
