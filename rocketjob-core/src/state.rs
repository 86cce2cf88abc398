//! The state machine of a job: one table that alone decides which transition leads where.
//!
//! Guards, store updates and documentation are derived from [`TABLE`]. Differences from the
//! original are on purpose: resuming a started simple job leads to `queued`, since only queued
//! jobs are claimed, and every write is guarded by the state that the table names.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a job stands. The names sort as MongoDB sorts them, so that a range is a set of states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Ended by an operator or by the job's own wish to be discarded.
    Aborted,
    /// Ended well.
    Completed,
    /// Stopped by an error; may be retried.
    Failed,
    /// Stopped by an operator; may be resumed.
    Paused,
    /// Waiting for a worker; *scheduled* when its `run_at` lies in the future.
    Queued,
    /// Claimed by a worker.
    Running,
}

impl State {
    /// All states, in the order of their names.
    pub const ALL: [Self; 6] = [
        Self::Aborted,
        Self::Completed,
        Self::Failed,
        Self::Paused,
        Self::Queued,
        Self::Running,
    ];

    /// The stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Paused => "paused",
            Self::Queued => "queued",
            Self::Running => "running",
        }
    }

    /// The state with this stored name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether nothing follows on this state by itself or by an operator.
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Aborted | Self::Completed)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A change of state that a worker or an operator may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transition {
    /// A worker begins.
    Start,
    /// `perform` ended well.
    Complete,
    /// `perform` ended with an error, or an operator gives the job up for now.
    Fail,
    /// A failed job waits for a worker again.
    Retry,
    /// Stops a job for now.
    Pause,
    /// Lets a paused job go on.
    Resume,
    /// Gives a job up for good.
    Abort,
    /// A claim is handed back; no attempt is used up.
    Requeue,
}

impl Transition {
    /// All transitions.
    pub const ALL: [Self; 8] = [
        Self::Start,
        Self::Complete,
        Self::Fail,
        Self::Retry,
        Self::Pause,
        Self::Resume,
        Self::Abort,
        Self::Requeue,
    ];

    /// The name in messages, logs and commands.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Complete => "complete",
            Self::Fail => "fail",
            Self::Retry => "retry",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort => "abort",
            Self::Requeue => "requeue",
        }
    }
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What must hold, besides the state, for a row of [`TABLE`] to apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Nothing further.
    Always,
    /// The kind says that a running job may be paused.
    Pausable,
}

/// One row: in state `from`, `transition` leads to `to` if `guard` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The state before.
    pub from: State,
    /// What is asked for.
    pub transition: Transition,
    /// The state after.
    pub to: State,
    /// The further condition.
    pub guard: Guard,
}

const fn row(from: State, transition: Transition, to: State) -> Row {
    Row {
        from,
        transition,
        to,
        guard: Guard::Always,
    }
}

/// Every allowed transition; what is not here is refused.
pub const TABLE: &[Row] = &[
    row(State::Queued, Transition::Start, State::Running),
    row(State::Running, Transition::Complete, State::Completed),
    row(State::Queued, Transition::Fail, State::Failed),
    row(State::Running, Transition::Fail, State::Failed),
    row(State::Paused, Transition::Fail, State::Failed),
    row(State::Failed, Transition::Retry, State::Queued),
    row(State::Queued, Transition::Pause, State::Paused),
    Row {
        from: State::Running,
        transition: Transition::Pause,
        to: State::Paused,
        guard: Guard::Pausable,
    },
    row(State::Paused, Transition::Resume, State::Queued),
    row(State::Queued, Transition::Abort, State::Aborted),
    row(State::Running, Transition::Abort, State::Aborted),
    row(State::Failed, Transition::Abort, State::Aborted),
    row(State::Paused, Transition::Abort, State::Aborted),
    row(State::Running, Transition::Requeue, State::Queued),
];

/// Where `transition` leads from `from`, or `None` when it is not allowed.
///
/// `pausable` is what the job's kind says of itself.
pub fn target(from: State, transition: Transition, pausable: bool) -> Option<State> {
    TABLE
        .iter()
        .find(|row| row.from == from && row.transition == transition)
        .filter(|row| row.guard == Guard::Always || pausable)
        .map(|row| row.to)
}

/// The states from which `transition` is allowed.
pub fn sources(transition: Transition, pausable: bool) -> Vec<State> {
    State::ALL
        .into_iter()
        .filter(|from| target(*from, transition, pausable).is_some())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_like_the_states() {
        let mut names: Vec<_> = State::ALL.iter().map(|state| state.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, State::ALL.map(State::as_str));
        assert!(State::ALL.is_sorted());
    }

    #[test]
    fn each_pair_of_state_and_transition_stands_once() {
        for (index, row) in TABLE.iter().enumerate() {
            let twin = TABLE[index + 1..]
                .iter()
                .find(|other| other.from == row.from && other.transition == row.transition);
            assert_eq!(twin, None, "{row:?} stands twice");
        }
    }

    #[test]
    fn end_states_have_no_way_out() {
        for state in State::ALL.into_iter().filter(|state| state.is_end()) {
            assert!(
                Transition::ALL
                    .into_iter()
                    .all(|transition| target(state, transition, true).is_none())
            );
        }
    }

    #[test]
    fn running_jobs_pause_only_where_the_kind_allows_it() {
        assert_eq!(target(State::Running, Transition::Pause, false), None);
        assert_eq!(
            target(State::Running, Transition::Pause, true),
            Some(State::Paused)
        );
        assert_eq!(
            target(State::Queued, Transition::Pause, false),
            Some(State::Paused)
        );
    }

    #[test]
    fn every_stored_name_reads_back() {
        for state in State::ALL {
            assert_eq!(State::from_name(state.as_str()), Some(state));
        }
        assert_eq!(State::from_name("sleeping"), None);
    }
}
