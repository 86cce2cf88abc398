//! The reasons why a job is not running.

use std::time::Duration;

use bson::oid::ObjectId;
use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::{
    failure::JobFailure,
    filter::Filter,
    server::{ServerDocument, ServerState},
};

/// Why a job is not running, or that it is.
///
/// In JSON the field `reason` names the variant, such as `held_for_limit`; times are text, durations
/// are seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// There is none of this id.
    NoSuchJob,
    /// Its document cannot be read.
    Undecodable {
        /// What is wrong with it.
        problem: String,
    },
    /// It is running.
    Running {
        /// The worker that holds it, as the store has it.
        worker_name: Option<String>,
        /// Since when.
        since: Option<Timestamp>,
        /// The server of the worker; `None` when it has no document: it is dead, and the job will
        /// be performed again.
        server: Option<ServerStanding>,
    },
    /// It has completed.
    Completed {
        /// When.
        at: Option<Timestamp>,
    },
    /// It has failed.
    Failed {
        /// When.
        at: Option<Timestamp>,
        /// How often, all attempts together.
        failures: i64,
        /// The class of the last failure, such as `Panic`.
        class_name: Option<String>,
        /// What the last failure says.
        message: Option<String>,
    },
    /// It was aborted.
    Aborted {
        /// When.
        at: Option<Timestamp>,
    },
    /// It is paused.
    Paused {
        /// Since when.
        since: Option<Timestamp>,
    },
    /// Its time is over: who claims it discards it.
    Expired {
        /// Since when.
        at: Timestamp,
    },
    /// Its time has not come.
    Scheduled {
        /// When it does.
        run_at: Timestamp,
        /// In how long.
        #[serde(rename = "in_seconds", serialize_with = "seconds")]
        remaining: Duration,
    },
    /// A limit has no free place for it.
    HeldForLimit {
        /// The limit, such as `throttle:ReportJob`.
        limit: String,
        /// Who has its places, the first ten.
        holders: Vec<Busy>,
    },
    /// A limit does not let it start now: its rate is used up, or it is closed for a while.
    HeldForTime {
        /// The limit, such as `rate:MailJob`.
        limit: String,
        /// When the first of the jobs that wait for it is looked at.
        next: Timestamp,
    },
    /// Its fields are of a later version of its kind than the server that looked at it knows.
    HeldForVersion {
        /// The version.
        version: u32,
        /// The servers that are alive and know it.
        servers: Vec<ServerStanding>,
    },
    /// Servers have died with it, and others like it come first.
    HeldAsSuspect {
        /// How many servers died with it.
        lost_claims: i64,
        /// How many jobs are held for that.
        waiting: Ahead,
    },
    /// It is held for a reason that no server knows.
    Held {
        /// The reason as it is stored.
        hold: String,
    },
    /// No server is alive.
    NoServer {
        /// Those that have left their documents behind.
        lapsed: Vec<ServerStanding>,
    },
    /// No server performs jobs of its kind.
    UnknownKind {
        /// The servers that are alive.
        servers: Vec<ServerStanding>,
        /// Those of the original among them: they do not publish what they perform.
        originals: usize,
    },
    /// Each server that performs its kind has a filter that leaves it out.
    FilteredOut {
        /// These servers, each with its filter.
        servers: Vec<Passed>,
    },
    /// Each server that would take it is paused, stops, or gives no sign of life.
    ServersAway {
        /// These servers.
        servers: Vec<ServerStanding>,
    },
    /// It is to be made ready by a server, and is not yet.
    NotYetReady {
        /// Why: its time has come, or the original has written it and nobody has marked it.
        because: Passing,
        /// Within which time a server does so.
        #[serde(rename = "within_seconds", serialize_with = "seconds")]
        within: Duration,
    },
    /// All workers of the servers that take it are busy.
    WorkersBusy {
        /// How many workers there are.
        workers: usize,
        /// What they do, the longest first, the first ten.
        busy: Vec<Busy>,
        /// How many jobs come before it.
        ahead: Ahead,
    },
    /// Others come first.
    Behind {
        /// How many.
        ahead: Ahead,
        /// How many workers of the servers that take it are idle.
        idle: usize,
    },
    /// Nothing is in its way.
    NothingInTheWay {
        /// Within which time it should start.
        #[serde(rename = "within_seconds", serialize_with = "seconds")]
        within: Duration,
        /// The servers that take it.
        servers: Vec<String>,
    },
}

/// What passes by itself as long as a server is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Passing {
    /// Its time has come.
    Due,
    /// It has no mark of ours: the original wrote it, or put it back.
    Unmarked,
}

/// A server and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerStanding {
    /// The name.
    pub name: String,
    /// How it stands.
    pub standing: Standing,
    /// For how long it has given no sign of life.
    #[serde(rename = "silent_for_seconds", serialize_with = "seconds")]
    pub silent_for: Duration,
}

impl ServerStanding {
    /// How `server` stands at the store's time `now`.
    pub fn of(server: &ServerDocument, now: Timestamp) -> Self {
        Self {
            name: server.name.clone(),
            standing: match server.state {
                _ if server.is_lapsed(now) => Standing::Lapsed,
                ServerState::Starting => Standing::Starting,
                ServerState::Running => Standing::Running,
                ServerState::Paused => Standing::Paused,
                ServerState::Stopping => Standing::Stopping,
            },
            silent_for: server.silent_for(now),
        }
    }
}

/// How a server stands, as far as others can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Registered, not yet working.
    Starting,
    /// Working.
    Running,
    /// Alive, takes no new work.
    Paused,
    /// Finishing what it has.
    Stopping,
    /// Silent for longer than its lease.
    Lapsed,
}

/// A server that passes the job by.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Passed {
    /// Its name.
    pub name: String,
    /// What a job must meet for it.
    pub filter: Filter,
}

/// A job in a worker's hands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Busy {
    /// The job, as hexadecimal text.
    #[serde(serialize_with = "hexadecimal")]
    pub id: ObjectId,
    /// Its kind.
    pub kind: String,
    /// The worker.
    pub worker_name: String,
    /// For how long.
    #[serde(rename = "for_seconds", serialize_with = "seconds")]
    pub since: Duration,
}

/// A number that is exact up to [`COUNTED`](crate::COUNTED).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Ahead {
    /// How many, at least.
    pub count: u64,
    /// Whether there may be more.
    pub or_more: bool,
}

/// What a failure says, in its first line.
pub(super) fn headline(failure: &JobFailure) -> Option<String> {
    let line = failure.message.lines().next().map(str::trim);
    line.filter(|line| !line.is_empty()).map(ToOwned::to_owned)
}

pub(super) fn hexadecimal<S: Serializer>(id: &ObjectId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&id.to_hex())
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}
