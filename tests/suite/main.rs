//! What crosses crates: jobs on real servers, on every store.

mod bad_input;
mod concern;
mod encoding;
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
