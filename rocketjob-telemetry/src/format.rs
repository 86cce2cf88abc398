//! How lines look.

use std::{env, io::IsTerminal as _, str::FromStr};

use rocketjob_core::Error;
use tracing_subscriber::{
    Layer, Registry,
    fmt::{self, writer::BoxMakeWriter},
};

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object in each line, for machines: `timestamp`, `level`, `target`, `fields` (with
    /// `message`), and `spans`, outermost first.
    Json,
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(Error::configuration(format!(
                "`{name}` is no format of log lines: there are `text` and `json`"
            ))),
        }
    }
}

/// Whether text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Colors {
    /// When it goes to a terminal, and the environment does not say `NO_COLOR`.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Colors {
    fn are_on(self, is_stderr: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                is_stderr && !unwanted && std::io::stderr().is_terminal()
            }
        }
    }
}

/// What writes lines.
pub(crate) fn layer(
    format: Format,
    colors: Colors,
    writer: Option<BoxMakeWriter>,
) -> Box<dyn Layer<Registry> + Send + Sync> {
    let ansi = colors.are_on(writer.is_none());
    let writer = writer.unwrap_or_else(|| BoxMakeWriter::new(std::io::stderr));
    let layer = fmt::layer().with_writer(writer);
    match format {
        Format::Text => layer.with_ansi(ansi).boxed(),
        Format::Json => layer.json().with_current_span(false).boxed(),
    }
}
