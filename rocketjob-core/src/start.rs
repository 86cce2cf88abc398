//! Starts in the windows of rates: a claimed job begins at the time for which it was booked, or moves
//! its booking.
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
    stored_limit::{MOST_LATE, Rate, StoredLimit, TOGETHER, change_limit},
};

/// After how long a job asks again that is late although its booking has just been moved.
const AGAIN: Duration = Duration::from_millis(1);

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

    /// Lets a claimed job begin in the windows of its rates, as it is booked at `booked`: says how long
    /// it has to wait until it asks again, or nothing when it may begin. When it is late, its bookings
    /// are moved, also that in `booked`. `None` when it may not begin, since it has lost its place.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn begin<S: JobStore + LimitStore + ?Sized>(
        &self,
        store: &S,
        definition: &Definition,
        job: &JobDocument,
        booked: &mut Timestamp,
    ) -> Result<Option<Duration>> {
        let now = store.now();
        // What cannot be told now was told at the claim: the job fails for it elsewhere.
        let limits = limits_of(definition, job, now).unwrap_or_default();
        let rates: Vec<_> = limits
            .iter()
            .filter_map(|limit| Some((&limit.key, limit.rate()?)))
            .collect();
        let Some(slack) = rates.iter().map(|(_, rate)| rate.slack() / 2).min() else {
            return Ok(Some(Duration::ZERO));
        };
        if now > later(*booked, slack) {
            // The later it is, the slower the store and this machine are.
            let late = Duration::try_from(now.duration_since(*booked)).unwrap_or_default();
            let start = later(now, late.clamp(TOGETHER, MOST_LATE));
            for (key, rate) in rates {
                let late = late.min(MOST_LATE);
                if !self
                    .move_start(store, key, rate, *booked, start, late)
                    .await?
                {
                    return Ok(None);
                }
            }
            *booked = start;
        }
        let now = store.now();
        if now > later(*booked, slack) {
            // To move it took longer than it was moved by: what it is booked for is over again.
            return Ok(Some(AGAIN));
        }
        let wait = booked.duration_since(now);
        Ok(Some(Duration::try_from(wait).unwrap_or_default()))
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
    limit.note_late(step.rate, step.late);
    if limit.move_start(step.rate, step.booked, step.start) {
        return true;
    }
    let anew = limit.book(step.rate, now, 1, false).pop();
    anew.is_some_and(|anew| limit.move_start(step.rate, anew, step.start))
}
