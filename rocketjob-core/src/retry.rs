//! Retry: a job that failed is tried again by itself, later and later, up to a limit.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    backoff::{Backoff, jittered},
    clock::later,
    concern::Concern,
    document::JobDocument,
    error::ValidationFailed,
    failure::{JobFailure, LOST_CLAIM},
    field::{FieldDefinition, FieldType, ScalarType},
    settlement::{Outcome, Settlement},
};

/// How often a job is tried again that says nothing else; the original's.
pub const DEFAULT_RETRY_LIMIT: u32 = 25;
/// How many failed attempts are kept with a job: the last ones.
pub const KEPT_ATTEMPTS: usize = 25;
/// How many bytes of an attempt's message are kept. The job's `exception` has all of the last one.
pub const KEPT_MESSAGE: usize = 500;

/// `#[retry]`: a job that failed is queued again, to start after a while.
///
/// After the failure number `n` (from 0) it waits [`wait`](Self::wait). While it waits it is queued,
/// with its `run_at`, and keeps its `exception`; `failure_count` counts. It fails for good when it
/// has been tried again `retry_limit` times, when the error is none of those that are worth it, or
/// when the next attempt would come after the job's `expires_at`.
///
/// What the error itself says comes first: `fail_for_good` and `discard` end it, and `retry_after`
/// stands in place of the computed wait and of the choice of errors; the limit holds for it too.
/// A claim that was lost with its server, or handed back, is no attempt.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// How often a job is tried again; 0 for never. Each job has its own, which people may edit.
    pub limit: u32,
    /// How the waits grow.
    pub backoff: Backoff,
    /// The longest wait, before the jitter.
    pub max: Option<Duration>,
    /// By which share of itself, 0 to 1, a wait may be longer.
    pub jitter: f64,
    /// After which errors.
    pub errors: RetryOn,
}

/// After which errors a job is tried again.
#[derive(Debug, Clone, Copy)]
pub enum RetryOn {
    /// After each.
    All,
    /// After these.
    Only(&'static [ErrorClass]),
    /// After all but these.
    Except(&'static [ErrorClass]),
}

/// A class of errors, as it stands in a failure's `class_name`.
#[derive(Debug, Clone, Copy)]
pub enum ErrorClass {
    /// By name: the whole path of the type, or its end, such as `ParseIntError`.
    Named(&'static str),
    /// By type: `ErrorClass::Of(std::any::type_name::<MyError>)`.
    Of(fn() -> &'static str),
}

impl ErrorClass {
    /// Whether a failure of this `class_name` is one of the class.
    pub fn has(&self, class_name: &str) -> bool {
        let named = match self {
            Self::Named(named) => named,
            Self::Of(type_name) => return type_name() == class_name,
        };
        // Without the parameters of a generic type, which have paths of their own.
        let path = class_name.split('<').next().unwrap_or_default();
        [class_name, path].iter().any(|found| {
            found
                .strip_suffix(named)
                .is_some_and(|before| before.is_empty() || before.ends_with("::"))
        })
    }
}

impl RetryOn {
    /// Whether a job that failed so is tried again.
    pub fn includes(&self, failure: &JobFailure) -> bool {
        let any = |classes: &[ErrorClass]| {
            let mut classes = classes.iter();
            classes.any(|class| class.has(&failure.class_name))
        };
        match self {
            Self::All => true,
            Self::Only(classes) => any(classes),
            Self::Except(classes) => !any(classes),
        }
    }
}

/// What [`Retry`] keeps on a job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetryState {
    /// How often the job is tried again; the kind's limit when absent. People may edit it.
    pub retry_limit: Option<i64>,
    /// When it failed, for each failure after which it was tried again.
    pub failed_at_list: Vec<Timestamp>,
    /// Its last failed attempts, at most [`KEPT_ATTEMPTS`], the last one at the end.
    pub retry_history: Vec<FailedAttempt>,
}

/// One attempt that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailedAttempt {
    /// When it ended.
    #[serde(with = "stored_time")]
    pub failed_at: Timestamp,
    /// How long it took.
    pub milliseconds: i64,
    /// The class of its failure.
    pub class_name: String,
    /// The beginning of its failure's message, at most [`KEPT_MESSAGE`] bytes.
    pub message: String,
}

const FIELDS: &[FieldDefinition] = &[
    FieldDefinition {
        label: Some("Retry limit"),
        description: Some("How often the job is tried again by itself."),
        user_editable: true,
        copy_on_restart: true,
        ..field("retry_limit", FieldType::One(ScalarType::Integer))
    },
    FieldDefinition {
        via_text: true,
        ..field("failed_at_list", FieldType::Array(ScalarType::Time))
    },
    field("retry_history", FieldType::Array(ScalarType::Document)),
];

const fn field(name: &'static str, field_type: FieldType) -> FieldDefinition {
    FieldDefinition {
        name,
        field_type,
        via_text: false,
        optional: true,
        label: None,
        description: None,
        user_editable: false,
        copy_on_restart: false,
        default: None,
    }
}

impl Retry {
    /// The original's numbers: 25 times, after `n⁴ + 5` seconds.
    pub const DEFAULT: Self = Self {
        limit: DEFAULT_RETRY_LIMIT,
        backoff: Backoff::POLYNOMIAL,
        max: None,
        jitter: 0.0,
        errors: RetryOn::All,
    };

    /// How long the job `id` waits after a failure, having been tried again `n` times before: what
    /// the backoff says, at most [`max`](Self::max), and the jitter on top of it.
    pub fn wait(&self, n: u32, failure: &JobFailure, id: bson::oid::ObjectId) -> Duration {
        let wait = self.backoff.wait(n, failure);
        let wait = self.max.map_or(wait, |max| wait.min(max));
        jittered(wait, self.jitter, id, n)
    }

    /// When the job is tried again, if it is. `asked` is what the error said.
    fn next(
        &self,
        settlement: &Settlement<'_>,
        state: &RetryState,
        failure: &JobFailure,
        asked: Option<Timestamp>,
    ) -> Option<Timestamp> {
        let job = settlement.job();
        let limit = state.retry_limit.unwrap_or(i64::from(self.limit));
        let n = u32::try_from(state.failed_at_list.len()).unwrap_or(u32::MAX);
        if i64::from(n) >= limit || (asked.is_none() && !self.errors.includes(failure)) {
            return None;
        }
        let wait = || later(settlement.now(), self.wait(n, failure, job.id()));
        let run_at = asked.unwrap_or_else(wait);
        let in_time = job
            .expires_at()
            .is_none_or(|expires_at| run_at <= expires_at);
        in_time.then_some(run_at)
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Concern for Retry {
    type State = RetryState;

    fn name(&self) -> &'static str {
        "retry"
    }

    fn fields(&self) -> &'static [FieldDefinition] {
        FIELDS
    }

    fn initial_state(&self) -> RetryState {
        RetryState {
            retry_limit: Some(i64::from(self.limit)),
            ..RetryState::default()
        }
    }

    fn validate(&self, _job: &JobDocument, state: &RetryState, problems: &mut ValidationFailed) {
        if let Some(limit) = state.retry_limit.filter(|limit| *limit < 0) {
            problems.add("retry_limit", format!("must be 0 or more, and is {limit}"));
        }
    }

    fn decide(&self, settlement: &mut Settlement<'_>, state: &mut RetryState) {
        let (failure, asked) = match settlement.outcome().clone() {
            Outcome::Fail(failure) => (failure, None),
            Outcome::Retry { failure, run_at } => (failure, Some(run_at)),
            Outcome::Abort(failure) => return state.note(settlement, &failure),
            Outcome::Complete | Outcome::HandBack | Outcome::Expire => return,
        };
        if failure.class_name == LOST_CLAIM {
            return;
        }
        state.note(settlement, &failure);
        if settlement.is_final() {
            return;
        }
        settlement.set_outcome(match self.next(settlement, state, &failure, asked) {
            Some(run_at) => {
                state.failed_at_list.push(settlement.now());
                Outcome::Retry { failure, run_at }
            }
            None => Outcome::Fail(failure),
        });
    }
}

impl RetryState {
    /// Notes an attempt that has just failed.
    fn note(&mut self, settlement: &Settlement<'_>, failure: &JobFailure) {
        let failed_at = settlement.now();
        let started_at = settlement.job().started_at().unwrap_or(failed_at);
        let took = failed_at.as_millisecond() - started_at.as_millisecond();
        self.retry_history.push(FailedAttempt {
            failed_at,
            milliseconds: took.max(0),
            class_name: failure.class_name.clone(),
            message: beginning(&failure.message).to_owned(),
        });
        let surplus = self.retry_history.len().saturating_sub(KEPT_ATTEMPTS);
        self.retry_history.drain(..surplus);
    }
}

/// The first [`KEPT_MESSAGE`] bytes, whole characters.
fn beginning(message: &str) -> &str {
    message
        .get(..message.floor_char_boundary(KEPT_MESSAGE))
        .unwrap_or(message)
}

/// A time stamp within a nested document, as a BSON date.
mod stored_time {
    use bson::DateTime;
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use crate::encoding::timestamp;

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        DateTime::from_millis(time.as_millisecond()).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        let date = DateTime::deserialize(from)?;
        timestamp(date).ok_or_else(|| D::Error::custom(format!("{date} is out of range")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_told_by_its_path_or_the_end_of_it() {
        let named = ErrorClass::Named;
        assert!(named("std::io::error::Error").has("std::io::error::Error"));
        assert!(named("io::error::Error").has("std::io::error::Error"));
        assert!(named("Timeout").has("Timeout"));
        assert!(named("Wrapped").has("shop::Wrapped<std::io::error::Error>"));
        assert!(!named("Error").has("shop::Wrapped<std::io::error::Error>"));
        assert!(!named("Error").has("shop::PaymentError"));
        assert!(!named("other::Error").has("Error"));
        assert!(ErrorClass::Of(std::any::type_name::<std::fmt::Error>).has("core::fmt::Error"));
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        let message = "é".repeat(KEPT_MESSAGE);
        assert_eq!(beginning(&message).len(), KEPT_MESSAGE);
        assert_eq!(beginning(&format!("a{message}")).len(), KEPT_MESSAGE - 1);
        assert_eq!(beginning("short"), "short");
    }
}
