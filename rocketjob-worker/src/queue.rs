//! What lies between the claims of a server and its worker threads.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use rocketjob_core::{Claim, Handler, JobContext};
use tokio::sync::Notify;

/// A claimed job on its way to a worker.
#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) context: JobContext,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) claim: Claim,
    pub(crate) claimed_at: Instant,
}

/// Hands claimed jobs to workers: to a certain one that is idle, or to whoever is free first.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    wake_ups: Vec<Condvar>,
    /// Rung when the claims should go on: a worker is idle, or what was read ahead runs out.
    wanting: Notify,
}

#[derive(Debug)]
struct State {
    mailboxes: Vec<Option<Assignment>>,
    ahead: VecDeque<Assignment>,
    idle: Vec<bool>,
    low_water: usize,
    closed: bool,
}

/// What the claims go by.
#[derive(Debug)]
pub(crate) struct Need {
    /// The numbers of the workers that have nothing to do.
    pub(crate) idle: Vec<usize>,
    /// How many jobs were read ahead and not begun.
    pub(crate) ahead: usize,
}

impl Queue {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            state: Mutex::new(State {
                mailboxes: (0..workers).map(|_| None).collect(),
                ahead: VecDeque::new(),
                idle: vec![false; workers],
                low_water: 0,
                closed: false,
            }),
            wake_ups: (0..workers).map(|_| Condvar::new()).collect(),
            wanting: Notify::new(),
        }
    }

    /// The next job for `worker`; blocks until there is one. `None` when the server stops.
    pub(crate) fn next(&self, worker: usize) -> Option<Assignment> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return state.mailboxes[worker].take();
            }
            if let Some(assignment) = state.mailboxes[worker].take() {
                return Some(assignment);
            }
            if let Some(assignment) = state.ahead.pop_front() {
                if state.ahead.len() <= state.low_water {
                    self.wanting.notify_one();
                }
                return Some(assignment);
            }
            state.idle[worker] = true;
            self.wanting.notify_one();
            self.wake_ups[worker].wait(&mut state);
            state.idle[worker] = false;
        }
    }

    /// Gives each assignment to its idle worker.
    pub(crate) fn deliver(&self, assignments: impl Iterator<Item = (usize, Assignment)>) {
        let mut state = self.state.lock();
        for (worker, assignment) in assignments {
            state.idle[worker] = false;
            state.mailboxes[worker] = Some(assignment);
            self.wake_ups[worker].notify_one();
        }
    }

    /// Gives the assignments to whoever is free first, and rings when only `low_water` are left.
    pub(crate) fn read_ahead(
        &self,
        assignments: impl Iterator<Item = Assignment>,
        low_water: usize,
    ) {
        let mut state = self.state.lock();
        state.low_water = low_water;
        state.ahead.extend(assignments);
        let waiting = state.ahead.len();
        for worker in (0..state.idle.len())
            .filter(|worker| state.idle[*worker])
            .take(waiting)
        {
            self.wake_ups[worker].notify_one();
        }
    }

    pub(crate) fn need(&self) -> Need {
        let state = self.state.lock();
        let idle = (0..state.idle.len())
            .filter(|worker| state.idle[*worker])
            .collect();
        Need {
            idle,
            ahead: state.ahead.len(),
        }
    }

    /// Returns when [`need`](Self::need) may have grown.
    pub(crate) async fn wanting(&self) {
        self.wanting.notified().await;
    }

    /// Takes back what was read ahead, when the first of it has waited for longer than `patience`:
    /// the workers are in jobs that take longer than was thought.
    pub(crate) fn take_back(&self, patience: Duration) -> Vec<Assignment> {
        let mut state = self.state.lock();
        match state.ahead.front() {
            Some(first) if first.claimed_at.elapsed() > patience => state.ahead.drain(..).collect(),
            _ => Vec::new(),
        }
    }

    /// Hands out nothing any more, and returns what nobody has begun.
    pub(crate) fn close(&self) -> Vec<Assignment> {
        let mut state = self.state.lock();
        state.closed = true;
        let mut left: Vec<_> = state.ahead.drain(..).collect();
        left.extend(state.mailboxes.iter_mut().filter_map(Option::take));
        for wake_up in &self.wake_ups {
            wake_up.notify_one();
        }
        left
    }
}
