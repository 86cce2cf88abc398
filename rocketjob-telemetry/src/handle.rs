//! What changes levels while the program runs.

use std::sync::Arc;

use rocketjob_core::{LogControl, LogLevel, Result};

use crate::{filter::JobFilter, levels::Levels};

/// Changes the levels of a program while it runs. Cloning it costs nothing.
///
/// ```
/// use rocketjob_core::{LogControl, LogLevel};
/// use rocketjob_telemetry::LogHandle;
///
/// let handle = LogHandle::new("warn,shop=info")?;
/// handle.set_level(Some("shop::billing"), LogLevel::Debug)?;
/// assert_eq!(handle.directives(), "shop::billing=debug,shop=info,warn");
///
/// handle.set_level(None, LogLevel::Error)?;
/// assert_eq!(handle.directives(), "shop::billing=debug,shop=info,error");
/// # Ok::<_, rocketjob_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LogHandle(Arc<Levels>);

impl LogHandle {
    /// Levels that begin as `directives` say, in the form of
    /// [`EnvFilter`](tracing_subscriber::EnvFilter): `info`, `warn,shop::billing=debug`.
    ///
    /// # Errors
    /// [`Error::Configuration`](rocketjob_core::Error::Configuration) when they make no sense.
    pub fn new(directives: &str) -> Result<Self> {
        Ok(Self(Arc::new(Levels::new(directives)?)))
    }

    /// A filter of these levels, for a layer of a subscriber that the program builds itself:
    /// `layer.with_filter(handle.filter())`. For jobs with their own levels the handle must be the
    /// process's [`log_control`](rocketjob_core::log_control) too.
    pub fn filter(&self) -> JobFilter {
        JobFilter::new(Arc::clone(&self.0))
    }

    /// The levels in force, as directives. Those of running jobs are not among them.
    pub fn directives(&self) -> String {
        self.0.base().to_string()
    }

    /// Replaces all levels, those that were changed among them.
    ///
    /// # Errors
    /// [`Error::Configuration`](rocketjob_core::Error::Configuration) when the directives make no
    /// sense; nothing changes then.
    pub fn reload(&self, directives: &str) -> Result<()> {
        self.0.reload(directives)
    }

    pub(crate) fn levels(&self) -> &Levels {
        &self.0
    }
}

impl LogControl for LogHandle {
    fn set_level(&self, module: Option<&str>, level: LogLevel) -> Result<()> {
        self.0.set(module, level)
    }

    fn job_begins(&self, level: Option<LogLevel>) {
        self.0.job_begins(level);
    }

    fn job_ended(&self, level: Option<LogLevel>) {
        self.0.job_ended(level);
    }
}
