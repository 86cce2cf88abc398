//! Claims: the next jobs in the order (priority, id), merged from the ready sets of all kinds.

use std::{cmp::Reverse, collections::BTreeSet, collections::BinaryHeap};

use bson::{Bson, Document, oid::ObjectId};
use jiff::Timestamp;

use super::{
    index::{self, Key, Place},
    jobs::Jobs,
};
use crate::{
    claim::{Claim, ClaimRequest, Claimed, SetAside},
    document::JobDocument,
    error::Error,
    name,
    state::State,
};

/// Takes up to `count` jobs and batches. Costs as much as there are kinds and jobs asked for,
/// whatever else is in the store.
pub(super) fn claim(
    jobs: &mut Jobs,
    request: &ClaimRequest<'_>,
    now: Timestamp,
    mint: &dyn Fn() -> ObjectId,
) -> Claimed {
    let mut claimed = Claimed::default();
    let (mut found, mut booked) = (0, 0);
    let mut candidates = Candidates::behind_skipped(jobs, request, now);
    while found < request.count {
        let Some(key) = candidates.next(jobs) else {
            break;
        };
        let Some(document) = jobs.get(&key) else {
            continue;
        };
        let joinable = index::is_joinable(document);
        match JobDocument::new(document.clone()) {
            Ok(batch) if joinable => {
                claimed.batches.push(batch);
                found += 1;
            }
            Ok(job) => {
                if booked >= request.at_once && has_rate(request, &job, now) {
                    claimed.left = true;
                    return claimed;
                }
                let number = claimed.jobs.len();
                match start(jobs, &job, number, request, now, mint) {
                    Ok(started) => {
                        let is_booked = |job: &JobDocument| has_rate(request, job, now);
                        booked += usize::from(started.as_ref().is_some_and(is_booked));
                        found += usize::from(started.is_some());
                        claimed.jobs.extend(started);
                    }
                    Err(aside) => claimed.set_aside.push(aside),
                }
            }
            Err(error) => claimed.set_aside.push(set_aside(jobs, &key, error, now)),
        }
    }
    if found < request.count {
        claimed.next_due = jobs.next_due(now);
    }
    claimed
}

fn has_rate(request: &ClaimRequest<'_>, job: &JobDocument, now: Timestamp) -> bool {
    let limits = request.limits.limits(job, now).unwrap_or_default();
    limits.iter().any(|limit| limit.rate().is_some())
}

/// Lets `job` run as the claim's job number `number`, or holds it when a limit does not let it, or
/// fails it when its limits cannot be told.
fn start(
    jobs: &mut Jobs,
    job: &JobDocument,
    number: usize,
    request: &ClaimRequest<'_>,
    now: Timestamp,
    mint: &dyn Fn() -> ObjectId,
) -> Result<Option<JobDocument>, SetAside> {
    let worker_name = request.workers.get(number % request.workers.len().max(1));
    let Some(worker_name) = worker_name else {
        return Ok(None);
    };
    let key = Key::Object(job.id());
    let limits = match request.limits.limits(job, now) {
        Ok(limits) => limits,
        Err(failure) => {
            let aside = SetAside::failed(job, failure);
            jobs.change(&key, &aside.fail(now));
            return Err(aside);
        }
    };
    let change = match jobs.grant(&limits, now, mint) {
        Err(full) => {
            jobs.note_waiting(full, now, mint);
            full.wait()
        }
        Ok(granted) => {
            let claim = Claim {
                token: request.token.to_string(),
                worker_name: worker_name.clone(),
            };
            claim.start(granted.start.unwrap_or(now), granted.slots)
        }
    };
    jobs.change(&key, &change);
    let job = jobs
        .get(&key)
        .and_then(|document| JobDocument::new(document.clone()).ok());
    Ok(job.filter(|job| job.state() == State::Running))
}

/// Fails a document that cannot be read, so that it is in nobody's way.
fn set_aside(jobs: &mut Jobs, key: &Key, error: Error, now: Timestamp) -> SetAside {
    let aside = match error {
        Error::Undecodable { id, reason, .. } => SetAside::undecodable(id, reason),
        other => {
            let id = match key {
                Key::Object(id) => id.to_hex(),
                Key::Other(id) => id.clone(),
            };
            SetAside::undecodable(id, other.to_string())
        }
    };
    jobs.change(key, &aside.fail(now));
    aside
}

/// The jobs that a claim may take, in order. Changes to the store between two calls do no harm.
struct Candidates<'r> {
    request: &'r ClaimRequest<'r>,
    now: Timestamp,
    /// The first place of each kind that has not been looked at.
    heads: BinaryHeap<Reverse<(Place, &'r str)>>,
}

impl<'r> Candidates<'r> {
    /// Those behind the first `skip`, or all when nothing lies behind them.
    fn behind_skipped(jobs: &Jobs, request: &'r ClaimRequest<'r>, now: Timestamp) -> Self {
        let mut candidates = Self::all(jobs, request, now);
        for _ in 0..request.skip {
            candidates.next(jobs);
        }
        let rest = candidates.heads.clone();
        if request.skip > 0 && candidates.next(jobs).is_none() {
            return Self::all(jobs, request, now);
        }
        candidates.heads = rest;
        candidates
    }

    fn all(jobs: &Jobs, request: &'r ClaimRequest<'r>, now: Timestamp) -> Self {
        let kinds: BTreeSet<&str> = request.kinds.iter().map(String::as_str).collect();
        let heads = kinds
            .into_iter()
            .filter_map(|kind| {
                let first = jobs.index.ready.iter(kind).next()?;
                Some(Reverse((first.clone(), kind)))
            })
            .collect();
        Self {
            request,
            now,
            heads,
        }
    }

    fn next(&mut self, jobs: &Jobs) -> Option<Key> {
        while let Some(Reverse((place, kind))) = self.heads.pop() {
            if let Some(next) = jobs.index.ready.behind(kind, Some(&place)).next() {
                self.heads.push(Reverse((next.clone(), kind)));
            }
            let (_, key) = place;
            if jobs
                .get(&key)
                .is_some_and(|document| self.is_eligible(document))
            {
                return Some(key);
            }
        }
        None
    }

    fn is_eligible(&self, document: &Document) -> bool {
        let due = match document.get(name::RUN_AT) {
            None | Some(Bson::Null) => true,
            Some(Bson::DateTime(run_at)) => run_at.timestamp_millis() <= self.now.as_millisecond(),
            Some(_) => false,
        };
        (due || index::is_joinable(document))
            && self
                .request
                .filter
                .is_none_or(|filter| filter.matches(document))
    }
}
