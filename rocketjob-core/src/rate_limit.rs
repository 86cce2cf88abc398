//! Rate limit: at most so many jobs of a kind, or with one value of a field, start in any window.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    concern::{Concern, NoState},
    document::JobDocument,
    limit::Limit,
    throttle::value_of,
};

/// `#[rate_limit(100 per minute)]`: at most so many jobs of the kind start in any window of that
/// length, wherever it begins, across all servers. With `by = field` those with the same value of the
/// field are counted together.
///
/// A job that may not start yet is held, keeps its order, and goes on when a start is free again;
/// nobody polls for it. [`set_limit`](crate::set_limit) changes the number for all at once. How it is
/// made stands in `stored_limit.rs`.
#[derive(Debug, Clone, Copy)]
pub struct RateLimit {
    kind: &'static str,
    starts: u32,
    per: Duration,
    by: Option<&'static str>,
}

impl RateLimit {
    /// At most `starts` jobs of `kind` in any window of the length `per`.
    pub const fn new(kind: &'static str, starts: u32, per: Duration) -> Self {
        Self {
            kind,
            starts,
            per,
            by: None,
        }
    }

    /// Jobs of the kind are counted apart for each value of the stored field `by`.
    #[must_use]
    pub const fn by(mut self, by: &'static str) -> Self {
        self.by = Some(by);
        self
    }
}

impl Concern for RateLimit {
    type State = NoState;

    fn name(&self) -> &'static str {
        "rate_limit"
    }

    fn limits(&self, job: &JobDocument, _state: &NoState, _now: Timestamp) -> Vec<Limit> {
        let mut key = rate_limit_key(self.kind);
        if let Some(by) = self.by {
            key = format!("{key}:{}", value_of(job, by));
        }
        vec![Limit::starts(key, self.starts, self.per)]
    }
}

/// The limit of a kind with a rate, for [`set_limit`](crate::set_limit). With `by = field` the value
/// is added behind a colon: `rate:MailJob:acme`.
pub fn rate_limit_key(kind: &str) -> String {
    format!("rate:{kind}")
}
