//! Server documents: which processes work on a store, and that they are alive.

use std::time::Duration;

use bson::oid::ObjectId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{definition::PublishedDefinition, document::JobDocument, filter::Filter};

/// How long a server may be silent that says nothing else.
const DEFAULT_LEASE: Duration = Duration::from_mins(1);

/// How often a server looks for work that says nothing else.
const DEFAULT_POLL_INTERVAL: Duration = Duration::from_secs(5);

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
    /// For how long it may be silent before others take it for dead; see
    /// [`lease`](Self::lease).
    pub lease: Option<Duration>,
    /// The version of this library that it runs.
    pub version: String,
    /// What it performs.
    pub definitions: Vec<PublishedDefinition>,
    /// Which jobs of these kinds it takes; all of them without one.
    pub filter: Option<Filter>,
    /// How often it looks for work of which it is not told; see
    /// [`poll_interval`](Self::poll_interval).
    pub poll_interval: Option<Duration>,
}

impl ServerDocument {
    /// Whether it is a server of the original, which publishes no version of this library.
    pub fn is_original(&self) -> bool {
        self.version.is_empty()
    }

    /// Whether `worker_name` is that of one of its workers. `host:1` has `host:1:2`, and not
    /// `host:12:2`.
    pub fn has_worker(&self, worker_name: &str) -> bool {
        worker_name
            .strip_prefix(&self.name)
            .is_some_and(|rest| rest.starts_with(':'))
    }

    /// For how long it may be silent before others take it for dead: four heartbeats of 15 seconds
    /// unless it says otherwise.
    pub fn lease(&self) -> Duration {
        self.lease.unwrap_or(DEFAULT_LEASE)
    }

    /// How often it looks for work of which it is not told: every five seconds unless it says
    /// otherwise.
    pub fn poll_interval(&self) -> Duration {
        self.poll_interval.unwrap_or(DEFAULT_POLL_INTERVAL)
    }

    /// Whether it performs jobs of the kind of this name, which may be an earlier one.
    pub fn performs(&self, kind: &str) -> bool {
        self.definitions
            .iter()
            .any(|definition| definition.names().any(|name| name == kind))
    }

    /// Whether it takes this job, as far as its filter is concerned.
    pub fn accepts(&self, job: &JobDocument) -> bool {
        let filter = self.filter.as_ref();
        filter.is_none_or(|filter| filter.matches(job.as_document()))
    }

    /// For how long it has given no sign of life, judged at the store's time `now`. One that never
    /// gave any counts from its start.
    pub fn silent_for(&self, now: Timestamp) -> Duration {
        let beat = self.heartbeat.map(|heartbeat| heartbeat.updated_at);
        let last = beat.or(self.started_at).unwrap_or(now);
        Duration::try_from(now.duration_since(last)).unwrap_or_default()
    }

    /// Whether it has been silent for longer than its lease at the store's time `now`. Servers
    /// judge one another by counters; this is for people.
    pub fn is_lapsed(&self, now: Timestamp) -> bool {
        self.silent_for(now) > self.lease()
    }

    /// How often it has given a sign of life.
    pub fn beats(&self) -> u64 {
        self.heartbeat.map_or(0, |heartbeat| heartbeat.counter)
    }
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
