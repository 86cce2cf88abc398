//! The kinds of the mix, and what each of their jobs is to do, which depends on its numbers alone.

use std::time::Duration;

use rocketjob::State;
use serde::{Deserialize, Serialize};

/// How many jobs of a kind may run at a time, where it is throttled.
pub(crate) const RETURN_RUNNING: usize = 3;
pub(crate) const THROTTLE_RUNNING: usize = 4;
pub(crate) const THROTTLE_BY_RUNNING: usize = 2;
pub(crate) const CRON_END_RUNNING: usize = 1;
/// How many jobs of [`Kind::Rate`] may start in a second.
pub(crate) const RATE: usize = 15;
/// How often jobs of [`Kind::Retry`] are tried again.
const RETRY_LIMIT: i64 = 3;
/// The window of [`Kind::Window`] opens every so many seconds, for so many.
pub(crate) const WINDOW_EVERY: i64 = 4;
pub(crate) const WINDOW_OPEN: i64 = 2;
/// The schedule of the kinds with `#[cron]`: each second.
pub(crate) const SCHEDULE: &str = "* * * * * * UTC";
/// How many values the fields have that jobs are told apart by.
pub(crate) const KEYS: i64 = 3;
/// How many chains there are of each kind whose chains end by themselves.
pub(crate) const CHAINS: i64 = 2;

/// A kind of the mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// `#[retry]`, callbacks, `timeout` and `expires_in`.
    Retry,
    /// `#[unique]` that refuses.
    Reject,
    /// `#[unique]` that returns the job that is there, `#[retry]`, `#[throttle]` and callbacks.
    Return,
    /// `#[unique]` whose later job takes the place of one that waits.
    Replace,
    /// `#[singleton]`.
    Singleton,
    /// `#[throttle]`.
    Throttle,
    /// `#[throttle]` by a field.
    ThrottleBy,
    /// `#[rate_limit]` and `#[retry]`.
    Rate,
    /// What [`Kind::After`] waits for.
    First,
    /// `#[depends_on]`.
    After,
    /// `#[processing_window]`, `timeout` and `expires_in`.
    Window,
    /// `#[cron]` whose next instance is made at the start, and `#[retry]`.
    Cron,
    /// `#[cron]` whose next instance is made at the end, any number of chains, and `#[throttle]`.
    CronEnd,
    /// `#[restart]`.
    Restart,
}

impl Kind {
    pub(crate) const ALL: [Self; 14] = [
        Self::Retry,
        Self::Reject,
        Self::Return,
        Self::Replace,
        Self::Singleton,
        Self::Throttle,
        Self::ThrottleBy,
        Self::Rate,
        Self::First,
        Self::After,
        Self::Window,
        Self::Cron,
        Self::CronEnd,
        Self::Restart,
    ];

    /// Those of which one job of a key may be active.
    pub(crate) const UNIQUE: [Self; 4] =
        [Self::Reject, Self::Return, Self::Replace, Self::Singleton];

    /// The name under which it is stored.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "MixRetry",
            Self::Reject => "MixReject",
            Self::Return => "MixReturn",
            Self::Replace => "MixReplace",
            Self::Singleton => "MixSingleton",
            Self::Throttle => "MixThrottle",
            Self::ThrottleBy => "MixThrottleBy",
            Self::Rate => "MixRate",
            Self::First => "MixFirst",
            Self::After => "MixAfter",
            Self::Window => "MixWindow",
            Self::Cron => "MixCron",
            Self::CronEnd => "MixCronEnd",
            Self::Restart => "MixRestart",
        }
    }

    /// The kind that is stored under this name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Whether its completed jobs go.
    pub(crate) const fn vanishes(self) -> bool {
        matches!(self, Self::CronEnd | Self::Restart)
    }

    /// How many jobs of it are created each second, beside those of others that ask for a key.
    pub(crate) const fn per_second(self) -> i64 {
        match self {
            Self::Retry | Self::Rate => 10,
            Self::Throttle | Self::ThrottleBy | Self::After | Self::Window => 6,
            Self::First => 1,
            _ => 0,
        }
    }

    /// How many jobs of it may run at a time, and whether those of each key count apart.
    pub(crate) const fn running(self) -> Option<(usize, bool)> {
        match self {
            Self::Return => Some((RETURN_RUNNING, false)),
            Self::Throttle => Some((THROTTLE_RUNNING, false)),
            Self::ThrottleBy => Some((THROTTLE_BY_RUNNING, true)),
            Self::CronEnd => Some((CRON_END_RUNNING, false)),
            _ => None,
        }
    }

    /// What the job with this number is to come to; `slot` is the second of the schedule it is for.
    pub(crate) fn plan(self, number: i64, slot: Option<i64>) -> Plan {
        let failures = match self {
            Self::Retry => number % (RETRY_LIMIT + 2),
            Self::Return => number.max(0) % 3,
            Self::Rate if number % 10 == 0 => 1,
            Self::Cron if slot.is_some_and(|slot| slot % 4 == 0) => 1,
            _ => 0,
        };
        let ends = if matches!(self, Self::Retry) && failures > RETRY_LIMIT {
            State::Failed
        } else {
            State::Completed
        };
        Plan { failures, ends }
    }

    /// How long the job with this number works.
    pub(crate) fn works_for(self, number: i64) -> Duration {
        let is_probe = number < 0;
        let number = number.unsigned_abs();
        let milliseconds = match self {
            _ if is_probe => 500,
            Self::First => 400,
            Self::Return | Self::Throttle | Self::ThrottleBy => 20 + number * 37 % 100,
            Self::Reject | Self::Replace | Self::Singleton => 10 + number * 13 % 60,
            Self::Restart | Self::CronEnd => 30,
            _ => number * 7 % 20,
        };
        Duration::from_millis(milliseconds)
    }
}

/// What a job is to come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// How often it fails.
    pub(crate) failures: i64,
    /// In which state it ends.
    pub(crate) ends: State,
}

impl Plan {
    /// How many outcomes are accepted.
    pub(crate) fn outcomes(self) -> usize {
        let completes = i64::from(self.ends == State::Completed);
        usize::try_from(self.failures + completes).unwrap_or(0)
    }

    /// What its callbacks note.
    pub(crate) fn history(self) -> Vec<&'static str> {
        let mut history = Vec::new();
        for outcome in 1..=self.outcomes() {
            let end = match self.ends {
                State::Completed if outcome == self.outcomes() => "complete",
                State::Failed if outcome == self.outcomes() => "fail",
                _ => "retry",
            };
            history.extend(["start", end]);
        }
        history
    }
}
