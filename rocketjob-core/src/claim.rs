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
    limit::Limits,
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
    /// How many jobs can begin at once: of those with a rate no more are claimed, since each has a
    /// start booked that it would miss.
    pub at_once: usize,
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
    /// Whether jobs with a rate were left, since no more can begin at once.
    pub left: bool,
    /// Documents that do not fit; they are failed and in nobody's way.
    pub set_aside: Vec<SetAside>,
    /// When the next scheduled job falls due; told only when fewer jobs than asked for were found.
    pub next_due: Option<Timestamp>,
    /// How many jobs were found and then lost to a claim of another server that was faster.
    pub lost: usize,
}

/// A document that was failed by the claim, since it cannot be read, or its limits cannot be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Its id, as text since it may be of any type.
    pub id: String,
    /// What is wrong with it.
    pub reason: String,
    /// The class of the failure that its job gets.
    pub class_name: String,
}

impl SetAside {
    /// A document that cannot be read.
    pub fn undecodable(id: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            reason: reason.into(),
            class_name: UNDECODABLE.into(),
        }
    }

    /// A job whose limits cannot be told.
    pub fn failed(job: &JobDocument, failure: JobFailure) -> Self {
        Self {
            id: job.id().to_hex(),
            reason: failure.message,
            class_name: failure.class_name,
        }
    }

    /// What is wrong with `document`: it cannot be read as a job, or it has failed since its struct
    /// could not be read from it. `None` for one with which all is well.
    pub fn of(document: &Document) -> Option<Self> {
        let id = document.get(name::ID).map(id_text).unwrap_or_default();
        match JobDocument::new(document.clone()) {
            Ok(job) => {
                let failure = job.exception().filter(|_| job.state() == State::Failed)?;
                (failure.class_name == UNDECODABLE).then(|| Self::undecodable(id, failure.message))
            }
            Err(Error::Undecodable { reason, .. }) => Some(Self::undecodable(id, reason)),
            Err(other) => Some(Self::undecodable(id, other.to_string())),
        }
    }

    /// What a claim writes to the document at the store's time `now`, so that it is in nobody's way.
    pub fn fail(&self, now: Timestamp) -> Change {
        let failure = JobFailure {
            class_name: self.class_name.clone(),
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
