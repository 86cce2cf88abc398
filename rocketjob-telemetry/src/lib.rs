//! Log lines of [Rocket Job](https://docs.rs/rocketjob)'s programs.
//!
//! [`Telemetry`] sets up what a program needs to write its lines: as text or JSON, in colours on a
//! terminal, from a level on that can be changed while it runs, for all modules or for one. A job
//! that has a level of its own has its own lines kept from there on, and no other's.
//!
//! A program that builds its own subscriber takes the [`LogHandle`] and its [`JobFilter`] alone.

mod filter;
mod format;
mod handle;
mod levels;
mod telemetry;

pub use filter::JobFilter;
pub use format::{Colors, Format};
pub use handle::LogHandle;
pub use telemetry::{Telemetry, TelemetryBuilder};
