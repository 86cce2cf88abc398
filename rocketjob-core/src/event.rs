//! Events: control messages to servers and other subscribers, delivered through the store.

use bson::{Document, oid::ObjectId};
use jiff::Timestamp;

use crate::store::Store;

/// A message to whoever subscribed to `name`.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The id.
    pub id: ObjectId,
    /// The subscriber it is meant for, in the original's form: `RocketJob::Subscribers::Server`.
    pub name: String,
    /// What is asked for, such as `pause`.
    pub action: Option<String>,
    /// How.
    pub parameters: Document,
    /// When it was published, on the store's clock.
    pub created_at: Timestamp,
}

impl Event {
    /// A new event, to be published in `store`.
    pub fn new(
        store: &Store,
        name: impl Into<String>,
        action: impl Into<String>,
        parameters: Document,
    ) -> Self {
        Self {
            id: store.next_id(),
            name: name.into(),
            action: Some(action.into()),
            parameters,
            created_at: store.now(),
        }
    }
}

/// Up to where a subscriber has read. Only the store that made it can read it.
#[derive(Debug, Clone, PartialEq)]
pub struct EventCursor(pub Document);
