//! What crosses crates: jobs on real servers, on every store.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails"
)]
#![expect(clippy::print_stdout, reason = "measured figures")]

mod bad_input;
mod concern;
mod encoding;
mod fault;
mod import;
mod layout;
mod lifecycle;
mod order;
mod process;
mod query;
mod quick_start;
mod runtime;
mod singleton;
mod stores;
mod transaction;
