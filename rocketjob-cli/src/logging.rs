//! Log lines, on the output of errors.

use tracing_subscriber::EnvFilter;

use crate::{
    arguments::{LogArguments, LogFormat},
    failure::Failure,
};

/// Writes log lines from now on; of commands that log for nobody, only what looks wrong.
pub(crate) fn set_up(arguments: Option<&LogArguments>) -> Result<(), Failure> {
    let (filter, format) = match arguments {
        Some(log) => (log.log_level.as_str(), log.log_format),
        None => ("error", LogFormat::Text),
    };
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::usage(format!("--log-level `{filter}` makes no sense: {error}"))
    })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(console::colors_enabled_stderr())
        .with_writer(std::io::stderr);
    // A program may have set up its own already.
    let _ = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    Ok(())
}
