//! Claims. Candidates are read from a snapshot, in the order (priority, id) over all kinds; while the
//! next are read, they are decoded and their limits asked; then those that are still as they were are
//! taken in one transaction.
//!
//! One ordered scan per kind, of an index that holds nothing but ready work, and a merge here: a
//! claim costs as much as there are kinds and jobs asked for.

mod grant;
mod scan;
mod take;

use std::sync::Arc;

use rocketjob_core::{
    ClaimRequest, Claimed, Error, JobDocument, JobStore, Limit, Result, SetAside, State, name,
};

use bson::oid::ObjectId;
use jiff::Timestamp;
use tokio::sync::mpsc;

use self::{
    scan::{Place, Scan},
    take::Take,
};
use crate::{row::Row, store::SqliteStore};

/// How many candidates are read at once when limits hold most of them back.
const MOST_CANDIDATES: usize = 1_000;

/// Makes the versions of limits.
#[derive(Debug, Clone)]
struct Mint(SqliteStore);

impl Mint {
    fn next(&self) -> ObjectId {
        self.0.next_id()
    }
}

/// A job or batch that may be taken, and what is to be done with it.
#[derive(Debug)]
struct Candidate {
    row: Row,
    plan: Plan,
}

#[derive(Debug)]
enum Plan {
    /// Let it run under these limits.
    Start(JobDocument, Vec<Limit>),
    /// Join the batch, which writes nothing.
    Join(JobDocument),
    /// Fail it, since it cannot be read.
    SetAside(SetAside),
}

impl Candidate {
    fn new(row: Row, request: &ClaimRequest<'_>, now: Timestamp) -> Self {
        let plan = match JobDocument::new(row.decode()) {
            Ok(batch) if batch.state() == State::Running => Plan::Join(batch),
            Ok(job) => match request.limits.limits(&job, now) {
                Ok(limits) => Plan::Start(job, limits),
                Err(failure) => Plan::SetAside(SetAside::failed(&job, failure)),
            },
            Err(Error::Undecodable { id, reason, .. }) => {
                Plan::SetAside(SetAside::undecodable(id, reason))
            }
            Err(error) => {
                let id = row
                    .decode()
                    .get(name::ID)
                    .map_or_else(String::new, rocketjob_core::id_text);
                Plan::SetAside(SetAside::undecodable(id, error.to_string()))
            }
        };
        Self { row, plan }
    }

    fn has_rate(&self) -> bool {
        match &self.plan {
            Plan::Start(_, limits) => limits.iter().any(|limit| limit.rate().is_some()),
            Plan::Join(_) | Plan::SetAside(_) => false,
        }
    }
}

/// Takes the next jobs; see [`JobStore::claim`](rocketjob_core::JobStore::claim).
pub(crate) async fn claim(store: &SqliteStore, request: &ClaimRequest<'_>) -> Result<Claimed> {
    let mut kinds = request.kinds.to_vec();
    kinds.sort_unstable();
    kinds.dedup();
    let kinds: Arc<[String]> = kinds.into();
    let now = store.time();
    let mut claimed = Claimed::default();
    let mut behind: Option<Place> = None;
    let mut size = 0;
    loop {
        let missing = request
            .count
            .saturating_sub(claimed.jobs.len() + claimed.batches.len());
        if missing == 0 || request.workers.is_empty() {
            return Ok(claimed);
        }
        // Grows while limits hold back what is found, so that a long row of such jobs is soon over.
        size = missing.max((size * 2).min(MOST_CANDIDATES));
        let scan = Scan {
            kinds: Arc::clone(&kinds),
            filter: request.filter.cloned(),
            now: now.as_millisecond(),
            skip: if behind.is_none() { request.skip } else { 0 },
            behind,
            count: size,
        };
        let (sender, mut parts) = mpsc::unbounded_channel();
        let scanning = store.read(move |connection| {
            scan.run(connection, |rows| {
                // Who has gone needs nothing more.
                let _ = sender.send(rows);
            })
        });
        let looking = async {
            let mut candidates = Vec::with_capacity(size.min(MOST_CANDIDATES));
            while let Some(rows) = parts.recv().await {
                candidates.extend(
                    rows.into_iter()
                        .map(|row| Candidate::new(row, request, now)),
                );
            }
            candidates
        };
        let (scanned, mut candidates) = tokio::join!(scanning, looking);
        let scanned = scanned?;
        let is_last = scanned.found < size;
        let booked = claimed
            .jobs
            .iter()
            .filter(|job| is_booked(job, now))
            .count();
        let left = leave_rated(&mut candidates, request.at_once.saturating_sub(booked));
        behind = scanned.last;
        let take = Take {
            candidates,
            missing,
            token: request.token.to_string(),
            workers: request.workers.to_vec(),
            turn: claimed.jobs.len(),
            now,
            mint: Mint(store.clone()),
        };
        take.run(store, &mut claimed).await?;
        if left {
            claimed.left = true;
            return Ok(claimed);
        }
        if is_last {
            if claimed.jobs.len() + claimed.batches.len() < request.count {
                // Jobs that were held may fall due themselves.
                claimed.next_due = match scanned.found {
                    0 => scanned.next_due,
                    _ => store.next_due().await?,
                };
            }
            return Ok(claimed);
        }
    }
}

/// Leaves out all from the first on that is one more with a rate than `at_once`, and says whether
/// there is one.
fn leave_rated(candidates: &mut Vec<Candidate>, at_once: usize) -> bool {
    let mut rated = 0;
    let first = candidates.iter().position(|candidate| {
        rated += usize::from(candidate.has_rate());
        rated > at_once
    });
    if let Some(first) = first {
        candidates.truncate(first);
    }
    first.is_some()
}

/// Whether its start is booked for a time to come.
fn is_booked(job: &JobDocument, now: Timestamp) -> bool {
    job.started_at().is_some_and(|start| start > now)
}
