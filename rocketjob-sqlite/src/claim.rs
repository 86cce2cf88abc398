//! Claims. Candidates are read from a snapshot, in the order (priority, id) over all kinds; their
//! limits are asked; then those that are still as they were are taken in one transaction.
//!
//! One ordered scan per kind, of an index that holds nothing but ready work, and a merge here: a
//! claim costs as much as there are kinds and jobs asked for.

mod scan;
mod take;

use std::sync::Arc;

use rocketjob_core::{
    ClaimRequest, Claimed, Error, JobDocument, Limit, Result, SetAside, State, name,
};

use self::{
    scan::{Place, Scan},
    take::Take,
};
use crate::{row::Row, session::Stored, store::SqliteStore};

/// How many candidates are read at once when limits hold most of them back.
const MOST_CANDIDATES: usize = 1_000;

/// A job or batch that may be taken, and what is to be done with it.
#[derive(Debug)]
struct Candidate {
    stored: Stored,
    plan: Plan,
}

#[derive(Debug)]
enum Plan {
    /// Let it run under these limits.
    Start(Vec<Limit>),
    /// Join the batch, which writes nothing.
    Join(JobDocument),
    /// Fail it, since it cannot be read.
    SetAside(SetAside),
}

impl Candidate {
    fn new(row: Row, request: &ClaimRequest<'_>) -> Self {
        let stored = Stored::new(row);
        let plan = match JobDocument::new(stored.document.clone()) {
            Ok(batch) if batch.state() == State::Running => Plan::Join(batch),
            Ok(job) => Plan::Start(request.limits.limits(&job)),
            Err(Error::Undecodable { id, reason, .. }) => Plan::SetAside(SetAside { id, reason }),
            Err(error) => Plan::SetAside(SetAside {
                id: stored
                    .document
                    .get(name::ID)
                    .map_or_else(String::new, rocketjob_core::id_text),
                reason: error.to_string(),
            }),
        };
        Self { stored, plan }
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
        let scanned = store.read(move |connection| scan.run(connection)).await?;
        let is_last = scanned.found.len() < size;
        behind = scanned.found.last().map(scan::place);
        let take = Take {
            candidates: scanned
                .found
                .into_iter()
                .map(|row| Candidate::new(row, request))
                .collect(),
            missing,
            token: request.token.to_string(),
            workers: request.workers.to_vec(),
            turn: claimed.jobs.len(),
            now,
        };
        take.run(store, &mut claimed).await?;
        if is_last {
            if claimed.jobs.len() + claimed.batches.len() < request.count {
                claimed.next_due = scanned.next_due;
            }
            return Ok(claimed);
        }
    }
}
