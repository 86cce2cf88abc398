//! What a command writes: text for people or JSON, colours only on a terminal.

use std::io::{self, IsTerminal, Write};

use console::{Term, style};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    arguments::Common,
    failure::Failure,
    table::{Column, table},
};

/// Where and how a command writes.
#[derive(Debug)]
pub(crate) struct Output {
    is_json: bool,
}

impl Output {
    pub(crate) fn new(common: &Common) -> Self {
        Self {
            is_json: common.json,
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.is_json
    }

    /// Whether people see the standard output as it is written.
    pub(crate) fn is_live(&self) -> bool {
        !self.is_json && io::stdout().is_terminal()
    }

    /// A line of data.
    #[expect(clippy::unused_self, reason = "the one way to the standard output")]
    pub(crate) fn line(&self, text: &str) -> Result<(), Failure> {
        written(writeln!(io::stdout(), "{text}"))
    }

    /// A document of data.
    pub(crate) fn document(&self, document: &Value) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(document)
            .map_err(|error| Failure::other(format!("no JSON can be made: {error}")))?;
        self.line(&text)
    }

    /// Something of data that is serialized.
    pub(crate) fn serialized(&self, data: &impl Serialize) -> Result<(), Failure> {
        let document = serde_json::to_value(data)
            .map_err(|error| Failure::other(format!("no JSON can be made: {error}")))?;
        self.document(&document)
    }

    /// A document of data on one line, where others follow.
    pub(crate) fn document_line(&self, document: &Value) -> Result<(), Failure> {
        self.line(&document.to_string())
    }

    /// Something that is no data, for people.
    pub(crate) fn note(&self, text: &str) {
        if !self.is_json {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// Why the command did not do what it was asked for.
    pub(crate) fn failure(&self, failure: &Failure) {
        let mut errors = io::stderr();
        let _ = if self.is_json {
            let error = json!({ "code": failure.exit_code(), "message": failure.message() });
            writeln!(errors, "{}", json!({ "error": error }))
        } else {
            let label = style("error:").for_stderr().red().bold();
            writeln!(errors, "{label} {}", failure.message())
        };
    }

    /// Asks whether to go on; without a terminal nobody can answer.
    pub(crate) fn confirm(&self, question: &str) -> Result<(), Failure> {
        if self.is_json || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Err(Failure::usage(format!(
                "{question} Nobody can be asked here: add --yes"
            )));
        }
        let _ = write!(io::stderr(), "{question} [y/N] ");
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer);
        if read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
            Ok(())
        } else {
            Err(Failure::other("nothing was done"))
        }
    }

    /// A count that grows while people watch; invisible elsewhere.
    pub(crate) fn progress(&self, total: Option<u64>, what: &str) -> ProgressBar {
        if self.is_json || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let (bar, template) = match total {
            Some(total) => (
                ProgressBar::new(total),
                "{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}",
            ),
            None => (
                ProgressBar::new_spinner(),
                "{spinner} {msg} {human_pos} {per_sec}",
            ),
        };
        let bar = bar.with_message(what.to_owned());
        match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }

    /// A table as wide as the terminal, or as its content where there is none.
    pub(crate) fn table(&self, columns: &[Column], rows: &[Vec<String>]) -> String {
        let room = self.is_live().then(|| Term::stdout().size().1);
        table(columns, rows, room)
    }
}

/// A reader that goes away, such as `head`, has seen enough.
pub(crate) fn written(outcome: io::Result<()>) -> Result<(), Failure> {
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::other(format!(
            "the output cannot be written: {error}"
        ))),
        _ => Ok(()),
    }
}
