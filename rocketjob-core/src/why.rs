//! One answer to "why is this job not running?".
//!
//! [`why`] looks at the job, at the servers and at what lies before the job, and stops at the first
//! thing that is in its way. Each of its queries is bounded and uses an index: it costs the same in
//! a queue of millions. What it says is true for the moment at which it looked.

mod look;
mod reason;
mod text;

pub(crate) use text::Roughly;

use bson::oid::ObjectId;
use jiff::Timestamp;
use serde::Serialize;

use crate::{error::Result, state::State, storage::Storage};

pub use reason::{Ahead, Busy, Passed, Passing, Reason, ServerStanding, Standing};

/// Why a job is not running, with what to do about it.
///
/// As text it is a sentence or two for people; as data, in JSON for example, it is stable.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The job, as hexadecimal text.
    #[serde(serialize_with = "reason::hexadecimal")]
    pub id: ObjectId,
    /// The kind, where there is such a job.
    pub kind: Option<String>,
    /// The state, where there is such a job.
    pub state: Option<State>,
    /// When it was asked, on the store's clock.
    pub asked_at: Timestamp,
    /// The reason.
    #[serde(flatten)]
    pub reason: Reason,
}

/// Says why the job `id` is not running.
///
/// # Errors
/// Those of the store.
///
/// # Examples
/// ```
/// use rocketjob_core::{JobStore, MemoryStore, Reason, Store, why};
///
/// # pollster::block_on(async {
/// let store = Store::new(MemoryStore::new());
/// let explanation = why(&*store, store.next_id()).await?;
/// assert_eq!(explanation.reason, Reason::NoSuchJob);
/// assert!(explanation.to_string().contains("there is no job"));
/// # Ok::<_, rocketjob_core::Error>(())
/// # }).unwrap();
/// ```
pub async fn why(store: &dyn Storage, id: ObjectId) -> Result<Explanation> {
    look::explain(store, id).await
}
