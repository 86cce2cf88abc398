//! What lies between the claims of a server and its workers.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bson::oid::ObjectId;
use parking_lot::{Condvar, Mutex};
use rocketjob_core::{Bells, Claim, Handler, JobContext, is_suspect};
use tokio::{sync::Notify, time::Instant};

/// A claimed job on its way to a worker.
#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) context: JobContext,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) claim: Claim,
    pub(crate) claimed_at: Instant,
}

impl Assignment {
    fn is_suspect(&self) -> bool {
        is_suspect(self.context.document())
    }

    /// Its place in the order of claims.
    fn place(&self) -> (i64, ObjectId) {
        let job = self.context.document();
        (job.priority(), job.id())
    }
}

/// Hands claimed jobs to workers: to a certain one that is idle, or to whoever is free first.
///
/// Suspects, with which servers have died before, are performed one at a time, from the first step
/// until the outcome stands in the store: if it happens again, it is known which of them it was.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// Rung when the claims should go on: a worker is idle, or what was read ahead runs out.
    wanting: Notify,
    /// Rung when suspects can be used again.
    trusting: Notify,
}

#[derive(Debug, Default)]
struct State {
    seats: BTreeMap<usize, Seat>,
    /// Read ahead, in the order of claims: what is more urgent comes first, whenever it was claimed.
    ahead: VecDeque<Assignment>,
    suspects: VecDeque<Assignment>,
    /// The claim on the suspect that is performed, or whose outcome is on its way.
    suspect: Option<(ObjectId, Claim)>,
    /// The last suspect in hand has ended: others may be had.
    wants_suspects: bool,
    low_water: usize,
    /// What the bell had told before the last look at the store, if that has found all that was
    /// ready there: it tells of more.
    exhausted: Option<Bells>,
    closed: bool,
}

/// A worker's place at the queue.
#[derive(Debug, Default)]
struct Seat {
    mailbox: Option<Assignment>,
    waits: Waits,
    /// It comes from a long job: what was read ahead meanwhile may not be the most urgent any more.
    wants_news: bool,
    /// The worker is to end after the job that it has in hand.
    leaving: bool,
    wake_up: Arc<WakeUp>,
}

impl Seat {
    fn is_idle(&self) -> bool {
        self.waits == Waits::ForAny
    }

    /// Whether it is idle, and a job may come that nobody has looked for.
    fn is_free(&self) -> bool {
        self.is_idle() && !self.wants_news && !self.leaving && self.mailbox.is_none()
    }

    /// Whether it takes a job that was claimed for it: meanwhile it may have been kept for another.
    fn takes_claimed(&self) -> bool {
        !self.leaving && self.mailbox.is_none() && self.waits != Waits::ForPromised
    }
}

/// What a worker waits for.
#[derive(Debug, Default, PartialEq, Eq)]
enum Waits {
    /// It is at work.
    #[default]
    Not,
    /// For any job: it is idle.
    ForAny,
    /// For a job that is on its way into the store.
    ForPromised,
}

/// Wakes one worker: a thread, or in a simulation a task.
#[derive(Debug, Default)]
struct WakeUp {
    thread: Condvar,
    #[cfg(feature = "simulation")]
    task: Notify,
}

impl WakeUp {
    fn wake(&self) {
        self.thread.notify_one();
        #[cfg(feature = "simulation")]
        self.task.notify_one();
    }
}

/// What the claims go by.
#[derive(Debug)]
pub(crate) struct Need {
    /// The numbers of the workers that have nothing to do.
    pub(crate) idle: Vec<usize>,
    /// How many jobs were read ahead and not begun.
    pub(crate) ahead: usize,
    /// How many of the idle workers take of these only after a look at the store.
    pub(crate) want_news: usize,
    /// Whether a suspect is being performed or waits to be: no further ones can be used.
    pub(crate) suspects: bool,
}

/// What a worker finds at its seat.
enum Found {
    Job(Assignment),
    Nothing(Arc<WakeUp>),
    End,
}

impl State {
    fn take(&mut self, worker: usize, after_long: bool) -> (Found, bool) {
        let Some(seat) = self.seats.get_mut(&worker) else {
            return (Found::End, false);
        };
        seat.wants_news |= after_long && self.exhausted.is_none();
        if let Some(assignment) = seat.mailbox.take() {
            (seat.waits, seat.wants_news) = (Waits::Not, false);
            return (Found::Job(assignment), false);
        }
        if seat.waits == Waits::ForPromised {
            return (Found::Nothing(Arc::clone(&seat.wake_up)), false);
        }
        if self.closed || seat.leaving {
            return (Found::End, false);
        }
        if self.suspect.is_none()
            && let Some(assignment) = self.suspects.pop_front()
        {
            seat.waits = Waits::Not;
            self.suspect = Some((assignment.context.id(), assignment.claim.clone()));
            return (Found::Job(assignment), false);
        }
        if !seat.wants_news
            && let Some(assignment) = self.ahead.pop_front()
        {
            seat.waits = Waits::Not;
            return (Found::Job(assignment), self.ahead.len() <= self.low_water);
        }
        let newly = !seat.is_idle();
        seat.waits = Waits::ForAny;
        (Found::Nothing(Arc::clone(&seat.wake_up)), newly)
    }

    /// Keeps an idle worker for a job that is on its way.
    fn promise(&mut self) -> Option<usize> {
        let mut seats = self.seats.iter_mut();
        let (worker, seat) = seats.find(|(_, seat)| seat.is_free())?;
        seat.waits = Waits::ForPromised;
        Some(*worker)
    }

    fn wake_idle(&self, at_most: usize) {
        let idle = self.seats.values().filter(|seat| seat.is_idle());
        for seat in idle.take(at_most) {
            seat.wake_up.wake();
        }
    }
}

impl Queue {
    /// Gives a new worker a seat.
    pub(crate) fn seat(&self, worker: usize) {
        self.state.lock().seats.insert(worker, Seat::default());
    }

    /// Lets a worker end after the job that it has in hand, and returns what it has not begun.
    pub(crate) fn leave(&self, worker: usize) -> Option<Assignment> {
        let mut state = self.state.lock();
        let seat = state.seats.get_mut(&worker)?;
        seat.leaving = true;
        seat.waits = Waits::Not;
        seat.wake_up.wake();
        seat.mailbox.take()
    }

    /// Takes a worker's seat away, and returns what it has not begun.
    pub(crate) fn unseat(&self, worker: usize) -> Option<Assignment> {
        let seat = self.state.lock().seats.remove(&worker)?;
        seat.wake_up.wake();
        seat.mailbox
    }

    /// The next job for `worker`; blocks until there is one. `None` when the worker is to end.
    ///
    /// After a long job it is the most urgent one that the store or this queue has by then.
    pub(crate) fn next(&self, worker: usize, mut after_long: bool) -> Option<Assignment> {
        let mut state = self.state.lock();
        loop {
            let (found, ring) = state.take(worker, std::mem::take(&mut after_long));
            if ring {
                self.wanting.notify_one();
            }
            match found {
                Found::Job(assignment) => return Some(assignment),
                Found::End => return None,
                Found::Nothing(wake_up) => wake_up.thread.wait(&mut state),
            }
        }
    }

    /// As [`next`](Self::next), for a worker that is a task.
    #[cfg(feature = "simulation")]
    pub(crate) async fn next_for_task(
        &self,
        worker: usize,
        mut after_long: bool,
    ) -> Option<Assignment> {
        loop {
            let after_long = std::mem::take(&mut after_long);
            let (found, ring) = self.state.lock().take(worker, after_long);
            if ring {
                self.wanting.notify_one();
            }
            match found {
                Found::Job(assignment) => return Some(assignment),
                Found::End => return None,
                Found::Nothing(wake_up) => wake_up.task.notified().await,
            }
        }
    }

    /// The claim on this job has ended, in the store too. If it was the suspect whose turn it was,
    /// it is the turn of the next.
    pub(crate) fn claim_ended(&self, context: &JobContext) {
        if !is_suspect(context.document()) {
            return;
        }
        let mut state = self.state.lock();
        let ended = state.suspect.as_ref().is_some_and(|(id, claim)| {
            *id == context.id() && context.document().claim().as_ref() == Some(claim)
        });
        if !ended {
            return;
        }
        state.suspect = None;
        if state.suspects.is_empty() {
            state.wants_suspects = true;
            self.trusting.notify_one();
        } else {
            state.wake_idle(1);
        }
    }

    /// Says once whether the last suspect in hand has ended.
    pub(crate) fn wants_suspects(&self) -> bool {
        let mut state = self.state.lock();
        std::mem::take(&mut state.wants_suspects)
    }

    /// Returns when suspects can be used again.
    pub(crate) async fn trusting(&self) {
        self.trusting.notified().await;
    }

    /// Gives each assignment to its idle worker, and suspects to whoever may take them. Returns
    /// those whose worker is no longer there, or is kept for another job by now.
    #[must_use]
    pub(crate) fn deliver(
        &self,
        assignments: impl Iterator<Item = (usize, Assignment)>,
    ) -> Vec<Assignment> {
        let mut state = self.state.lock();
        let mut undelivered = Vec::new();
        for (worker, assignment) in assignments {
            if state.closed {
                undelivered.push(assignment);
            } else if assignment.is_suspect() {
                state.suspects.push_back(assignment);
            } else {
                match state.seats.get_mut(&worker) {
                    Some(seat) if seat.takes_claimed() => {
                        seat.waits = Waits::Not;
                        seat.mailbox = Some(assignment);
                        seat.wake_up.wake();
                    }
                    _ => undelivered.push(assignment),
                }
            }
        }
        if !state.suspects.is_empty() && state.suspect.is_none() {
            state.wake_idle(1);
        }
        undelivered
    }

    /// Keeps an idle worker for a job that is being created, if the last look at the store has left
    /// nothing that it should do first, and the bell has not told of anything since.
    pub(crate) fn reserve(&self, bells: Bells) -> Option<usize> {
        let mut state = self.state.lock();
        let known = state.exhausted?;
        if state.closed || known.ready != bells.ready || !state.ahead.is_empty() {
            return None;
        }
        state.promise()
    }

    /// Keeps an idle worker for a job that is being claimed, if another one is idle too.
    pub(crate) fn reserve_spare(&self) -> Option<usize> {
        let mut state = self.state.lock();
        let idle = state.seats.values().filter(|seat| seat.is_free()).count();
        if state.closed || idle < 2 || !state.ahead.is_empty() {
            return None;
        }
        state.promise()
    }

    /// Gives the job to the worker that was kept for it, or returns it when that is no longer there.
    #[must_use]
    pub(crate) fn deliver_reserved(
        &self,
        worker: usize,
        assignment: Assignment,
    ) -> Option<Assignment> {
        let mut state = self.state.lock();
        let closed = state.closed;
        let Some(seat) = state.seats.get_mut(&worker) else {
            return Some(assignment);
        };
        seat.waits = Waits::Not;
        seat.wake_up.wake();
        if closed || seat.leaving {
            return Some(assignment);
        }
        seat.mailbox = Some(assignment);
        None
    }

    /// The worker waits for no job any more.
    pub(crate) fn release(&self, worker: usize) {
        if let Some(seat) = self.state.lock().seats.get_mut(&worker) {
            seat.waits = Waits::Not;
            seat.wake_up.wake();
        }
    }

    /// Gives the assignments to whoever is free first, and rings when only `low_water` are left.
    /// Returns them when the queue is closed.
    #[must_use]
    pub(crate) fn read_ahead(
        &self,
        assignments: Vec<Assignment>,
        low_water: usize,
    ) -> Vec<Assignment> {
        let mut state = self.state.lock();
        if state.closed {
            return assignments;
        }
        state.low_water = low_water;
        let (suspects, others): (Vec<_>, Vec<_>) =
            assignments.into_iter().partition(Assignment::is_suspect);
        state.suspects.extend(suspects);
        let place = |at: Option<&Assignment>| at.map(Assignment::place);
        let in_order = place(state.ahead.back()) <= place(others.first());
        state.ahead.extend(others);
        if !in_order {
            state
                .ahead
                .make_contiguous()
                .sort_by_cached_key(Assignment::place);
        }
        let waiting = state.ahead.len() + usize::from(!state.suspects.is_empty());
        state.wake_idle(waiting);
        Vec::new()
    }

    /// The store has been looked at, and if all of it was handed out, `exhausted` is what the bell
    /// had told before: whoever waited for that takes what there is.
    pub(crate) fn tell_news(&self, exhausted: Option<Bells>) {
        let mut state = self.state.lock();
        state.exhausted = exhausted;
        for seat in state.seats.values_mut() {
            if std::mem::take(&mut seat.wants_news) {
                seat.wake_up.wake();
            }
        }
    }

    pub(crate) fn need(&self) -> Need {
        let state = self.state.lock();
        let idle = state.seats.iter().filter(|(_, seat)| seat.is_idle());
        let news = idle.clone().filter(|(_, seat)| seat.wants_news);
        Need {
            want_news: news.count(),
            idle: idle.map(|(worker, _)| *worker).collect(),
            ahead: state.ahead.len(),
            suspects: state.suspect.is_some() || !state.suspects.is_empty(),
        }
    }

    /// Lets the claims go on.
    pub(crate) fn want(&self) {
        self.wanting.notify_one();
    }

    /// Returns when [`need`](Self::need) may have grown.
    pub(crate) async fn wanting(&self) {
        self.wanting.notified().await;
    }

    /// Takes back what was read ahead and has waited for longer than `patience`: the workers are in
    /// jobs that take longer than was thought.
    pub(crate) fn take_back(&self, patience: Duration) -> Vec<Assignment> {
        take_old(&mut self.state.lock().ahead, patience)
    }

    /// Takes back suspects that have waited for longer than `patience`.
    pub(crate) fn take_back_suspects(&self, patience: Duration) -> Vec<Assignment> {
        take_old(&mut self.state.lock().suspects, patience)
    }

    /// Takes back what was read ahead beyond what the idle workers take now, the last first.
    pub(crate) fn take_back_rest(&self) -> Vec<Assignment> {
        let mut state = self.state.lock();
        let idle = state.seats.values().filter(|seat| seat.is_idle()).count();
        let kept = idle.min(state.ahead.len());
        state.ahead.drain(kept..).collect()
    }

    /// Takes back all that nobody has begun.
    pub(crate) fn drain(&self) -> Vec<Assignment> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let mut left: Vec<_> = state.ahead.drain(..).collect();
        left.extend(state.suspects.drain(..));
        let mailboxes = state.seats.values_mut();
        left.extend(mailboxes.filter_map(|seat| seat.mailbox.take()));
        left
    }

    /// Hands out nothing any more, and returns what nobody has begun.
    pub(crate) fn close(&self) -> Vec<Assignment> {
        self.state.lock().closed = true;
        let left = self.drain();
        for seat in self.state.lock().seats.values() {
            seat.wake_up.wake();
        }
        left
    }
}

/// Takes out what was claimed longer ago than `patience`.
fn take_old(queue: &mut VecDeque<Assignment>, patience: Duration) -> Vec<Assignment> {
    let waits = |assignment: &Assignment| assignment.claimed_at.elapsed() > patience;
    if !queue.iter().any(waits) {
        return Vec::new();
    }
    let (old, others): (Vec<_>, Vec<_>) = queue.drain(..).partition(waits);
    queue.extend(others);
    old
}
