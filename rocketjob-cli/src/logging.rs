//! Log lines, on the output of errors.

use rocketjob_telemetry::{Format, Telemetry};

use crate::{
    arguments::{LogArguments, LogFormat},
    failure::Failure,
};

/// Writes log lines from now on, with levels that can be changed through the store; of commands that
/// log for nobody, only what went wrong.
pub(crate) fn set_up(arguments: Option<&LogArguments>) -> Result<(), Failure> {
    if tracing::dispatcher::has_been_set() {
        // The program has set up its own already.
        return Ok(());
    }
    let (levels, format) = match arguments {
        Some(log) => (log.log_level.as_str(), log.log_format),
        None => ("error", LogFormat::Text),
    };
    Telemetry::builder()
        .levels(levels)
        .format(match format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        })
        .init()
        .map_err(|error| {
            Failure::usage(format!(
                "--log-level `{levels}` makes no sense: {}",
                error.chain()
            ))
        })?;
    Ok(())
}
