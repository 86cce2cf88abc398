//! Slices: the parts of a batch that workers claim. Signatures for stores; see [`SliceStore`].

use async_trait::async_trait;
use bson::{Document, oid::ObjectId};

use crate::{
    change::{Patch, Settled},
    claim::ClaimToken,
    error::Result,
};

/// Which slices of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Records to be worked on.
    Input,
    /// Records that came of it.
    Output,
}

/// The slices of one side and category of a batch job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceSet {
    /// The batch job.
    pub job: ObjectId,
    /// Input or output.
    pub side: Side,
    /// The category; `main` unless declared.
    pub category: String,
}

/// How many slices there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SliceCounts {
    /// Waiting.
    pub queued: u64,
    /// Claimed.
    pub running: u64,
    /// Stopped by an error.
    pub failed: u64,
}

/// Keeps the slices of batches.
///
/// Not yet a part of [`Storage`](crate::Storage): it becomes one with the batches.
#[async_trait]
pub trait SliceStore: Send + Sync {
    /// Adds slices, in the order in which they are to be read. Atomic for each slice; a slice that
    /// exists by id is left as it is.
    async fn insert_slices(&self, set: &SliceSet, slices: Vec<Document>) -> Result<()>;

    /// Hands out up to `count` queued slices under `token`, without a global sort and without
    /// touching the job. Two concurrent calls never return the same slice.
    async fn claim_slices(
        &self,
        set: &SliceSet,
        token: ClaimToken,
        worker_name: &str,
        count: usize,
    ) -> Result<Vec<Document>>;

    /// Writes outcomes of claimed slices, each fenced like a job's, output before input: an output
    /// slice has the id of its input slice, so that a repeat is idempotent.
    async fn settle_slices(
        &self,
        set: &SliceSet,
        outputs: Vec<(SliceSet, Document)>,
        patches: Vec<Patch>,
    ) -> Result<Vec<Settled>>;

    /// Makes failed slices wait again, and says how many.
    async fn retry_slices(&self, set: &SliceSet) -> Result<u64>;

    /// Makes the slices claimed by `server` wait again, and says how many.
    async fn requeue_slices(&self, set: &SliceSet, server: ObjectId) -> Result<u64>;

    /// Counts the slices by state.
    async fn count_slices(&self, set: &SliceSet) -> Result<SliceCounts>;

    /// Reads slices in the order of their ids, after `after`.
    async fn slices(
        &self,
        set: &SliceSet,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<Document>>;

    /// Drops all slices of the set.
    async fn drop_slices(&self, set: &SliceSet) -> Result<()>;
}
