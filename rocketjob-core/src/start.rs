//! Starts in the windows of rates: a claimed job begins at the time for which it was booked, or moves
//! its booking.
//!
//! A busy machine may stop a thread at any moment, and lets it go on much later. So the clock is looked
//! at once more right before the job's own code: what is late then moves its booking afterwards, while
//! its place cannot have been given to another start yet.
//!
//! What is kept of a rate is one document, and each move replaces it. So the jobs of one process that
//! come too late at the same time move together.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::{
    clock::later,
    definition::Definition,
    document::JobDocument,
    error::Result,
    registry::limits_of,
    storage::{JobStore, LimitStore},
    stored_limit::{MOST_LATE, Rate, StoredLimit, change_limit},
};

/// After how long a job asks again that is late although its booking has just been moved.
const AGAIN: Duration = Duration::from_millis(1);

/// What a claimed job is to do for the windows of its rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It has none, and begins.
    Unlimited,
    /// It begins now.
    Now,
    /// It asks again after this time.
    After(Duration),
    /// It may not begin, since it has lost its place.
    Lost,
}

/// How a job begins, as it turns out at its last look at the clock.
#[derive(Debug, Clone)]
pub enum Beginning {
    /// As it was booked.
    InTime,
    /// A little late: it begins, and [`Starts::correct`] moves its bookings.
    Late(LateStart),
    /// Too late: it must not begin, since another start may have its place.
    Missed,
}

/// A start that was later than it was booked.
#[derive(Debug, Clone)]
pub struct LateStart {
    rates: Vec<(String, Rate)>,
    booked: Timestamp,
    began: Timestamp,
}

/// Lets the jobs of one process begin in time.
#[derive(Debug, Default)]
pub struct Starts {
    keys: Mutex<BTreeMap<String, Arc<Queue>>>,
}

/// Moves of one rate, of which one at a time is written.
#[derive(Debug, Default)]
struct Queue {
    writing: futures_util::lock::Mutex<()>,
    waiting: Mutex<Vec<Move>>,
}

/// A booking that is to be moved.
#[derive(Debug, Clone)]
struct Move {
    rate: Rate,
    booked: Timestamp,
    start: Timestamp,
    late: Duration,
    /// Whether there was a place for it; `None` while nobody has tried.
    outcome: Arc<Mutex<Option<bool>>>,
}

impl Starts {
    /// Nobody waits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets a claimed job begin in the windows of its rates, as it is booked at `booked`. When it is
    /// late, its bookings are moved, also that in `booked`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn begin<S: JobStore + LimitStore + ?Sized>(
        &self,
        store: &S,
        definition: &Definition,
        job: &JobDocument,
        booked: &mut Timestamp,
    ) -> Result<Turn> {
        let now = store.now();
        let rates = rates_of(definition, job, now);
        let Some(slack) = rates.iter().map(|(_, rate)| rate.slack() / 2).min() else {
            return Ok(Turn::Unlimited);
        };
        if now > later(*booked, slack) {
            // The later it is, the slower the store and this machine are.
            let late = Duration::try_from(now.duration_since(*booked)).unwrap_or_default();
            let least = rates.iter().map(|(_, rate)| rate.least_lead()).max();
            let start = later(now, late.max(least.unwrap_or(AGAIN)).min(MOST_LATE));
            for (key, rate) in &rates {
                let late = late.min(MOST_LATE);
                if !self
                    .move_start(store, key, *rate, *booked, start, late)
                    .await?
                {
                    return Ok(Turn::Lost);
                }
            }
            *booked = start;
        }
        let now = store.now();
        if now > later(*booked, slack) {
            // To move it took longer than it was moved by: what it is booked for is over again.
            return Ok(Turn::After(AGAIN));
        }
        Ok(match Duration::try_from(booked.duration_since(now)) {
            Ok(wait) if !wait.is_zero() => Turn::After(wait),
            _ => Turn::Now,
        })
    }

    /// Looks at the clock for the last time before the code of a job that is booked at `booked`.
    pub fn look<S: JobStore + ?Sized>(
        store: &S,
        definition: &Definition,
        job: &JobDocument,
        booked: Timestamp,
    ) -> Beginning {
        let rates = rates_of(definition, job, store.now());
        let began = store.now();
        let is_after = |part: fn(&Rate) -> Duration| {
            let mut rates = rates.iter();
            rates.any(|(_, rate)| began > later(booked, part(rate)))
        };
        if is_after(Rate::most_late) {
            Beginning::Missed
        } else if is_after(|rate| rate.slack() / 2) {
            Beginning::Late(LateStart {
                rates,
                booked,
                began,
            })
        } else {
            Beginning::InTime
        }
    }

    /// Moves the bookings of a job to the moment at which it has begun.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn correct<S: JobStore + LimitStore + ?Sized>(
        &self,
        store: &S,
        start: &LateStart,
    ) -> Result<()> {
        let LateStart { booked, began, .. } = *start;
        let late = Duration::try_from(began.duration_since(booked)).unwrap_or_default();
        for (key, rate) in &start.rates {
            let moved = self
                .move_start(store, key, *rate, booked, began, late)
                .await?;
            if !moved {
                tracing::warn!(key, "a start was late, and its place had been given on");
            }
        }
        Ok(())
    }

    /// Moves the booking of a job to `start`, or books anew. `false` when there is no place for it.
    async fn move_start<S: JobStore + LimitStore + ?Sized>(
        &self,
        store: &S,
        key: &str,
        rate: Rate,
        booked: Timestamp,
        start: Timestamp,
        late: Duration,
    ) -> Result<bool> {
        let queue = Arc::clone(self.keys.lock().entry(key.to_owned()).or_default());
        let outcome = Arc::new(Mutex::new(None));
        let own = Move {
            rate,
            booked,
            start,
            late,
            outcome: Arc::clone(&outcome),
        };
        queue.waiting.lock().push(own.clone());
        let writing = queue.writing.lock().await;
        let moved = outcome.lock().take();
        let moved = if let Some(moved) = moved {
            Ok(moved)
        } else {
            let mut all = std::mem::take(&mut *queue.waiting.lock());
            if !all.iter().any(|step| Arc::ptr_eq(&step.outcome, &outcome)) {
                // Whoever took it has failed.
                all.push(own);
            }
            let written = write(store, key, &all).await;
            written.map(|()| outcome.lock().take().unwrap_or(false))
        };
        drop(writing);
        self.forget(key, &queue);
        moved
    }

    /// Nobody is left who waits for this key.
    fn forget(&self, key: &str, queue: &Arc<Queue>) {
        let mut keys = self.keys.lock();
        // The map's own and this one.
        if Arc::strong_count(queue) <= 2 {
            keys.remove(key);
        }
    }
}

/// The rates of a job.
fn rates_of(definition: &Definition, job: &JobDocument, now: Timestamp) -> Vec<(String, Rate)> {
    // What cannot be told now was told at the claim: the job fails for it elsewhere.
    let limits = limits_of(definition, job, now).unwrap_or_default();
    let rates = limits.into_iter().filter_map(|limit| {
        let rate = limit.rate()?;
        Some((limit.key, rate))
    });
    rates.collect()
}

/// Makes all moves in one step, and tells each what became of it. After an error, those who wait find
/// nothing told, and try for themselves.
async fn write<S: JobStore + LimitStore + ?Sized>(
    store: &S,
    key: &str,
    moves: &[Move],
) -> Result<()> {
    let now = store.now();
    let moved = change_limit(store, key, |limit| {
        let one = |step: &Move| move_one(limit, step, now);
        moves.iter().map(one).collect::<Vec<bool>>()
    });
    let Some(moved) = moved.await? else {
        return Ok(());
    };
    for (step, moved) in moves.iter().zip(moved) {
        *step.outcome.lock() = Some(moved);
    }
    Ok(())
}

fn move_one(limit: &mut StoredLimit, step: &Move, now: Timestamp) -> bool {
    limit.note_late(step.rate, step.booked, step.late, now);
    if limit.move_start(step.rate, step.booked, step.start) {
        return true;
    }
    limit.book_at(step.rate, step.start)
}
