//! Limits: what a job needs, besides a worker, in order to run.
//!
//! A claim asks for the limits of each job that it is about to hand out, and gives the job what it
//! needs in the same atomic step; a job that cannot have it is held, keeps its place in the order,
//! and is in nobody's way. What is kept of a limit in the store is a
//! [`StoredLimit`](crate::StoredLimit), and who lets held jobs go on is in `release.rs`.

use std::{fmt::Debug, time::Duration};

use jiff::Timestamp;

use crate::{
    change::Change, document::JobDocument, encoding::date, failure::JobFailure, name,
    stored_limit::Rate,
};

/// How often it is looked whether a job of another kind still runs, where nobody tells.
const LOOK: Duration = Duration::from_secs(1);

/// What a job needs in order to run. Jobs with the same key share it.
///
/// # Examples
/// ```
/// use rocketjob_core::Limit;
/// use std::time::Duration;
///
/// // At most 3 at a time, at most 100 starts in any minute, none while a migration runs.
/// let limits = [
///     Limit::running("mail", 3),
///     Limit::starts("mail:rate", 100, Duration::from_secs(60)),
///     Limit::while_none_runs("MigrationJob"),
/// ];
/// assert_eq!(Limit::hold(&limits[2].key), "limit:after:MigrationJob");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// What is limited, such as `throttle:ReportJob`.
    pub key: String,
    /// What must hold for the job to start.
    pub rule: LimitRule,
}

/// What must hold for a job to start.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitRule {
    /// One of so many places is free: a job takes one as long as it runs.
    Running {
        /// How many may run at a time.
        max: u32,
    },
    /// One of so many starts is left: a job uses one up for as long as the window is.
    Starts {
        /// How many may start in any window.
        max: u32,
        /// How long the window is.
        per: Duration,
    },
    /// No job of this kind runs when the job starts.
    NoneRuns {
        /// The other kind.
        kind: String,
    },
    /// The job's fields are of a later version than this program knows: a newer one lets it go on.
    LaterVersion,
    /// Nothing helps now; it is asked again after a while.
    Closed {
        /// After how long.
        again: Duration,
    },
    /// The time has not come: the job gets this `run_at`.
    NotBefore {
        /// When it has.
        time: Timestamp,
    },
}

impl Limit {
    /// At most `max` jobs with this key run at any moment; with 0 none does.
    pub fn running(key: impl Into<String>, max: u32) -> Self {
        Self {
            key: key.into(),
            rule: LimitRule::Running { max },
        }
    }

    /// At most `max` jobs with this key start in any window of the length `per`; with 0 none does.
    pub fn starts(key: impl Into<String>, max: u32, per: Duration) -> Self {
        Self {
            key: key.into(),
            rule: LimitRule::Starts { max, per },
        }
    }

    /// The job does not start while a job of `kind` runs.
    pub fn while_none_runs(kind: impl Into<String>) -> Self {
        let kind = kind.into();
        Self {
            key: format!("after:{kind}"),
            rule: LimitRule::NoneRuns { kind },
        }
    }

    /// A program starts the job that knows `version` of its kind.
    pub fn version(kind: &str, version: u32) -> Self {
        Self {
            key: format!("version:{kind}:{version}"),
            rule: LimitRule::LaterVersion,
        }
    }

    /// The job may not start now. After `again` its limits are asked again, once for all jobs that
    /// wait with this key; so the answer must be the same for all of them.
    pub fn closed(key: impl Into<String>, again: Duration) -> Self {
        Self {
            key: key.into(),
            rule: LimitRule::Closed { again },
        }
    }

    /// The job may not start before `time`, which becomes its `run_at`.
    pub fn not_before(time: Timestamp) -> Self {
        Self {
            key: name::HOLD_SCHEDULED.into(),
            rule: LimitRule::NotBefore { time },
        }
    }

    /// After how long it is asked again, where time alone does not tell when a job may go on.
    pub fn again(&self) -> Option<Duration> {
        match self.rule {
            LimitRule::NoneRuns { .. } => Some(LOOK),
            LimitRule::Closed { again } => Some(again),
            _ => None,
        }
    }

    /// The limit as one of starts.
    pub fn rate(&self) -> Option<Rate> {
        match self.rule {
            LimitRule::Starts { max, per } => Some(Rate { max, per }),
            _ => None,
        }
    }

    /// Why a job is held for which this limit has no free place.
    pub fn hold(key: &str) -> String {
        format!("limit:{key}")
    }

    /// What a claim writes to a job that this limit does not let run.
    pub fn wait(&self) -> Change {
        match self.rule {
            LimitRule::NotBefore { time } => Change::new()
                .set(name::HOLD, name::HOLD_SCHEDULED)
                .set(name::RUN_AT, date(time))
                .unset(name::READY),
            _ => Change::new()
                .set(name::HOLD, Self::hold(&self.key))
                .unset(name::READY),
        }
    }

    /// Below which number places may be given to further jobs, of `most` altogether, while the numbers
    /// `used` are in use: as many are given up as are in use from there on. So also where the limit was
    /// larger once, two claims that do not see each other cannot exceed it together.
    pub fn usable(most: u32, used: &[u32]) -> u32 {
        let mut end = most;
        loop {
            let above = used.iter().filter(|number| **number >= end).count();
            let below = most.saturating_sub(u32::try_from(above).unwrap_or(u32::MAX));
            if below >= end {
                return end;
            }
            end = below;
        }
    }

    /// The stored name of the place with this number.
    pub fn slot(key: &str, number: u32) -> String {
        format!("{key}:{number}")
    }

    /// What the stored names of all places of a limit begin with.
    pub fn slot_prefix(key: &str) -> String {
        format!("{key}:")
    }
}

/// Tells the limits of a job. A store asks for each job that it is about to hand out.
pub trait Limits: Debug + Send + Sync {
    /// The limits under which `job` may run at the store's time `now`; it must be given what each of
    /// them says.
    ///
    /// # Errors
    /// The failure that the job gets in place of a start, when its limits cannot be told.
    fn limits(&self, job: &JobDocument, now: Timestamp) -> Result<Vec<Limit>, JobFailure>;

    /// Whether it can tell the limits of jobs of this kind.
    fn knows(&self, kind: &str) -> bool {
        let _ = kind;
        true
    }
}

/// No job has a limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLimits;

impl Limits for NoLimits {
    fn limits(&self, _job: &JobDocument, _now: Timestamp) -> Result<Vec<Limit>, JobFailure> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_use_count_wherever_they_lie() {
        for (most, used, usable) in [
            (5, vec![], 5),
            (5, vec![0, 4], 5),
            (2, vec![1, 3], 0),
            (2, vec![0, 3], 1),
            (3, vec![7, 8, 0], 1),
            (4, vec![7, 8, 0], 2),
            (4, vec![2, 8], 3),
            (0, vec![], 0),
        ] {
            assert_eq!(Limit::usable(most, &used), usable, "{most} {used:?}");
            let free = (0..usable).filter(|number| !used.contains(number)).count();
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            assert!(used.len() + free <= most.max(used.len()), "{used:?}");
        }
        assert_eq!(Limit::usable(u32::MAX, &[9]), u32::MAX);
    }
}
