//! How `perform` ends badly: the error that job code returns, and the failure that is stored.

use std::{any::type_name, backtrace::Backtrace, fmt, time::Duration};

use crate::{
    context::Cancelled,
    error::{BoxError, Error, chain},
};

/// What `perform` returns. `?` works with every error, and with plain text.
pub type JobResult<T = ()> = std::result::Result<T, JobError>;

/// The class name of a failure that has only a message; the original's.
pub const PLAIN_MESSAGE: &str = "RocketJob::JobException";
/// The class name of a panic in `perform`.
pub const PANIC: &str = "Panic";
/// The class name of a job that took longer than its timeout.
pub const TIMEOUT: &str = "Timeout";
/// The class name of a job whose servers died with it.
pub const LOST_CLAIM: &str = "LostClaim";
/// The class name of a document that does not fit its struct.
pub const UNDECODABLE: &str = "Undecodable";

/// Why `perform` did not end well, and what should follow.
///
/// Made from any error by `?`. It is no `std::error::Error` itself, so that this works.
///
/// ```
/// use std::time::Duration;
/// use rocketjob_core::{FailJob, JobResult};
///
/// fn charge(amount: &str) -> JobResult<u64> {
///     // An ordinary failure: what follows is up to the job's concerns.
///     let cents: u64 = amount.parse()?;
///     if cents == 0 {
///         return Err("nothing to charge".into());
///     }
///     // The other side is overloaded: again in a minute.
///     std::fs::read("/rate-limit").map(|_| ()).or(Ok::<_, std::io::Error>(())).retry_after(Duration::from_secs(60))?;
///     Ok(cents)
/// }
/// assert_eq!(charge("0").unwrap_err().failure().message, "nothing to charge");
/// ```
pub struct JobError {
    wish: Wish,
    failure: JobFailure,
}

/// What an error wants to happen to its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// What the job's concerns make of a failure; without one, the job fails.
    Usual,
    /// Queue the job again, to start after this time. The failure is counted and kept.
    RetryAfter(Duration),
    /// Fail whatever the concerns would do.
    FailForGood,
    /// Abort the job; the failure is kept.
    Discard,
    /// Hand the claim back: the job was told to stop. Nothing is counted.
    HandBack,
}

/// A failure as it is stored with its job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobFailure {
    /// The type of the error.
    pub class_name: String,
    /// The error and its causes.
    pub message: String,
    /// Where it came from, a frame a line; empty where none was captured.
    pub backtrace: Vec<String>,
    /// The worker on which it happened.
    pub worker_name: Option<String>,
}

impl JobFailure {
    /// A failure that has only a message.
    pub fn message(message: impl Into<String>) -> Self {
        Self {
            class_name: PLAIN_MESSAGE.into(),
            message: message.into(),
            ..Self::default()
        }
    }
}

impl fmt::Display for JobFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class_name, self.message)
    }
}

impl JobError {
    /// A failure with what should follow.
    pub fn new(wish: Wish, failure: JobFailure) -> Self {
        Self { wish, failure }
    }

    /// What should follow.
    pub fn wish(&self) -> Wish {
        self.wish
    }

    /// What is stored with the job.
    pub fn failure(&self) -> &JobFailure {
        &self.failure
    }

    /// What is stored with the job, given away.
    pub fn into_failure(self) -> JobFailure {
        self.failure
    }

    /// Queues the job again, to start after `delay`.
    #[must_use]
    pub fn with_retry_after(self, delay: Duration) -> Self {
        Self {
            wish: Wish::RetryAfter(delay),
            ..self
        }
    }

    /// Fails the job whatever its concerns would do.
    #[must_use]
    pub fn with_fail_for_good(self) -> Self {
        Self {
            wish: Wish::FailForGood,
            ..self
        }
    }

    /// Aborts the job; the failure is kept.
    #[must_use]
    pub fn with_discard(self) -> Self {
        Self {
            wish: Wish::Discard,
            ..self
        }
    }

    /// What a concern returns that could not make the job begin: the claim is handed back.
    pub fn handed_back(error: &Error) -> Self {
        Self::new(Wish::HandBack, JobFailure::message(error.chain()))
    }

    /// What a job returns that stops because it was told to: its claim is handed back, or after a
    /// timeout it fails.
    pub fn stopped(reason: Cancelled) -> Self {
        let (wish, class_name) = match reason {
            Cancelled::TimedOut => (Wish::Usual, TIMEOUT),
            Cancelled::Shutdown | Cancelled::ClaimLost | Cancelled::ServerLapsed => {
                (Wish::HandBack, "Cancelled")
            }
        };
        Self::new(
            wish,
            JobFailure {
                class_name: class_name.into(),
                ..JobFailure::message(reason.to_string())
            },
        )
    }
}

impl<E: Into<BoxError>> From<E> for JobError {
    fn from(error: E) -> Self {
        let class_name = type_name::<E>();
        let plain =
            ["alloc::string::String", "&str", "alloc::borrow::Cow<str>"].contains(&class_name);
        let error: BoxError = error.into();
        let backtrace = Backtrace::capture();
        Self::new(
            Wish::Usual,
            JobFailure {
                class_name: if plain { PLAIN_MESSAGE } else { class_name }.into(),
                message: chain(error.as_ref()),
                backtrace: backtrace_lines(&backtrace),
                worker_name: None,
            },
        )
    }
}

/// The frames of a backtrace that was captured; none otherwise (see `RUST_BACKTRACE`).
pub(crate) fn backtrace_lines(backtrace: &Backtrace) -> Vec<String> {
    if backtrace.status() != std::backtrace::BacktraceStatus::Captured {
        return Vec::new();
    }
    backtrace
        .to_string()
        .lines()
        .map(|line| line.trim().to_owned())
        .collect()
}

impl fmt::Debug for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.failure, self.wish)
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(f)
    }
}

/// Says on the spot what an error means for the job.
pub trait FailJob<T> {
    /// On an error, queues the job again, to start after `delay`.
    fn retry_after(self, delay: Duration) -> JobResult<T>;
    /// On an error, fails the job whatever its concerns would do.
    fn fail_for_good(self) -> JobResult<T>;
    /// On an error, aborts the job.
    fn discard(self) -> JobResult<T>;
}

impl<T, E: Into<JobError>> FailJob<T> for std::result::Result<T, E> {
    fn retry_after(self, delay: Duration) -> JobResult<T> {
        self.map_err(|error| error.into().with_retry_after(delay))
    }

    fn fail_for_good(self) -> JobResult<T> {
        self.map_err(|error| error.into().with_fail_for_good())
    }

    fn discard(self) -> JobResult<T> {
        self.map_err(|error| error.into().with_discard())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_type_and_its_causes() {
        let error: JobError = std::io::Error::other("disk gone").into();
        assert_eq!(error.failure().class_name, "std::io::error::Error");
        assert_eq!(error.failure().message, "disk gone");
        assert_eq!(error.wish(), Wish::Usual);
    }

    #[test]
    fn plain_text_gets_the_class_name_of_the_original() {
        let error: JobError = "no such order".into();
        assert_eq!(error.failure().class_name, PLAIN_MESSAGE);
        let error: JobError = String::from("no such order").into();
        assert_eq!(error.failure().class_name, PLAIN_MESSAGE);
    }

    #[test]
    fn an_error_can_say_what_follows() {
        let failed = || Err::<(), _>("busy");
        let minute = Duration::from_mins(1);
        assert_eq!(
            failed().retry_after(minute).unwrap_err().wish(),
            Wish::RetryAfter(minute)
        );
        assert_eq!(
            failed().fail_for_good().unwrap_err().wish(),
            Wish::FailForGood
        );
        assert_eq!(failed().discard().unwrap_err().wish(), Wish::Discard);
    }
}
