//! Servers of [Rocket Job](https://docs.rs/rocketjob): worker threads that claim, perform and settle.
//!
//! A [`Server`] consists of a few tasks on the I/O runtime (claims, outcomes, signs of life) and of
//! its workers, each a thread of its own that only ever sees a queue: a slow job stalls nothing
//! but its own thread. This is the only crate that starts threads.

mod dispatcher;
mod heartbeat;
mod queue;
mod server;
mod settler;
mod signal;
mod watch;
mod worker;

pub use dispatcher::MAX_READ_AHEAD;
pub use server::{Server, ServerBuilder, Stopped};
pub use signal::terminated;
