//! Log levels that can be changed while the program runs: of all, of one module, of one job.
//!
//! Lines are written by `tracing`, and kept or dropped by whatever the program has set up to receive
//! them. So what changes levels is a trait; the crate `rocketjob-telemetry` has an implementation.

use std::{
    fmt::Debug,
    sync::{Arc, OnceLock},
};

use crate::{
    definition::LogLevel,
    error::{Error, Result},
};

/// Changes log levels in this process while it runs.
pub trait LogControl: Debug + Send + Sync {
    /// Lines are kept from `level` on: of all modules that have no level of their own, or of one
    /// `module` and what is inside it. A module is named by its path, such as `shop::billing`, or by
    /// the beginning of one.
    ///
    /// # Errors
    /// [`Error::Configuration`] when `module` is no path of a module.
    fn set_level(&self, module: Option<&str>, level: LogLevel) -> Result<()>;

    /// A job is about to be performed, which has a level of its own, or none. Called for each job,
    /// before its span is made: where there is nothing to prepare it should cost next to nothing.
    fn job_begins(&self, level: Option<LogLevel>);

    /// A job of which [`job_begins`](Self::job_begins) was told has been performed.
    fn job_ended(&self, level: Option<LogLevel>);
}

static CONTROL: OnceLock<Arc<dyn LogControl>> = OnceLock::new();

/// Makes `control` the one that is told of all jobs of this process, and that servers obey which
/// were given no other. `Telemetry::init` of the crate `rocketjob-telemetry` does so.
///
/// # Errors
/// [`Error::Configuration`] when the process has one already.
pub fn set_log_control(control: Arc<dyn LogControl>) -> Result<()> {
    CONTROL.set(control).map_err(|_| {
        Error::configuration("this process has a log control already: set it once, where it starts")
    })
}

/// What [`set_log_control`] was given.
pub fn log_control() -> Option<&'static Arc<dyn LogControl>> {
    CONTROL.get()
}
