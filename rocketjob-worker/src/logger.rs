//! Obeys what is asked of the log of this process.

use std::{fmt, process, sync::Arc};

use rocketjob_core::{
    BoxError, Error, LogControl, LogLevel, Result, Subscriber,
    control::{LOGGER, LogAction},
    log_control,
};

/// Changes log levels when an event asks this process for it: a [`LogAction`] for all processes, for
/// those of its host, or for it alone. Servers have one; a program without a server can subscribe it.
pub struct LogSubscriber {
    control: Arc<dyn LogControl>,
    host: String,
    dump: Box<dyn Fn() + Send + Sync>,
}

impl LogSubscriber {
    /// Changes the levels of `control`.
    pub fn new(control: Arc<dyn LogControl>) -> Self {
        Self {
            control,
            host: gethostname::gethostname().to_string_lossy().into_owned(),
            dump: Box::new(|| tracing::warn!("this process has no workers to tell of")),
        }
    }

    /// Of a server that was given this control, or none: then the process's own counts.
    pub(crate) fn of_server(control: Option<Arc<dyn LogControl>>) -> Self {
        let control = control.or_else(|| log_control().cloned());
        Self::new(control.unwrap_or_else(|| Arc::new(NoControl)))
    }

    /// Calls `dump` when an event asks what the threads of this process do: it writes that to the log.
    #[must_use]
    pub fn on_dump(mut self, dump: impl Fn() + Send + Sync + 'static) -> Self {
        self.dump = Box::new(dump);
        self
    }

    fn set(&self, level: LogLevel, module: Option<&str>) -> Result<()> {
        self.control.set_level(module, level)?;
        // Whatever the level is now, who asked for it must be able to see it.
        let level = level.as_str();
        tracing::error!(target: "rocketjob::log", level, module, "the log level was changed");
        Ok(())
    }
}

impl Subscriber for LogSubscriber {
    const NAME: &'static str = LOGGER;
    type Action = LogAction;

    async fn act(&self, action: LogAction) -> Result<(), BoxError> {
        if !action.is_for(&self.host, process::id()) {
            return Ok(());
        }
        match action {
            LogAction::Set { level, module, .. } => self.set(level, module.as_deref())?,
            LogAction::ThreadDump { .. } => (self.dump)(),
        }
        Ok(())
    }
}

impl fmt::Debug for LogSubscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogSubscriber")
            .field("control", &self.control)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// Of a process whose lines are written by something that we do not know.
#[derive(Debug)]
struct NoControl;

impl LogControl for NoControl {
    fn set_level(&self, _module: Option<&str>, _level: LogLevel) -> Result<()> {
        Err(Error::configuration(
            "this process cannot change its log levels: let it set up its log with the crate `rocketjob-telemetry`, or give its server a `log_control`",
        ))
    }

    fn job_begins(&self, _level: Option<LogLevel>) {}

    fn job_ended(&self, _level: Option<LogLevel>) {}
}
