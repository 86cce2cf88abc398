//! Sets everything up.

use std::{
    env, fmt,
    sync::{Arc, atomic::Ordering},
};

use rocketjob_core::{Error, Result, log_control, set_log_control};
use tracing::level_filters::LevelFilter;
use tracing_log::{AsLog as _, LogTracer};
use tracing_subscriber::{
    Layer, Registry,
    fmt::{MakeWriter, writer::BoxMakeWriter},
    layer::SubscriberExt as _,
};

use crate::{
    format::{self, Colors, Format},
    handle::LogHandle,
};

/// Where levels stand when nobody says otherwise.
const VARIABLE: &str = "RUST_LOG";
const DEFAULT: &str = "info";

/// Sets up what becomes of the log lines and spans of a program.
///
/// ```
/// use rocketjob_core::{LogControl, LogLevel};
/// use rocketjob_telemetry::{Format, Telemetry};
///
/// let log = Telemetry::builder().levels("warn,shop=info").format(Format::Json).init()?;
/// // Later, from wherever:
/// log.set_level(Some("shop::billing"), LogLevel::Trace)?;
/// # Ok::<_, rocketjob_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Telemetry(());

impl Telemetry {
    /// Text on the standard error, from the levels on that `RUST_LOG` says, or else from `info` on.
    pub fn builder() -> TelemetryBuilder {
        TelemetryBuilder {
            levels: None,
            format: Format::default(),
            colors: Colors::default(),
            writer: None,
            layers: Vec::new(),
        }
    }

    /// As [`builder`](Self::builder) has it.
    ///
    /// # Errors
    /// As [`TelemetryBuilder::init`].
    pub fn init() -> Result<LogHandle> {
        Self::builder().init()
    }
}

/// See [`Telemetry::builder`].
#[must_use = "nothing is set up before `init`"]
pub struct TelemetryBuilder {
    levels: Option<String>,
    format: Format,
    colors: Colors,
    writer: Option<BoxMakeWriter>,
    layers: Vec<Box<dyn Layer<Registry> + Send + Sync>>,
}

impl TelemetryBuilder {
    /// From which levels on lines are kept, whatever `RUST_LOG` says; in the form of
    /// [`EnvFilter`](tracing_subscriber::EnvFilter): `info`, `warn,shop::billing=debug`.
    pub fn levels(mut self, directives: impl Into<String>) -> Self {
        self.levels = Some(directives.into());
        self
    }

    /// How lines are written.
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Whether text is coloured.
    pub fn colors(mut self, colors: Colors) -> Self {
        self.colors = colors;
        self
    }

    /// Where lines are written, in place of the standard error.
    pub fn writer(mut self, writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static) -> Self {
        self.writer = Some(BoxMakeWriter::new(writer));
        self
    }

    /// Adds another receiver of spans and lines, such as one that exports them. It gets all of them,
    /// whatever the levels: give it a filter of its own with
    /// [`with_filter`](Layer::with_filter), or all lines of code are looked at all the time.
    pub fn layer(mut self, layer: impl Layer<Registry> + Send + Sync) -> Self {
        self.layers.push(layer.boxed());
        self
    }

    /// Sets it up for the whole process, lines of the crate `log` included, and makes the handle the
    /// process's [`log_control`].
    ///
    /// # Errors
    /// [`Error::Configuration`] when the levels make no sense, or the process has a subscriber or a
    /// log control already.
    pub fn init(mut self) -> Result<LogHandle> {
        let handle = LogHandle::new(&self.directives()?)?;
        if log_control().is_some() {
            return Err(twice("log control"));
        }
        let lines = format::layer(self.format, self.colors, self.writer);
        let lines = lines.with_filter(handle.filter());
        self.layers.push(lines.boxed());
        let subscriber = Registry::default().with(self.layers);
        tracing::subscriber::set_global_default(subscriber)
            .map_err(|_| twice("subscriber of `tracing`"))?;
        set_log_control(Arc::new(handle.clone()))?;
        let level = LevelFilter::current().as_log();
        // A program that has a logger of its own for the crate `log` keeps it.
        let hears_log = LogTracer::builder().with_max_level(level).init().is_ok();
        handle
            .levels()
            .hears_log
            .store(hears_log, Ordering::Release);
        Ok(handle)
    }

    fn directives(&self) -> Result<String> {
        if let Some(levels) = &self.levels {
            return Ok(levels.clone());
        }
        match env::var(VARIABLE) {
            Ok(levels) if !levels.trim().is_empty() => Ok(levels),
            Ok(_) | Err(env::VarError::NotPresent) => Ok(DEFAULT.to_owned()),
            Err(env::VarError::NotUnicode(_)) => Err(Error::configuration(format!(
                "the environment's `{VARIABLE}` is no text"
            ))),
        }
    }
}

impl fmt::Debug for TelemetryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TelemetryBuilder")
            .field("levels", &self.levels)
            .field("format", &self.format)
            .field("colors", &self.colors)
            .field("writer", &self.writer)
            .field("layers", &self.layers.len())
            .finish()
    }
}

fn twice(what: &str) -> Error {
    Error::configuration(format!(
        "this process has a {what} already: set the telemetry up once, where the program starts"
    ))
}
