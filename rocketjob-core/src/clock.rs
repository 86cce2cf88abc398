//! Clocks. Only stores have one: everything else asks its store for the time.

use std::{fmt::Debug, sync::Arc, time::Duration};

use bson::oid::ObjectId;
use jiff::Timestamp;
use parking_lot::Mutex;

/// Tells the time to a store.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The time now, in whole milliseconds, as stores keep no finer one.
    fn now(&self) -> Timestamp;
}

/// The clock of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the machine's clock"
    )]
    fn now(&self) -> Timestamp {
        in_milliseconds(Timestamp::now())
    }
}

/// A clock that stands still until it is moved, for tests and simulations.
///
/// ```
/// use std::time::Duration;
/// use rocketjob_core::{Clock, ManualClock};
///
/// let clock = ManualClock::default();
/// let before = clock.now();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!((clock.now() - before).as_secs(), 60);
/// ```
#[derive(Debug, Clone)]
pub struct ManualClock {
    now: Arc<Mutex<Timestamp>>,
}

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        Self {
            now: Arc::new(Mutex::new(in_milliseconds(now))),
        }
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock();
        *now = later(*now, by);
    }

    /// Sets the clock, also backwards.
    pub fn set(&self, now: Timestamp) {
        *self.now.lock() = in_milliseconds(now);
    }
}

impl Default for ManualClock {
    /// Shows the start of the year 2026.
    fn default() -> Self {
        Self::new(Timestamp::constant(1_767_225_600, 0))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.now.lock()
    }
}

/// `time` without what is finer than a millisecond.
pub fn in_milliseconds(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

/// The time `by` after `time`, or the last one that can be told.
pub fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).map_or(Timestamp::MAX, in_milliseconds)
}

/// Mints the ids of one producer: first in, first out.
///
/// An id's seconds come from the store's clock, its counter starts at 0 in each second and its
/// middle part is the producer's own random one. Ids of one source only ever increase, even when
/// the clock goes back.
#[derive(Debug)]
pub struct IdSource {
    producer: [u8; 5],
    last: Mutex<(u32, u32)>,
}

const COUNTER_END: u32 = 1 << 24;

impl Default for IdSource {
    fn default() -> Self {
        Self::new()
    }
}

impl IdSource {
    /// A new producer.
    pub fn new() -> Self {
        // The driver's ids have a random middle part per process; its counter makes ours differ
        // between the sources of one process.
        let seed = ObjectId::new().bytes();
        let mut producer = [0; 5];
        producer.copy_from_slice(&seed[4..9]);
        for (part, counter) in producer.iter_mut().zip(&seed[9..12]) {
            *part ^= counter;
        }
        Self::of(producer)
    }

    /// A producer whose ids are the same in each run: for simulations. No two may share `producer`.
    pub fn of(producer: [u8; 5]) -> Self {
        Self {
            producer,
            last: Mutex::new((0, 0)),
        }
    }

    /// The next id, at the store's time `now`.
    pub fn next(&self, now: Timestamp) -> ObjectId {
        let seconds = u32::try_from(now.as_second()).unwrap_or(u32::MAX);
        let (seconds, counter) = {
            let mut last = self.last.lock();
            *last = match *last {
                (before, _) if seconds > before => (seconds, 0),
                (before, counter) if counter + 1 < COUNTER_END => (before, counter + 1),
                (before, _) => (before + 1, 0),
            };
            *last
        };
        let [_, high, middle, low] = counter.to_be_bytes();
        ObjectId::from_parts(seconds, self.producer, [high, middle, low])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_only_increase_even_when_the_clock_goes_back() {
        let source = IdSource::new();
        let start = ManualClock::default().now();
        let mut ids = vec![source.next(start), source.next(start)];
        ids.push(source.next(start - Duration::from_hours(1)));
        ids.push(source.next(later(start, Duration::from_secs(1))));
        assert!(ids.is_sorted());
        assert_eq!(
            ids[3].bytes()[9..],
            [0, 0, 0],
            "the counter starts at 0 in each second"
        );
    }

    #[test]
    fn a_full_counter_borrows_from_the_next_second() {
        let source = IdSource::new();
        let start = ManualClock::default().now();
        *source.last.lock() = (u32::try_from(start.as_second()).unwrap(), COUNTER_END - 1);
        let next = source.next(start);
        assert_eq!(
            next.timestamp().timestamp_millis() / 1000,
            start.as_second() + 1
        );
    }

    #[test]
    fn two_sources_of_one_process_differ() {
        let now = ManualClock::default().now();
        assert_ne!(IdSource::new().next(now), IdSource::new().next(now));
    }
}
