//! Steering servers, workers and log levels: the events to which every server listens, in the
//! original's stored form, and what puts them to use.
//!
//! ```
//! use rocketjob_core::{MemoryStore, Store, control};
//!
//! # pollster::block_on(async {
//! let store = Store::new(MemoryStore::new());
//! let error = control::pause_servers(&store, &control::Target::All).await.unwrap_err();
//! assert_eq!(error.to_string(), "there are no servers");
//! # });
//! ```

mod log;
mod parameter;
mod server;
mod steer;
mod worker;

pub use log::LogAction;
pub use server::{ServerAction, ServerCommand, Target};
pub use steer::{
    dump_servers, kill_servers, pause_servers, refresh_servers, resume_servers, select_servers,
    steer_servers, stop_servers,
};
pub use worker::{WorkerAction, WorkerCommand};

/// The subscriber to which [`ServerCommand`]s are addressed.
pub const SERVER: &str = "RocketJob::Subscribers::Server";
/// The subscriber to which [`WorkerCommand`]s are addressed.
pub const WORKER: &str = "RocketJob::Subscribers::Worker";
/// The subscriber to which [`LogAction`]s are addressed.
pub const LOGGER: &str = "RocketJob::Subscribers::Logger";
