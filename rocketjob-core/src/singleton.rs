//! Singleton: at most one job of the kind is queued or running.

use crate::{
    concern::{Concern, NoState, UniqueKey, UniqueScope},
    document::JobDocument,
};

/// What a second job is told; the original's words.
pub const SINGLETON_REASON: &str =
    "State Another instance of this job is already queued or running";

/// What the keys of singletons begin with.
pub(crate) const KEY_PREFIX: &str = "singleton:";

/// `#[singleton]`: at most one job of the kind is queued or running, across all servers.
///
/// Held by a unique index and not by a look-up: of any number of concurrent `create` calls one
/// succeeds, and the others get [`Error::Existing`](crate::Error::Existing) with the id of the job
/// that is in the way. So does a retry or resume while another job of the kind is active.
#[derive(Debug, Clone, Copy, Default)]
pub struct Singleton;

impl Concern for Singleton {
    type State = NoState;

    fn name(&self) -> &'static str {
        "singleton"
    }

    fn unique_key(&self, job: &JobDocument, _state: &NoState) -> Option<UniqueKey> {
        Some(UniqueKey {
            key: format!("{KEY_PREFIX}{}", job.kind()),
            scope: UniqueScope::Active,
            reason: SINGLETON_REASON.into(),
        })
    }
}
