//! What each transition writes, in the layout of the original.
//!
//! A field that is cleared becomes null where it was set before, as the original leaves it; the
//! marks that are ours go.

use bson::{Bson, Document};
use jiff::Timestamp;

use crate::{
    change::Change,
    document::JobDocument,
    encoding::{date, timestamp},
    failure::JobFailure,
    name,
    recovery::is_suspect,
    state::State,
};

/// `perform` ended well.
pub(crate) fn complete(change: &mut Change, now: Timestamp) {
    change.put(name::STATE, State::Completed.as_str());
    change.put(name::COMPLETED_AT, date(now));
    change.put(name::WORKER_NAME, Bson::Null);
    change.put(name::PERCENT_COMPLETE, 100);
}

/// The job fails.
pub(crate) fn fail(change: &mut Change, job: &JobDocument, failure: JobFailure, now: Timestamp) {
    count_failure(change, job, failure);
    stop(change, job, State::Failed, now);
}

/// The job failed and is queued again.
pub(crate) fn retry_later(
    change: &mut Change,
    job: &JobDocument,
    failure: JobFailure,
    run_at: Timestamp,
    now: Timestamp,
) {
    count_failure(change, job, failure);
    change.put(name::STATE, State::Queued.as_str());
    change.put(name::RUN_AT, date(run_at));
    clear(change, job, name::WORKER_NAME);
    if job.get(name::LOST_CLAIMS).is_some() {
        // It has shown that it does not kill its server.
        change.take(name::LOST_CLAIMS);
    }
    mark(change, Some(run_at), None, now);
}

/// The job is given up.
pub(crate) fn abort(change: &mut Change, job: &JobDocument, now: Timestamp) {
    stop(change, job, State::Aborted, now);
}

/// The job is stopped for now.
pub(crate) fn pause(change: &mut Change, job: &JobDocument, now: Timestamp) {
    stop(change, job, State::Paused, now);
}

/// A claim is handed back. Suspects wait for their turn.
pub(crate) fn requeue(change: &mut Change, job: &JobDocument, now: Timestamp) {
    change.put(name::STATE, State::Queued.as_str());
    clear(change, job, name::STARTED_AT);
    clear(change, job, name::WORKER_NAME);
    let is_suspect = is_suspect(job) || change.set.contains_key(name::LOST_CLAIMS);
    let hold = is_suspect.then(|| name::HOLD_SUSPECT.to_owned());
    // A concern may have put it off.
    let put_off = change.set.get_datetime(name::RUN_AT).ok().copied();
    let run_at = put_off.and_then(timestamp).or_else(|| job.run_at());
    mark(change, run_at, hold, now);
}

/// A failed job waits again.
pub(crate) fn retry(change: &mut Change, job: &JobDocument, hold: Option<String>, now: Timestamp) {
    change.put(name::STATE, State::Queued.as_str());
    clear(change, job, name::COMPLETED_AT);
    clear(change, job, name::WORKER_NAME);
    change.take(name::EXCEPTION);
    change.take(name::LOST_CLAIMS);
    mark(change, job.run_at(), hold, now);
}

/// A paused job goes on.
pub(crate) fn resume(change: &mut Change, job: &JobDocument, hold: Option<String>, now: Timestamp) {
    change.put(name::STATE, State::Queued.as_str());
    clear(change, job, name::COMPLETED_AT);
    mark(change, job.run_at(), hold, now);
}

/// Sets the marks of a queued job: ready, or held and why.
pub(crate) fn mark(
    change: &mut Change,
    run_at: Option<Timestamp>,
    hold: Option<String>,
    now: Timestamp,
) {
    let scheduled = run_at
        .filter(|run_at| *run_at > now)
        .map(|_| name::HOLD_SCHEDULED.to_owned());
    match scheduled.or(hold) {
        None => {
            change.put(name::READY, true);
            change.take(name::HOLD);
        }
        Some(hold) => {
            change.put(name::HOLD, hold);
            change.take(name::READY);
        }
    }
}

/// The stored form of a failure of `job`.
pub(crate) fn exception(job: &JobDocument, mut failure: JobFailure) -> Document {
    if failure.worker_name.is_none() {
        failure.worker_name = job.worker_name().map(ToOwned::to_owned);
    }
    failure.to_document()
}

fn count_failure(change: &mut Change, job: &JobDocument, failure: JobFailure) {
    change.put(name::EXCEPTION, exception(job, failure));
    change.increment.push((name::FAILURE_COUNT.into(), 1));
}

fn stop(change: &mut Change, job: &JobDocument, state: State, now: Timestamp) {
    change.put(name::STATE, state.as_str());
    change.put(name::COMPLETED_AT, date(now));
    clear(change, job, name::WORKER_NAME);
    change.take(name::READY);
    change.take(name::HOLD);
}

/// Null where the field was set before.
fn clear(change: &mut Change, job: &JobDocument, field: &str) {
    if job.as_document().contains_key(field) {
        change.put(field, Bson::Null);
    }
}
