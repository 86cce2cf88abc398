//! Lists of jobs: which, in which order, how many.

use bson::{Bson, oid::ObjectId};

use super::Filter;
use crate::name;

/// By which field a list is sorted. Ties go by id, in the same direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Sort {
    /// The order of arrival.
    #[default]
    Id,
    /// The order of claims among ready jobs.
    Priority,
    /// When the job was created.
    CreatedAt,
    /// When a worker last began.
    StartedAt,
    /// When the job completed, failed, was paused or aborted.
    CompletedAt,
    /// For when the job is scheduled.
    RunAt,
}

impl Sort {
    /// The stored name of the field.
    pub const fn field(self) -> &'static str {
        match self {
            Self::Id => name::ID,
            Self::Priority => name::PRIORITY,
            Self::CreatedAt => name::CREATED_AT,
            Self::StartedAt => name::STARTED_AT,
            Self::CompletedAt => name::COMPLETED_AT,
            Self::RunAt => name::RUN_AT,
        }
    }
}

/// From which members of a replica set a list or count may be read. Other stores have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ReadFrom {
    /// The primary: what was written is seen.
    #[default]
    Primary,
    /// A secondary if there is one: may be a little behind, and spares the primary.
    SecondaryPreferred,
    /// The member that answers fastest.
    Nearest,
}

/// Where the next page of a list begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Cursor {
    /// The value of the sort field in the last job of the page before.
    pub value: Bson,
    /// The id of that job.
    pub id: ObjectId,
}

/// Which jobs, in which order, how many.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// The condition.
    pub filter: Filter,
    /// The order. A job without the field comes first.
    pub sort: Sort,
    /// The last first.
    pub descending: bool,
    /// Only what follows on this.
    pub after: Option<Cursor>,
    /// How many at most.
    pub limit: usize,
    /// Where it may be read.
    pub read_from: ReadFrom,
    /// All pages are read one after the other, and there may be many: a store then goes through the
    /// jobs once, in the order of ids, where it would otherwise look all of them up for each page.
    pub walk: bool,
}

/// How many jobs a list has that says nothing else.
pub const DEFAULT_LIMIT: usize = 100;

impl Query {
    /// The first [`DEFAULT_LIMIT`] jobs that meet `filter`, in the order of arrival.
    pub fn new(filter: Filter) -> Self {
        Self {
            filter,
            sort: Sort::Id,
            descending: false,
            after: None,
            limit: DEFAULT_LIMIT,
            read_from: ReadFrom::Primary,
            walk: false,
        }
    }
}
