//! What operators and servers of the original write to jobs, written down independently of core.

use bson::{Bson, Document, doc};
use jiff::Timestamp;
use rocketjob_core::{Change, JobDocument, State, Transition, date, name};

/// What our side writes when an operator or a server asks for `transition` of `job`, without what
/// a failure adds. Starting and completing are not for operators.
pub fn change(transition: Transition, job: &JobDocument, now: Timestamp) -> Change {
    let (state, cleared) = match transition {
        Transition::Abort => (State::Aborted, &[name::WORKER_NAME][..]),
        Transition::Pause => (State::Paused, &[name::WORKER_NAME][..]),
        Transition::Fail => (State::Failed, &[name::WORKER_NAME][..]),
        Transition::Resume => (State::Queued, &[name::COMPLETED_AT][..]),
        Transition::Retry => (State::Queued, &[name::COMPLETED_AT, name::WORKER_NAME][..]),
        Transition::Requeue => (State::Queued, &[name::STARTED_AT, name::WORKER_NAME][..]),
        Transition::Start | Transition::Complete => panic!("{transition} is for servers"),
    };
    let mut change = Change::new().set(name::STATE, state.as_str());
    for field in cleared {
        if job.as_document().contains_key(field) {
            change.put(*field, Bson::Null);
        }
    }
    match (state, job.run_at()) {
        (State::Queued, Some(run_at)) if run_at > now => change
            .set(name::HOLD, name::HOLD_SCHEDULED)
            .unset(name::READY),
        (State::Queued, _) => change.set(name::READY, true).unset(name::HOLD),
        _ => change
            .set(name::COMPLETED_AT, date(now))
            .unset(name::READY)
            .unset(name::HOLD),
    }
}

/// What a server or operator of the original does to a running or queued job. It writes only what
/// it changes, and leaves our marks standing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Original {
    /// Gives a job up.
    Abort,
    /// Stops a job for now.
    Pause,
    /// Puts a running job back into the queue.
    Requeue,
    /// Starts a queued job on one of its own workers.
    Start,
}

impl Original {
    /// The fields that it sets.
    pub fn writes(self, now: Timestamp) -> Document {
        match self {
            Self::Abort => doc! {
                name::STATE: State::Aborted.as_str(),
                name::COMPLETED_AT: date(now),
                name::WORKER_NAME: Bson::Null,
            },
            Self::Pause => doc! {
                name::STATE: State::Paused.as_str(),
                name::COMPLETED_AT: date(now),
                name::WORKER_NAME: Bson::Null,
            },
            Self::Requeue => doc! {
                name::STATE: State::Queued.as_str(),
                name::STARTED_AT: Bson::Null,
                name::WORKER_NAME: Bson::Null,
            },
            Self::Start => doc! {
                name::STATE: State::Running.as_str(),
                name::STARTED_AT: date(now),
                name::WORKER_NAME: "ruby:1:1",
            },
        }
    }
}
