//! The server's time, told without asking the server each time.

use std::time::{Duration, Instant};

use bson::{Document, doc};
use jiff::Timestamp;
use mongodb::{Database, error::Error as DriverError};
use parking_lot::Mutex;
use rocketjob_core::{in_milliseconds, later, timestamp};

/// How many samples are taken at the start, and when the last good one is old; the one with the
/// shortest way is kept. Several processes agree on the time of a start only as far as theirs do.
const SAMPLES: usize = 12;
/// One with so short a way is good enough.
const SHORT: Duration = Duration::from_micros(800);
/// After this time new samples are better than the old one: two clocks drift apart.
const STALE: Duration = Duration::from_mins(1);

/// The server's time when it was asked, and this machine's monotonic clock since then.
#[derive(Debug)]
pub(crate) struct ServerClock(Mutex<Sample>);

#[derive(Debug, Clone, Copy)]
struct Sample {
    time: Timestamp,
    taken: Instant,
    round_trip: Duration,
}

impl ServerClock {
    /// Asks the server a few times.
    pub(crate) async fn start(database: &Database) -> Result<Self, DriverError> {
        Ok(Self(Mutex::new(Sample::best(database).await?)))
    }

    /// The server's time now.
    pub(crate) fn now(&self) -> Timestamp {
        let sample = *self.0.lock();
        in_milliseconds(later(sample.time, sample.taken.elapsed()))
    }

    /// Asks the server again, and keeps the answer if it is better than the one so far.
    pub(crate) async fn resample(&self, database: &Database) -> Result<(), DriverError> {
        let is_stale = self.0.lock().taken.elapsed() > STALE;
        let sample = if is_stale {
            Sample::best(database).await?
        } else {
            Sample::take(database).await?
        };
        let mut kept = self.0.lock();
        if is_stale || sample.round_trip <= kept.round_trip {
            *kept = sample;
        }
        Ok(())
    }
}

impl Sample {
    /// The one of a few that had the shortest way.
    async fn best(database: &Database) -> Result<Self, DriverError> {
        let mut best = Self::take(database).await?;
        for _ in 1..SAMPLES {
            if best.round_trip <= SHORT {
                break;
            }
            let sample = Self::take(database).await?;
            if sample.round_trip < best.round_trip {
                best = sample;
            }
        }
        Ok(best)
    }

    async fn take(database: &Database) -> Result<Self, DriverError> {
        let sent = Instant::now();
        let reply = database.run_command(doc! { "hello": 1 }).await?;
        let round_trip = sent.elapsed();
        Ok(Self {
            // The server looked at its clock somewhere on the way: half of it is the best guess.
            time: later(local_time(&reply), round_trip / 2),
            taken: sent + round_trip,
            round_trip,
        })
    }
}

fn local_time(hello: &Document) -> Timestamp {
    hello
        .get_datetime("localTime")
        .ok()
        .and_then(|date| timestamp(*date))
        .unwrap_or_default()
}
