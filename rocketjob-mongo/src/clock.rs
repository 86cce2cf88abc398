//! The server's time, told without asking the server each time.
//!
//! Each answer of the server tells within which bounds its clock differs from this machine's
//! monotonic one: the server read it after the question was sent and before the answer came. What
//! several answers have in common is narrower than any of them, so a clock that has been asked often
//! is not put wrong by answers that took long (Marzullo's way to combine sources; RFC 5905 §11.2.1).
//! Answers that have nothing in common tell that a clock was set, or that another server is asked
//! now: then the latest counts.

use std::time::{Duration, Instant};

use bson::{Document, doc};
use jiff::Timestamp;
use mongodb::{Database, error::Error as DriverError};
use parking_lot::Mutex;
use rocketjob_core::{in_milliseconds, timestamp};

/// How often the server is asked at the start, at most, and after its clock was set.
const SAMPLES: usize = 12;
/// Bounds that lie no further apart are good enough. The server tells whole milliseconds.
const NARROW: i128 = 2_500_000;
/// By how much two clocks drift apart, in parts of a million: more than those that NTP keeps do.
const DRIFT: i128 = 100;

/// What the server's clock shows, by this machine's monotonic one.
#[derive(Debug)]
pub(crate) struct ServerClock {
    origin: Instant,
    bounds: Mutex<Bounds>,
}

/// Within which bounds the server's time lies ahead of the time since the origin, in nanoseconds, as
/// it was known at `at` after the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    low: i128,
    high: i128,
    at: i128,
}

impl ServerClock {
    /// Asks the server a few times.
    pub(crate) async fn start(database: &Database) -> Result<Self, DriverError> {
        let origin = Instant::now();
        let bounds = Mutex::new(ask(database, origin).await?);
        let clock = Self { origin, bounds };
        clock.narrow(database).await?;
        Ok(clock)
    }

    /// The server's time now.
    pub(crate) fn now(&self) -> Timestamp {
        let ahead = self.bounds.lock().middle();
        let time = ahead.saturating_add(nanoseconds(self.origin.elapsed()));
        in_milliseconds(Timestamp::from_nanosecond(time).unwrap_or_default())
    }

    /// Asks the server again, and a few times more when its clock was set.
    pub(crate) async fn resample(&self, database: &Database) -> Result<(), DriverError> {
        let told = ask(database, self.origin).await?;
        if self.learn(told) == told {
            self.narrow(database).await?;
        }
        Ok(())
    }

    /// Asks the server until its time is known well, or a few times.
    async fn narrow(&self, database: &Database) -> Result<(), DriverError> {
        for _ in 1..SAMPLES {
            if self.bounds.lock().width() <= NARROW {
                break;
            }
            self.learn(ask(database, self.origin).await?);
        }
        Ok(())
    }

    /// Takes what an answer has told into account, and says what is known now.
    fn learn(&self, told: Bounds) -> Bounds {
        let mut bounds = self.bounds.lock();
        *bounds = bounds.with(told);
        *bounds
    }
}

impl Bounds {
    /// What an answer tells that shows `time`, in nanoseconds, to a question that was sent and
    /// answered so long after the origin.
    fn told(time: i128, sent: i128, answered: i128) -> Self {
        Self {
            low: time.saturating_sub(answered),
            // It shows the milliseconds that are over.
            high: time.saturating_add(1_000_000).saturating_sub(sent),
            at: answered,
        }
    }

    /// What is known when an answer has told `new` as well.
    fn with(self, new: Self) -> Self {
        let drifted = (new.at - self.at).max(0) * DRIFT / 1_000_000;
        let low = (self.low - drifted).max(new.low);
        let high = (self.high + drifted).min(new.high);
        if low > high {
            return new;
        }
        let at = self.at.max(new.at);
        Self { low, high, at }
    }

    fn width(self) -> i128 {
        self.high - self.low
    }

    fn middle(self) -> i128 {
        self.low + self.width() / 2
    }
}

async fn ask(database: &Database, origin: Instant) -> Result<Bounds, DriverError> {
    let sent = nanoseconds(origin.elapsed());
    let reply = database.run_command(doc! { "hello": 1 }).await?;
    let answered = nanoseconds(origin.elapsed());
    let time = local_time(&reply).as_nanosecond();
    Ok(Bounds::told(time, sent, answered))
}

fn nanoseconds(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

fn local_time(hello: &Document) -> Timestamp {
    hello
        .get_datetime("localTime")
        .ok()
        .and_then(|date| timestamp(*date))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i128 = 1_000_000;

    /// The answer of a server that is `ahead`, and read its clock a part of the way after `sent`.
    fn answer(ahead: i128, sent: i128, to: i128, back: i128) -> Bounds {
        let read = (sent + to + ahead) / MS * MS;
        Bounds::told(read, sent, sent + to + back)
    }

    #[test]
    fn an_answer_that_took_long_changes_nothing() {
        let good = answer(5_000 * MS, 0, MS / 2, MS / 2);
        let slow = answer(5_000 * MS, 100 * MS, 80 * MS, 0);
        let both = good.with(slow);
        assert!(
            (both.middle() - 5_000 * MS).abs() <= 2 * MS,
            "{both:?}, not the 40 ms off that the second one alone is"
        );
    }

    #[test]
    fn several_answers_that_took_long_tell_more_than_each() {
        let late = answer(5_000 * MS, 0, 50 * MS, 0);
        let early = answer(5_000 * MS, 100 * MS, 0, 50 * MS);
        let both = late.with(early);
        assert!((both.middle() - 5_000 * MS).abs() <= 2 * MS, "{both:?}");
        assert!(both.width() < late.width() / 10);
    }

    #[test]
    fn a_clock_that_was_set_is_followed_at_once() {
        let before = answer(5_000 * MS, 0, MS / 2, MS / 2);
        for set in [1_000 * MS, 65_000 * MS] {
            let after = before.with(answer(set, 10 * MS, MS / 2, MS / 2));
            assert!((after.middle() - set).abs() <= 2 * MS, "{after:?}");
        }
    }

    #[test]
    fn what_was_known_long_ago_is_less_certain() {
        let hour = 3_600_000 * MS;
        let before = answer(5_000 * MS, 0, MS / 2, MS / 2);
        let drifted = 5_000 * MS + 100 * MS;
        let after = before.with(answer(drifted, hour, 20 * MS, 20 * MS));
        assert!((after.middle() - drifted).abs() <= 25 * MS, "{after:?}");
    }
}
