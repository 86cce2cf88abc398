//! What crosses crates: jobs on real servers, on every store.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails"
)]
#![expect(clippy::print_stdout, reason = "measured figures")]

mod bad_input;
mod bell;
mod callback;
mod clock;
mod concern;
#[path = "../../examples/unique/creates.rs"]
mod creates;
mod cron;
mod cron_chain;
mod crowd;
mod death;
mod depends_on;
mod dispatch;
mod doctor;
mod encoding;
mod event;
mod fault;
mod hazard;
#[cfg(feature = "jobs")]
mod housekeeping;
mod import;
#[path = "../../examples/hazard/job.rs"]
#[expect(
    dead_code,
    reason = "the program's own module, of which this needs a part"
)]
mod job;
mod layout;
mod lifecycle;
mod logs;
#[cfg(feature = "metrics")]
mod metrics;
#[path = "../../examples/observed/job.rs"]
mod observed;
mod opening;
mod order;
mod process;
mod processing_window;
mod query;
mod quick_start;
mod quirks;
mod rate_limit;
mod restart;
mod retry;
mod retry_kill;
mod runtime;
mod singleton;
mod steering;
mod stores;
mod supervision;
mod throttle;
mod together;
mod trace;
mod transaction;
mod unique;
mod unique_creates;
mod version;
mod why;
