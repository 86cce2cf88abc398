//! The stored names of the envelope: every field of a job's document that is not the user's own.
//!
//! The first group is the layout of the original, the second what we add and it ignores.

/// The id, which is also the order of arrival.
pub const ID: &str = "_id";
/// The kind.
pub const KIND: &str = "_type";
/// Free text for people.
pub const DESCRIPTION: &str = "description";
/// 1 (first) to 100 (last).
pub const PRIORITY: &str = "priority";
/// Whether the document goes when the job completes.
pub const DESTROY_ON_COMPLETE: &str = "destroy_on_complete";
/// Not to be started before.
pub const RUN_AT: &str = "run_at";
/// Not to be started after.
pub const EXPIRES_AT: &str = "expires_at";
/// From which level on the job's own log lines are kept.
pub const LOG_LEVEL: &str = "log_level";
/// The state.
pub const STATE: &str = "state";
/// When the job was created.
pub const CREATED_AT: &str = "created_at";
/// When a worker last began.
pub const STARTED_AT: &str = "started_at";
/// When the job completed, failed, was paused or aborted.
pub const COMPLETED_AT: &str = "completed_at";
/// How often it failed.
pub const FAILURE_COUNT: &str = "failure_count";
/// The worker that holds the claim.
pub const WORKER_NAME: &str = "worker_name";
/// Progress, 0 to 100.
pub const PERCENT_COMPLETE: &str = "percent_complete";
/// The last failure.
pub const EXCEPTION: &str = "exception";
/// The group whose running jobs are counted together.
pub const THROTTLE_GROUP: &str = "throttle_group";
/// Where a batch stands: before, processing, after.
pub const SUB_STATE: &str = "sub_state";
/// How many records a batch has.
pub const RECORD_COUNT: &str = "record_count";
/// A batch's inputs.
pub const INPUT_CATEGORIES: &str = "input_categories";
/// A batch's outputs.
pub const OUTPUT_CATEGORIES: &str = "output_categories";

/// `true` while a worker may take the job now; absent otherwise. Never counts without the state.
pub const READY: &str = "ready";
/// Why a queued job is not ready.
pub const HOLD: &str = "hold";
/// The token of the claim; it stays when the claim ends, so it never counts without the state.
pub const CLAIM: &str = "claim";
/// Unique among queued and running jobs.
pub const UNIQUE_KEY: &str = "unique_key";
/// Unique among failed, paused, queued and running jobs.
pub const UNFINISHED_KEY: &str = "unfinished_key";
/// What a key's owner says when it is in use.
pub const UNIQUE_REASON: &str = "unique_reason";
/// The places that a running job takes of its limits, `<key>:<n>`.
pub const SLOTS: &str = "slots";
/// Jobs that are to be created because this one was settled.
pub const SUCCESSORS: &str = "successors";
/// The job whose successor this one is; only while its document goes when it completes.
pub const FOLLOWS: &str = "follows";
/// The id that the job would have had that last took the place of another one here; absent while none
/// has. A claim that has read the one is not a claim on the other.
pub const REPLACEMENT: &str = "replacement";
/// How many workers died with this job.
pub const LOST_CLAIMS: &str = "lost_claims";
/// The token of the claim under which `perform` has begun; written only where that must be known
/// after a crash.
pub const BEGUN_CLAIM: &str = "begun_claim";
/// The token of the claim whose attempt was last put back to be tried again; it tells a repeated
/// write from a refused one when another worker has the job by then.
pub const RETRIED_CLAIM: &str = "retried_claim";
/// The version of the kind that wrote the job's own fields; absent for the first.
pub const PAYLOAD_VERSION: &str = "payload_version";
/// The trace that the job continues.
pub const TRACE: &str = "trace";

/// The value of [`HOLD`] for a job whose `run_at` lies in the future.
pub const HOLD_SCHEDULED: &str = "scheduled";
/// The value of [`HOLD`] for a job with which servers have died before, until it is its turn.
pub const HOLD_SUSPECT: &str = "suspect";

/// All names above: a job's own fields may not be stored under one of them.
pub const ENVELOPE: &[&str] = &[
    ID,
    KIND,
    DESCRIPTION,
    PRIORITY,
    DESTROY_ON_COMPLETE,
    RUN_AT,
    EXPIRES_AT,
    LOG_LEVEL,
    STATE,
    CREATED_AT,
    STARTED_AT,
    COMPLETED_AT,
    FAILURE_COUNT,
    WORKER_NAME,
    PERCENT_COMPLETE,
    EXCEPTION,
    THROTTLE_GROUP,
    SUB_STATE,
    RECORD_COUNT,
    INPUT_CATEGORIES,
    OUTPUT_CATEGORIES,
    READY,
    HOLD,
    CLAIM,
    UNIQUE_KEY,
    UNFINISHED_KEY,
    UNIQUE_REASON,
    SLOTS,
    SUCCESSORS,
    FOLLOWS,
    REPLACEMENT,
    LOST_CLAIMS,
    BEGUN_CLAIM,
    RETRIED_CLAIM,
    PAYLOAD_VERSION,
    TRACE,
];

/// Whether `name` belongs to the envelope.
pub fn is_envelope(name: &str) -> bool {
    ENVELOPE.contains(&name)
}
