//! Servers of [Rocket Job](https://docs.rs/rocketjob): worker threads that claim, perform and settle.
//!
//! A [`Server`] consists of a few tasks on the I/O runtime (claims, outcomes, signs of life, sweeping)
//! and of its workers, each a thread of its own that only ever sees a queue: a slow job stalls
//! nothing but its own thread. This is the only crate that starts threads.

mod builder;
mod calm;
mod checks;
mod crew;
mod deadline;
mod dispatcher;
mod ending;
mod health;
mod lapse;
mod lease;
mod meter;
mod opening;
mod place;
mod queue;
mod registration;
mod schedule;
mod server;
mod settler;
mod signal;
#[cfg(feature = "simulation")]
#[doc(hidden)]
pub mod simulation;
mod standing;
mod supervisor;
mod sweep;
mod tally;
mod watch;
mod worker;

pub use builder::ServerBuilder;
pub use checks::StartReport;
pub use dispatcher::MAX_READ_AHEAD;
pub use health::{Health, LoopHealth};
pub use meter::{HistogramReading, KindReading, Meter, Reading};
pub use server::{Figures, HealthMonitor, Server, Stopped};
pub use signal::{recycle, terminated};
