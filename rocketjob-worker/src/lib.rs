//! Servers of [Rocket Job](https://docs.rs/rocketjob): worker threads that claim, perform and settle.
//!
//! A [`Server`] consists of a few tasks on the I/O runtime (claims, outcomes, signs of life, sweeping)
//! and of its workers, each a thread of its own that only ever sees a queue: a slow job stalls
//! nothing but its own thread. This is the only crate that starts threads.

mod builder;
mod calm;
mod checks;
mod control;
mod crew;
mod deadline;
mod dispatcher;
mod dump;
mod ending;
mod handover;
mod health;
mod lapse;
mod lease;
mod listen;
mod logger;
mod meter;
mod opening;
mod orders;
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
mod thread;
mod watch;
mod worker;

pub use builder::ServerBuilder;
pub use checks::{StartReport, Unreadable};
pub use dispatcher::MAX_READ_AHEAD;
pub use dump::{Dump, JobDump, ThreadDump, WorkerDump};
pub use health::{Health, LoopHealth};
pub use listen::Listener;
pub use logger::LogSubscriber;
pub use meter::{HistogramReading, KindReading, Meter, Reading};
pub use server::{Figures, HealthMonitor, Server, Stopped};
pub use signal::{recycle, terminated};
