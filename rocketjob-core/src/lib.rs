//! The model, the rules and the storage traits of [Rocket Job](https://docs.rs/rocketjob).
//!
//! No database, no thread and no macro logic lives here: stores implement [`Storage`], servers run
//! what [`Registry`] holds, and the derive writes a [`Definition`] for each kind of job. Programs
//! use the crate `rocketjob`, which re-exports what they need; who writes a store or a concern
//! finds the traits here.

mod action;
mod backoff;
mod bell;
mod callbacks;
mod change;
mod claim;
mod clock;
mod concern;
mod conclusion;
mod context;
pub mod control;
mod creation;
mod cron;
mod definition;
mod depends_on;
mod doctor;
mod document;
mod edit;
mod encoding;
mod enqueue;
mod error;
mod event;
mod failure;
mod field;
mod filter;
mod find;
mod handle;
mod inspection;
mod job;
mod job_set;
mod kinds;
mod limit;
mod log;
mod memory;
pub mod name;
mod new_job;
mod opening;
mod perform;
mod plain_value;
mod processing_window;
mod rate_limit;
mod recovery;
mod registry;
mod release;
mod restart;
mod retry;
mod server;
mod settlement;
mod singleton;
mod slice;
mod span;
mod start;
mod state;
mod steering;
mod storage;
mod store;
mod stored_limit;
mod subscriber;
mod successor;
mod throttle;
mod trace;
mod transition;
mod unique;
mod version;
mod why;

pub use action::{Action, ActionError};
pub use backoff::{Backoff, jittered};
pub use bell::{Bell, Bells, News};
pub use callbacks::{Callbacks, Proceed};
pub use change::{Change, Guard, Insertion, Patch, Refusal, Settled};
pub use claim::{Claim, ClaimRequest, ClaimToken, Claimed, SetAside};
pub use clock::{Clock, IdSource, ManualClock, SystemClock, in_milliseconds, later};
pub use concern::{Concern, ErasedConcern, Next, NoState, UniqueKey, UniqueScope};
pub use conclusion::{Conclusion, Saving};
pub use context::{Cancelled, JobContext, Shared, Validity};
pub use creation::Created;
pub use cron::{Cron, CronState, Misfire, Schedule, ScheduleError};
pub use definition::{
    DEFAULT_MAX_LOST_CLAIMS, DEFAULT_PRIORITY, Definition, LogLevel, LostClaim,
    PublishedDefinition, PublishedField,
};
pub use depends_on::{DependsOn, DependsOnState};
pub use doctor::{Diagnosis, examine};
pub use document::JobDocument;
pub use edit::{EDITABLE, Edits, edit};
pub use encoding::{date, decode, encode, id_text, integer, timestamp, whole_number};
pub use enqueue::{NewJobOptions, enqueue, prepare_job};
pub use error::{BoxError, Error, Problem, Result, ValidationFailed};
pub use event::{Event, EventCursor};
pub use failure::{
    FailJob, JobError, JobFailure, JobResult, LOST_CLAIM, PANIC, PLAIN_MESSAGE, TIMEOUT,
    UNDECODABLE, Wish,
};
pub use field::{FieldDefinition, FieldType, ScalarType, StoredAs};
pub use filter::{
    Cursor, DEFAULT_LIMIT, Filter, FilterError, Moment, Query, ReadFrom, Sort, compare, equal,
    moment,
};
pub use find::{FindJob, JobQuery, StateCounts};
pub use handle::{JobHandle, run_now, steer};
pub use inspection::{Finding, Inspection, Severity, Subject};
pub use job::{Job, Perform};
pub use job_set::{ALL_PRIORITIES, COUNTED, JobSet};
pub use kinds::Kinds;
pub use limit::{Limit, LimitRule, Limits, NoLimits};
pub use log::{LogControl, log_control, set_log_control};
pub use memory::MemoryStore;
pub use new_job::{CreateJob, NewJob, PerformedJob, after};
pub use opening::{Opening, Openings, Taken};
pub use perform::{Handler, Performed};
pub use processing_window::{ProcessingWindow, ProcessingWindowState};
pub use rate_limit::{RateLimit, rate_limit_key};
pub use recovery::{Recovered, is_marked, is_suspect, mark_begun, recover, release_suspects};
pub use registry::{Registration, Registry, limits_of};
pub use release::{
    Waiting, before_hold, places, release_dependents, release_due, release_free_places, set_limit,
};
pub use restart::{Restart, RestartState};
pub use retry::{
    DEFAULT_RETRY_LIMIT, ErrorClass, FailedAttempt, KEPT_ATTEMPTS, KEPT_MESSAGE, Retry, RetryOn,
    RetryState,
};
pub use server::{Heartbeat, ServerDocument, ServerState};
pub use settlement::{Outcome, Settlement, Settling};
pub use singleton::{SINGLETON_REASON, Singleton};
pub use slice::{Side, SliceCounts, SliceSet, SliceStore};
pub use span::PerformSpan;
pub use start::{Beginning, LateStart, Starts, Turn};
pub use state::{Guard as TransitionGuard, Row, State, TABLE, Transition, sources, target};
pub use steering::{Act, Ended, Steered, steer_all, steer_one};
pub use storage::{EventStore, InspectStore, JobStore, LimitStore, ServerStore, Storage};
pub use store::{AsStore, Store};
pub use stored_limit::{Rate, StoredLimit, change_limit};
pub use subscriber::{EVERYTHING, Publish, Subscriber, Subscribers, Subscription};
pub use successor::{create_successors, recover_successors, successor_id};
pub use throttle::{Throttle, ThrottleState, throttle_group_key, throttle_key};
pub use trace::{Propagator, Trace, propagate_traces};
pub use unique::{OnConflict, Unique, UniqueBy};
pub use version::{FIRST_VERSION, Upgrade, UpgradeFn, version_of};
pub use why::{Ahead, Busy, Explanation, Passed, Passing, Reason, ServerStanding, Standing, why};

/// What the code that the derive writes refers to; no part of the public interface.
#[doc(hidden)]
pub mod __private {
    pub use inventory::submit;

    pub use crate::{
        backoff::Backoff,
        callbacks::{NoCallbacks, OwnCallbacks, PerformCallbacks},
        concern::{ErasedConcern, UniqueScope},
        cron::{Cron, Misfire, Schedule},
        definition::{Definition, LogLevel, LostClaim},
        depends_on::DependsOn,
        encoding::default_value,
        error::ValidationFailed,
        field::FieldDefinition,
        job::{Job, NoRules, Perform, Probe, Unknown},
        processing_window::ProcessingWindow,
        rate_limit::RateLimit,
        registry::Registration,
        restart::Restart,
        retry::{ErrorClass, Retry, RetryOn},
        singleton::Singleton,
        throttle::Throttle,
        unique::{OnConflict, Unique, UniqueBy, unique_value},
        version::NoUpgrade,
    };
}
