//! Sets of jobs that every store counts by an index.

use std::ops::RangeInclusive;

use bson::oid::ObjectId;

use crate::state::State;

/// How far people and metrics count: what is more reads as "this many or more".
pub const COUNTED: u64 = 10_000;

/// All priorities, also those that were written in spite of the rules.
pub const ALL_PRIORITIES: RangeInclusive<i64> = i64::MIN + 1..=i64::MAX;

/// A set of jobs that can be counted as far as is asked for without a look at any other job; see
/// [`InspectStore::count_set`](crate::InspectStore::count_set).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobSet {
    /// Queued jobs that a worker may take.
    Ready {
        /// Of these kinds, by exact name.
        kinds: Vec<String>,
        /// Of these priorities.
        priorities: RangeInclusive<i64>,
        /// Of the last of these priorities only what came before this job.
        before: Option<ObjectId>,
    },
    /// Queued jobs that are held for this reason.
    Held(String),
    /// Jobs in this state.
    State(State),
}

impl JobSet {
    /// The ready jobs of these kinds and priorities.
    pub fn ready<K: Into<String>>(
        kinds: impl IntoIterator<Item = K>,
        priorities: RangeInclusive<i64>,
    ) -> Self {
        Self::Ready {
            kinds: kinds.into_iter().map(Into::into).collect(),
            priorities,
            before: None,
        }
    }

    /// The ready jobs of these kinds that come before the place (`priority`, `id`).
    pub fn ahead_of<K: Into<String>>(
        kinds: impl IntoIterator<Item = K>,
        priority: i64,
        id: ObjectId,
    ) -> Self {
        Self::Ready {
            kinds: kinds.into_iter().map(Into::into).collect(),
            priorities: *ALL_PRIORITIES.start()..=priority,
            before: Some(id),
        }
    }
}
