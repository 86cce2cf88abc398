//! Server documents: which processes work on a store, and that they are alive.

use bson::oid::ObjectId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::definition::PublishedDefinition;

/// Where a server stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerState {
    /// Registered, not yet working.
    Starting,
    /// Working.
    Running,
    /// Alive, takes no new work.
    Paused,
    /// Finishing what it has.
    Stopping,
}

impl ServerState {
    /// The stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
        }
    }

    /// The state with this stored name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Starting, Self::Running, Self::Paused, Self::Stopping]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

/// A server process as others see it.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerDocument {
    /// The incarnation: no other process ever has it.
    pub id: ObjectId,
    /// The name, `<host>:<process id>` unless configured.
    pub name: String,
    /// How many workers it should have.
    pub max_workers: u32,
    /// When it began to work.
    pub started_at: Option<Timestamp>,
    /// Where it stands.
    pub state: ServerState,
    /// The last sign of life.
    pub heartbeat: Option<Heartbeat>,
    /// The version of this library that it runs.
    pub version: String,
    /// What it performs.
    pub definitions: Vec<PublishedDefinition>,
}

/// A sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// When, on the store's clock.
    pub updated_at: Timestamp,
    /// How many workers were alive.
    pub workers: u32,
    /// Grows with each beat: a server is dead when an observer sees it stand still for the lease.
    pub counter: u64,
}
