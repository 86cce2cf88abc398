//! How long a failed job waits before it is tried again: pure functions of how often it failed.

use std::time::Duration;

use bson::oid::ObjectId;
use sha2::{Digest, Sha256};

use crate::failure::JobFailure;

/// What the waits begin with where nothing else is said; the original's.
const DELAY: Duration = Duration::from_secs(5);

/// How the waits grow. `n` is the number of failures that were tried again before: 0 for the first.
#[derive(Debug, Clone, Copy)]
pub enum Backoff {
    /// `n⁴` seconds and `delay`: 5, 6, 21, 86, 261 … seconds with the delay of the original.
    Polynomial {
        /// The first wait.
        delay: Duration,
    },
    /// `delay × factorⁿ`: 5, 10, 20, 40 … seconds.
    Exponential {
        /// The first wait.
        delay: Duration,
        /// By how much each wait is longer than the one before; at least 1.
        factor: f64,
    },
    /// Always `delay`.
    Fixed {
        /// Each wait.
        delay: Duration,
    },
    /// What the function says of `n` and of the failure.
    By(fn(u32, &JobFailure) -> Duration),
}

impl Backoff {
    /// The original's.
    pub const POLYNOMIAL: Self = Self::Polynomial { delay: DELAY };
    /// Twice as long each time, from 5 seconds.
    pub const EXPONENTIAL: Self = Self::Exponential {
        delay: DELAY,
        factor: 2.0,
    };
    /// Always 5 seconds.
    pub const FIXED: Self = Self::Fixed { delay: DELAY };

    /// How long a job waits that was tried again `n` times before; never an overflow, but the
    /// longest duration there is.
    ///
    /// ```
    /// use rocketjob_core::{Backoff, JobFailure};
    ///
    /// let failure = JobFailure::message("no answer");
    /// let wait = |n| Backoff::POLYNOMIAL.wait(n, &failure).as_secs();
    /// assert_eq!([0, 1, 2, 3, 24].map(wait), [5, 6, 21, 86, 331_781]);
    /// let wait = |n| Backoff::EXPONENTIAL.wait(n, &failure).as_secs();
    /// assert_eq!([0, 1, 2, 10].map(wait), [5, 10, 20, 5_120]);
    /// ```
    pub fn wait(&self, n: u32, failure: &JobFailure) -> Duration {
        match *self {
            Self::Polynomial { delay } => {
                Duration::from_secs(u64::from(n).saturating_pow(4)).saturating_add(delay)
            }
            Self::Exponential { delay, factor } => {
                let grown = delay.as_secs_f64() * factor.powi(i32::try_from(n).unwrap_or(i32::MAX));
                Duration::try_from_secs_f64(grown).unwrap_or(Duration::MAX)
            }
            Self::Fixed { delay } => delay,
            Self::By(wait) => wait(n, failure),
        }
    }
}

/// `wait`, longer by up to the share `jitter` of it, so that jobs that failed together do not come
/// back together.
///
/// How much longer is made of the job's id and of `n`: the same for the same job, and spread evenly
/// over all jobs.
pub fn jittered(wait: Duration, jitter: f64, id: ObjectId, n: u32) -> Duration {
    let longer = wait.as_secs_f64() * jitter * share(id, n);
    let longer = Duration::try_from_secs_f64(longer).unwrap_or(Duration::ZERO);
    wait.saturating_add(longer)
}

/// A number from 0 to less than 1.
fn share(id: ObjectId, n: u32) -> f64 {
    let digest = Sha256::new()
        .chain_update(id.bytes())
        .chain_update(n.to_be_bytes())
        .finalize();
    let bits = digest
        .iter()
        .take(4)
        .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(backoff: Backoff, n: u32) -> f64 {
        let failure = JobFailure::message("no answer");
        backoff.wait(n, &failure).as_secs_f64()
    }

    #[test]
    fn waits_grow_as_their_formulas_say() {
        for n in 0..60 {
            let power = f64::from(n).powi(4) + 5.0;
            assert!((seconds(Backoff::POLYNOMIAL, n) - power).abs() < 1e-6);
            let doubled = 5.0 * 2_f64.powi(i32::try_from(n).unwrap());
            assert!((seconds(Backoff::EXPONENTIAL, n) - doubled).abs() < 1e-6 * doubled);
            assert!((seconds(Backoff::FIXED, n) - 5.0).abs() < 1e-6);
        }
    }

    #[test]
    fn no_number_of_failures_overflows() {
        let failure = JobFailure::message("no answer");
        for n in [1_000, 100_000, u32::MAX] {
            assert!(Backoff::POLYNOMIAL.wait(n, &failure) >= Duration::from_secs(1 << 39));
            assert_eq!(Backoff::EXPONENTIAL.wait(n, &failure), Duration::MAX);
        }
    }

    #[test]
    fn jitter_differs_from_job_to_job_and_not_for_the_same() {
        let wait = Duration::from_secs(100);
        let ids: Vec<_> = (0..200).map(|_| ObjectId::new()).collect();
        let waits: Vec<_> = ids.iter().map(|id| jittered(wait, 0.5, *id, 3)).collect();
        assert!(
            waits
                .iter()
                .all(|w| (100.0..150.0).contains(&w.as_secs_f64()))
        );
        let low = waits.iter().filter(|w| w.as_secs_f64() < 125.0).count();
        assert!(
            (50..150).contains(&low),
            "{low} of 200 lie in the lower half"
        );
        assert_eq!(jittered(wait, 0.5, ids[0], 3), waits[0]);
        assert_ne!(jittered(wait, 0.5, ids[0], 4), waits[0]);
        assert_eq!(jittered(wait, 0.0, ids[0], 3), wait);
    }
}
