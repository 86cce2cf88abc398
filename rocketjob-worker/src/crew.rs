//! The workers of a server: what each performs, how many there are, and what the server holds.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bson::{Bson, oid::ObjectId};
use parking_lot::Mutex;
use rocketjob_core::{Cancelled, JobContext, Result, Starts, Store, name};
use tokio::time::Instant;

use crate::{
    dispatcher::MAX_READ_AHEAD,
    place::{Body, Place},
    queue::{Assignment, Queue},
    settler::{Item, Outbox, hand_back},
    standing::Post,
    tally::Tally,
    thread::Thread,
    worker::{Performing, Worker},
};

/// How many claims may be open, until their outcomes are written, before further ones pause.
pub(crate) const MAX_HELD: usize = 4 * MAX_READ_AHEAD;

/// What the workers of a server share with it and with one another.
#[derive(Debug)]
pub(crate) struct Crew {
    pub(crate) store: Store,
    pub(crate) queue: Queue,
    pub(crate) pace: Pace,
    pub(crate) post: Arc<Post>,
    pub(crate) settler: Outbox,
    pub(crate) tally: Tally,
    pub(crate) starts: Starts,
    pub(crate) place: Place,
    /// By number; numbers are never used again.
    hands: Mutex<BTreeMap<usize, Hand>>,
    /// Threads of workers that were replaced, whose job never ended.
    stuck: Mutex<Vec<Body>>,
    last_number: AtomicUsize,
    /// The claims that this server knows of: from the answer of the store to the end of the claim.
    held: Mutex<HashMap<ObjectId, String>>,
}

/// One worker.
#[derive(Debug)]
struct Hand {
    body: Body,
    bench: Arc<Bench>,
    leaving: bool,
}

/// What a worker has in hand.
#[derive(Debug, Default)]
pub(crate) struct Bench(Mutex<OnBench>);

#[derive(Debug, Default)]
struct OnBench {
    performing: Option<Performing>,
    /// Another worker has taken the place of this one.
    replaced: bool,
    thread: Option<Thread>,
}

impl Bench {
    /// The worker works on this thread.
    pub(crate) fn sit_down(&self, thread: Option<Thread>) {
        self.0.lock().thread = thread;
    }

    pub(crate) fn thread(&self) -> Option<Thread> {
        self.0.lock().thread
    }

    /// The worker begins a job.
    pub(crate) fn begin(&self, performing: Performing) {
        self.0.lock().performing = Some(performing);
    }

    /// The worker has ended its job. Says whether it is still one of the crew.
    pub(crate) fn end(&self) -> bool {
        let mut bench = self.0.lock();
        bench.performing = None;
        !bench.replaced
    }

    fn is_busy(&self) -> bool {
        self.0.lock().performing.is_some()
    }

    /// Whether the worker has been in its job for longer than `time`.
    fn is_busy_for(&self, time: Duration) -> bool {
        let bench = self.0.lock();
        let performing = bench.performing.as_ref();
        performing.is_some_and(|performing| performing.since.elapsed() > time)
    }

    pub(crate) fn performing(&self) -> Option<Performing> {
        self.0.lock().performing.clone()
    }

    /// Marks the worker as replaced, if it is still in this job.
    fn replace(&self, job: ObjectId) -> Option<Performing> {
        let mut bench = self.0.lock();
        let performing = bench.performing.clone()?;
        let still = performing.context.id() == job;
        bench.replaced |= still;
        still.then_some(performing)
    }

    fn tell(&self, job: ObjectId, reason: Cancelled) {
        let mut bench = self.0.lock();
        if let Some(performing) = &mut bench.performing
            && performing.context.id() == job
        {
            performing.told.get_or_insert_with(Instant::now);
            performing.context.cancel(reason);
        }
    }
}

impl Crew {
    pub(crate) fn new(
        store: Store,
        post: Arc<Post>,
        settler: Outbox,
        tally: Tally,
        place: Place,
    ) -> Self {
        Self {
            store,
            queue: Queue::default(),
            pace: Pace::default(),
            post,
            settler,
            tally,
            starts: Starts::new(),
            place,
            hands: Mutex::default(),
            stuck: Mutex::default(),
            last_number: AtomicUsize::new(0),
            held: Mutex::default(),
        }
    }

    /// Starts or ends workers until there are `wanted`. Who has a job in hand ends after it.
    pub(crate) fn resize(self: &Arc<Self>, wanted: usize) -> Result<()> {
        let present = self.present();
        for _ in present.len()..wanted {
            self.start()?;
        }
        // The youngest leave first.
        for number in present.into_iter().skip(wanted) {
            if let Some(hand) = self.hands.lock().get_mut(&number) {
                hand.leaving = true;
            }
            if let Some(assignment) = self.queue.leave(number) {
                self.settler.send(hand_back(assignment, &self.store));
            }
        }
        Ok(())
    }

    fn start(self: &Arc<Self>) -> Result<()> {
        let number = self.last_number.fetch_add(1, Ordering::Relaxed) + 1;
        let bench = Arc::new(Bench::default());
        let worker = Arc::new(Worker {
            crew: Arc::clone(self),
            number,
            bench: Arc::clone(&bench),
        });
        let name = worker_name(&self.post.now().name, number);
        // Whoever begins at once finds itself registered.
        let mut hands = self.hands.lock();
        self.queue.seat(number);
        let body = self.place.start(&name, worker).inspect_err(|_| {
            self.queue.unseat(number);
        })?;
        let hand = Hand {
            body,
            bench,
            leaving: false,
        };
        hands.insert(number, hand);
        Ok(())
    }

    /// The numbers of the workers that are to stay.
    fn present(&self) -> Vec<usize> {
        let hands = self.hands.lock();
        let staying = hands.iter().filter(|(_, hand)| !hand.leaving);
        staying.map(|(number, _)| *number).collect()
    }

    /// How many workers there are.
    pub(crate) fn size(&self) -> usize {
        self.present().len()
    }

    /// How many workers there are that have not been in their job for longer than `time`.
    pub(crate) fn available(&self, time: Duration) -> usize {
        let hands = self.hands.lock();
        let staying = hands.values().filter(|hand| !hand.leaving);
        staying.filter(|hand| !hand.bench.is_busy_for(time)).count()
    }

    /// How many workers there are, and how many of them perform a job.
    pub(crate) fn occupation(&self) -> (usize, usize) {
        let hands = self.hands.lock();
        let busy = hands.values().filter(|hand| hand.bench.is_busy());
        let staying = hands.values().filter(|hand| !hand.leaving);
        (staying.count(), busy.count())
    }

    /// The workers that are to stay, with their numbers, under the server's name of today.
    pub(crate) fn names(&self) -> Vec<(usize, String)> {
        let server = self.post.now().name;
        let name = |number| (number, worker_name(&server, number));
        self.present().into_iter().map(name).collect()
    }

    /// Lets a worker end after the job that it has in hand; another takes its place when it has
    /// ended. Says whether there is such a worker.
    pub(crate) fn dismiss(&self, number: usize) -> bool {
        let is_there = self.hands.lock().contains_key(&number);
        if let Some(assignment) = self.queue.leave(number) {
            self.settler.send(hand_back(assignment, &self.store));
        }
        is_there
    }

    /// What a worker has in hand.
    pub(crate) fn performs(&self, number: usize) -> Option<Performing> {
        self.hands.lock().get(&number)?.bench.performing()
    }

    /// What all workers have in hand.
    pub(crate) fn benches(&self) -> Vec<(usize, Arc<Bench>)> {
        let hands = self.hands.lock();
        let benches = hands
            .iter()
            .map(|(number, hand)| (*number, Arc::clone(&hand.bench)));
        benches.collect()
    }

    /// Replaces workers whose threads have died, forgets those that have left, and returns the jobs
    /// that the dead had in hand.
    pub(crate) fn replace_dead(self: &Arc<Self>) -> Result<Vec<Performing>> {
        let ended: Vec<_> = {
            let mut hands = self.hands.lock();
            let ended: Vec<usize> = hands
                .iter()
                .filter(|(_, hand)| hand.body.is_finished())
                .map(|(number, _)| *number)
                .collect();
            let ended = ended.into_iter();
            ended
                .filter_map(|number| Some((number, hands.remove(&number)?)))
                .collect()
        };
        let mut left = Vec::new();
        for (number, hand) in ended {
            if let Some(assignment) = self.queue.unseat(number) {
                self.settler.send(hand_back(assignment, &self.store));
            }
            if let Some(performing) = hand.bench.performing() {
                tracing::error!(worker = number, id = %performing.context.id(), kind = performing.context.kind(), "the worker's thread has died: it is replaced");
                left.push(performing);
            }
            if !hand.leaving && self.post.mode() != crate::standing::Mode::Stopping {
                self.start()?;
            }
        }
        self.stuck.lock().retain(|body| !body.is_finished());
        Ok(left)
    }

    /// Gives up on a worker whose job does not end, and puts another in its place. Says whether it
    /// was still in that job.
    pub(crate) fn replace_stuck(self: &Arc<Self>, number: usize, job: ObjectId) -> Result<bool> {
        let hand = {
            let mut hands = self.hands.lock();
            let performing = hands.get(&number).and_then(|hand| hand.bench.replace(job));
            let Some((_, hand)) = performing.zip(hands.remove(&number)) else {
                return Ok(false);
            };
            hand
        };
        if let Some(assignment) = self.queue.unseat(number) {
            self.settler.send(hand_back(assignment, &self.store));
        }
        self.stuck.lock().push(hand.body);
        if !hand.leaving {
            self.start()?;
        }
        Ok(true)
    }

    /// How many replaced workers are still in their jobs.
    pub(crate) fn stuck(&self) -> usize {
        let mut stuck = self.stuck.lock();
        stuck.retain(|body| !body.is_finished());
        stuck.len()
    }

    /// How many workers have not ended.
    pub(crate) fn running(&self) -> usize {
        let hands = self.hands.lock();
        hands
            .values()
            .filter(|hand| !hand.body.is_finished())
            .count()
    }

    /// What is being performed now, by the number of the worker.
    pub(crate) fn performing(&self) -> Vec<(usize, Performing)> {
        let hands = self.hands.lock();
        hands
            .iter()
            .filter_map(|(number, hand)| Some((*number, hand.bench.performing()?)))
            .collect()
    }

    /// Tells the code of a worker's job to stop, and notes since when.
    pub(crate) fn tell(&self, number: usize, job: ObjectId, reason: Cancelled) {
        let bench = self
            .hands
            .lock()
            .get(&number)
            .map(|hand| Arc::clone(&hand.bench));
        if let Some(bench) = bench {
            bench.tell(job, reason);
        }
    }

    /// Tells the code of all jobs to stop.
    pub(crate) fn tell_all(&self, reason: Cancelled) {
        for (number, performing) in self.performing() {
            self.tell(number, performing.context.id(), reason);
        }
    }

    /// Hands back what was claimed and not begun.
    pub(crate) fn hand_back_all(&self, assignments: Vec<Assignment>) {
        for assignment in assignments {
            self.settler.send(hand_back(assignment, &self.store));
        }
    }

    /// From now on the server knows of these claims.
    pub(crate) fn hold<'a>(&self, contexts: impl Iterator<Item = &'a Assignment>) {
        let mut held = self.held.lock();
        for assignment in contexts {
            held.insert(assignment.context.id(), assignment.claim.token.clone());
        }
    }

    /// The claim of this job has ended, or is lost.
    pub(crate) fn forget(&self, context: &JobContext) {
        self.forget_all(std::iter::once(context));
    }

    /// The claims of these jobs have ended, or are lost.
    pub(crate) fn forget_all<'a>(&self, contexts: impl Iterator<Item = &'a JobContext>) {
        let mut held = self.held.lock();
        let before = held.len();
        for context in contexts {
            self.queue.claim_ended(context);
            let token = context.document().get(name::CLAIM).and_then(Bson::as_str);
            if held.get(&context.id()).map(String::as_str) == token {
                held.remove(&context.id());
            }
        }
        if before > MAX_HELD && held.len() <= MAX_HELD {
            self.queue.want();
        }
    }

    /// Whether the server knows of this claim.
    pub(crate) fn holds(&self, job: ObjectId, token: &str) -> bool {
        self.held.lock().get(&job).is_some_and(|held| held == token)
    }

    /// How many claims the server knows of.
    pub(crate) fn held(&self) -> usize {
        self.held.lock().len()
    }

    /// Sends an outcome to be written.
    pub(crate) fn settle(&self, item: Item) {
        self.settler.send(item);
    }
}

/// The name of the worker `number` of the server `server`.
pub(crate) fn worker_name(server: &str, number: usize) -> String {
    format!("{server}:{number}")
}

/// How long a job takes a worker, as a moving average.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    nanoseconds: AtomicU64,
    /// From when on a job is a long one.
    long: AtomicU64,
}

/// A job counts as at most this many times longer than the average: one long job among many short
/// ones says little about the next.
const MAX_RISE: u64 = 8;

impl Pace {
    pub(crate) fn note(&self, took: Duration) {
        let sample = nanoseconds(took);
        // Two workers that write at the same time lose one sample: it is an estimate.
        let before = self.nanoseconds.load(Ordering::Relaxed);
        let after = if before == 0 {
            sample
        } else {
            before - before / 8 + sample.min(before.saturating_mul(MAX_RISE)) / 8
        };
        self.nanoseconds.store(after.max(1), Ordering::Relaxed);
    }

    /// Jobs have turned out to take at least so long.
    pub(crate) fn raise(&self, to: Duration) {
        self.nanoseconds
            .fetch_max(nanoseconds(to), Ordering::Relaxed);
    }

    /// From now on a job is a long one that takes more than `time`.
    pub(crate) fn set_long(&self, time: Duration) {
        self.long.store(nanoseconds(time), Ordering::Relaxed);
    }

    pub(crate) fn is_long(&self, took: Duration) -> bool {
        nanoseconds(took) > self.long.load(Ordering::Relaxed)
    }

    /// What each job takes; `None` when nothing is known yet.
    pub(crate) fn get(&self) -> Option<Duration> {
        let nanoseconds = self.nanoseconds.load(Ordering::Relaxed);
        (nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds))
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1)
}
