//! A server as a store sees it: something that claims.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use bson::oid::ObjectId;
use jiff::Timestamp;
use rocketjob_core::{
    Claim, ClaimRequest, ClaimToken, Claimed, Filter, JobDocument, JobFailure, Limit, Limits,
    NoLimits, Result, Store,
};

/// Claims on a store like a server does, with an incarnation and tokens of its own.
#[derive(Debug)]
pub struct Claimer {
    /// The store on which it claims.
    pub store: Store,
    /// Its incarnation.
    pub server: ObjectId,
    /// The names of its workers.
    pub workers: Vec<String>,
    /// The kinds that it performs.
    pub kinds: Vec<String>,
    sequence: AtomicU64,
    may_lag: bool,
}

/// What a claim asks for besides the number of jobs.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// How many jobs at most.
    pub count: usize,
    /// How many at the head to leave to others.
    pub skip: usize,
    /// A further condition.
    pub filter: Option<&'a Filter>,
    /// What the jobs must observe.
    pub limits: &'a dyn Limits,
    /// How many can begin at once; all unless given.
    pub at_once: Option<usize>,
}

impl Wanted<'_> {
    /// Up to `count` jobs from the head of the queue.
    pub fn count(count: usize) -> Self {
        Self {
            count,
            skip: 0,
            filter: None,
            limits: &NoLimits,
            at_once: None,
        }
    }
}

impl Claimer {
    /// A server with one worker.
    pub fn new<K: Into<String>>(store: &Store, kinds: impl IntoIterator<Item = K>) -> Self {
        let server = store.next_id();
        Self {
            store: store.clone(),
            server,
            workers: vec![format!("{}:1", server.to_hex())],
            kinds: kinds.into_iter().map(Into::into).collect(),
            may_lag: false,
            sequence: AtomicU64::new(1),
        }
    }

    /// With this many workers.
    #[must_use]
    pub fn with_workers(mut self, count: usize) -> Self {
        self.workers = (1..=count)
            .map(|number| format!("{}:{number}", self.server.to_hex()))
            .collect();
        self
    }

    /// Whose claims may miss what has become ready just now.
    #[must_use]
    pub fn that_may_lag(mut self) -> Self {
        self.may_lag = true;
        self
    }

    /// The token of the last claim.
    pub fn last_token(&self) -> ClaimToken {
        ClaimToken {
            server: self.server,
            sequence: self.sequence.load(Ordering::Relaxed) - 1,
        }
    }

    /// Claims up to `count` jobs.
    pub async fn claim(&self, count: usize) -> Claimed {
        self.claim_wanted(&Wanted::count(count)).await
    }

    /// Claims what is wanted.
    pub async fn claim_wanted(&self, wanted: &Wanted<'_>) -> Claimed {
        self.try_claim(wanted).await.unwrap()
    }

    /// Claims what is wanted, from a store that may fail.
    pub async fn try_claim(&self, wanted: &Wanted<'_>) -> Result<Claimed> {
        let request = ClaimRequest {
            token: ClaimToken {
                server: self.server,
                sequence: self.sequence.fetch_add(1, Ordering::Relaxed),
            },
            workers: &self.workers,
            count: wanted.count,
            kinds: &self.kinds,
            filter: wanted.filter,
            skip: wanted.skip,
            may_lag: self.may_lag,
            at_once: wanted.at_once.unwrap_or(wanted.count),
            limits: wanted.limits,
        };
        self.store.claim(&request).await
    }

    /// Claims the next job, which must be there.
    pub async fn claim_one(&self) -> (JobDocument, Claim) {
        let job = self.claim(1).await.jobs.pop().expect("a job is ready");
        let claim = claim_of(&job);
        (job, claim)
    }
}

/// The claim under which a running job is held.
pub fn claim_of(job: &JobDocument) -> Claim {
    job.claim().expect("a claimed job carries its claim")
}

/// The ids of jobs, in the same order.
pub fn ids(jobs: &[JobDocument]) -> Vec<ObjectId> {
    jobs.iter().map(JobDocument::id).collect()
}

/// Limits each job by the key in one of its own fields.
#[derive(Debug, Clone, Default)]
pub struct FieldLimits {
    /// The field that holds the key, and how many jobs with the same key may run.
    pub fields: BTreeMap<String, u32>,
}

impl FieldLimits {
    /// At most `max` jobs with the same value in `field` run.
    pub fn new(field: &str, max: u32) -> Self {
        Self {
            fields: BTreeMap::from([(field.to_owned(), max)]),
        }
    }

    /// Further, at most `max` jobs with the same value in `field`.
    #[must_use]
    pub fn and(mut self, field: &str, max: u32) -> Self {
        self.fields.insert(field.to_owned(), max);
        self
    }
}

impl Limits for FieldLimits {
    fn limits(&self, job: &JobDocument, _now: Timestamp) -> Result<Vec<Limit>, JobFailure> {
        let limits = self.fields.iter().filter_map(|(field, max)| {
            let key = job.get(field)?.as_str()?.to_owned();
            Some(Limit::running(key, *max))
        });
        Ok(limits.collect())
    }
}
