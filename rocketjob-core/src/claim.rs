//! Claims: taking the next jobs for the workers of a server.

use std::{fmt, fmt::Debug};

use bson::{Document, oid::ObjectId};
use jiff::Timestamp;

use crate::{
    change::Change,
    document::JobDocument,
    encoding::{date, id_text},
    error::Error,
    failure::{JobFailure, UNDECODABLE},
    filter::Filter,
    name,
    state::State,
};

/// Marks one claim of one server process, so that whoever lost it can write nothing.
///
/// It is made of the server document's id, which no other process ever has (containers all have
/// the process id 1), and of a sequence number within that process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClaimToken {
    /// The incarnation of the server.
    pub server: ObjectId,
    /// Counts the claims of that server.
    pub sequence: u64,
}

impl ClaimToken {
    /// What the stored tokens of all claims of `server` begin with.
    pub fn prefix(server: ObjectId) -> String {
        format!("{}:", server.to_hex())
    }

    /// A text behind the stored tokens of all claims of `server`, and before those of the next.
    pub fn end(server: ObjectId) -> String {
        // The character behind the colon.
        format!("{};", server.to_hex())
    }

    /// The server in a stored token; `None` for a text that is none of ours.
    pub fn server_of(token: &str) -> Option<ObjectId> {
        let (server, sequence) = token.split_once(':')?;
        sequence.parse::<u64>().ok()?;
        // As we write it, and in no other case: the scan from server to server relies on it.
        ObjectId::parse_str(server)
            .ok()
            .filter(|id| id.to_hex() == server)
    }
}

impl fmt::Display for ClaimToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.server.to_hex(), self.sequence)
    }
}

/// What a claim's holder must present with each write: the fence, together with the state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The stored form of the [`ClaimToken`].
    pub token: String,
    /// The stored worker name; a Ruby server that takes a job over changes it and not the token.
    pub worker_name: String,
}

impl Claim {
    /// What a claim writes to its job at the store's time `now`, with the places that the job takes
    /// of its limits.
    pub fn start(&self, now: Timestamp, slots: Vec<String>) -> Change {
        let change = Change::new()
            .set(name::STATE, State::Running.as_str())
            .set(name::CLAIM, &self.token)
            .set(name::WORKER_NAME, &self.worker_name)
            .set(name::STARTED_AT, date(now))
            .unset(name::READY)
            .unset(name::HOLD);
        if slots.is_empty() {
            change.unset(name::SLOTS)
        } else {
            change.set(name::SLOTS, slots)
        }
    }
}

/// A place in a limit: at most `max` running jobs hold `key` at any moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// What is limited, such as `throttle:ReportJob`.
    pub key: String,
    /// How many may run.
    pub max: u32,
}

impl Limit {
    /// Why a job is held for which this limit has no free place.
    pub fn hold(key: &str) -> String {
        format!("limit:{key}")
    }

    /// What a claim writes to a job for which the limit `key` has no free place.
    pub fn wait(key: &str) -> Change {
        Change::new()
            .set(name::HOLD, Self::hold(key))
            .unset(name::READY)
    }

    /// The stored name of the place with this number.
    pub fn slot(key: &str, number: u32) -> String {
        format!("{key}:{number}")
    }

    /// What the stored names of all places of a limit begin with.
    pub fn slot_prefix(key: &str) -> String {
        format!("{key}:")
    }
}

/// Tells the limits of a job. A store asks for each job that it is about to hand out.
pub trait Limits: Debug + Send + Sync {
    /// The limits under which `job` runs; the job needs a place in each.
    fn limits(&self, job: &JobDocument) -> Vec<Limit>;
}

/// No job has a limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLimits;

impl Limits for NoLimits {
    fn limits(&self, _job: &JobDocument) -> Vec<Limit> {
        Vec::new()
    }
}

/// What a server asks for.
#[derive(Debug)]
pub struct ClaimRequest<'a> {
    /// The token of this claim, never used before.
    pub token: ClaimToken,
    /// The workers that get the jobs, in turn; at least one.
    pub workers: &'a [String],
    /// How many jobs and batches at most, together.
    pub count: usize,
    /// The kinds that the server performs, aliases included, by exact name.
    pub kinds: &'a [String],
    /// A further condition on the jobs.
    pub filter: Option<&'a Filter>,
    /// How many jobs at the head to leave to other servers; ignored when nothing lies behind them.
    pub skip: usize,
    /// Whether jobs may be missed that have become ready in the last second, although they come
    /// first: a busy queue costs a store less then.
    pub may_lag: bool,
    /// The limits that the jobs must observe.
    pub limits: &'a dyn Limits,
}

/// What a server got.
#[derive(Debug, Default)]
pub struct Claimed {
    /// Jobs that are now running under the token, in the order (priority, id).
    pub jobs: Vec<JobDocument>,
    /// Running batches that have work to hand out; nothing was written to them.
    pub batches: Vec<JobDocument>,
    /// Documents that do not fit; they are failed and in nobody's way.
    pub set_aside: Vec<SetAside>,
    /// When the next scheduled job falls due; told only when fewer jobs than asked for were found.
    pub next_due: Option<Timestamp>,
    /// How many jobs were found and then lost to a claim of another server that was faster.
    pub lost: usize,
}

/// A document whose envelope cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Its id, as text since it may be of any type.
    pub id: String,
    /// What is wrong with it.
    pub reason: String,
}

impl SetAside {
    /// What is wrong with `document`: it cannot be read as a job, or it has failed since its struct
    /// could not be read from it. `None` for one with which all is well.
    pub fn of(document: &Document) -> Option<Self> {
        let id = document.get(name::ID).map(id_text).unwrap_or_default();
        match JobDocument::new(document.clone()) {
            Ok(job) => {
                let failure = job.exception().filter(|_| job.state() == State::Failed)?;
                (failure.class_name == UNDECODABLE).then_some(Self {
                    id,
                    reason: failure.message,
                })
            }
            Err(Error::Undecodable { reason, .. }) => Some(Self { id, reason }),
            Err(other) => Some(Self {
                id,
                reason: other.to_string(),
            }),
        }
    }

    /// What a claim writes to the document at the store's time `now`, so that it is in nobody's way.
    pub fn fail(&self, now: Timestamp) -> Change {
        let failure = JobFailure {
            class_name: UNDECODABLE.into(),
            ..JobFailure::message(&self.reason)
        };
        Change::new()
            .set(name::STATE, State::Failed.as_str())
            .set(name::EXCEPTION, failure.to_document())
            .set(name::COMPLETED_AT, date(now))
            .unset(name::READY)
            .unset(name::HOLD)
    }
}
