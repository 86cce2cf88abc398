//! The conformance suite: one function for each promise of the storage traits.
//!
//! A store's tests run all of them with [`conformance!`](crate::conformance!), each as a test of
//! its own. The modules are named after the methods, the functions say what is promised; each
//! panics when the store does not keep it.

pub mod bell;
pub mod claim;
pub mod claims_of;
pub mod count;
pub mod delete;
pub mod event;
pub mod fence;
pub mod filter;
pub mod find;
pub mod insert;
pub mod inspect;
pub mod limit;
pub mod model;
pub mod next_claim;
pub mod next_kind;
pub mod promote;
pub mod recover;
pub mod release;
pub mod server;
pub mod settle;
pub mod stored_limit;
pub mod time;
pub mod update;
pub mod update_and_insert;

use std::time::Duration;

use jiff::Timestamp;
use rocketjob_core::{JobFailure, Store, later};

const HOUR: Duration = Duration::from_hours(1);

fn before(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_sub(by).expect("tests are about the present")
}

fn later_by_an_hour(store: &Store) -> Timestamp {
    later(store.now(), HOUR)
}

fn failure() -> JobFailure {
    JobFailure {
        class_name: "Broken".into(),
        message: "it broke".into(),
        backtrace: vec!["at line 1".into()],
        worker_name: None,
    }
}
