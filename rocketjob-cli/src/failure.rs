//! What goes wrong on the command line, and the exit codes.

use rocketjob_core::{Error, FilterError};

/// Something could not be done; the message says what.
pub const FAILED: u8 = 1;
/// The arguments, the configuration or the input make no sense; nothing was done.
pub const USAGE: u8 = 2;
/// No job, server or kind is what was asked for; nothing was done.
pub const NOTHING: u8 = 3;
/// The store does not answer.
pub const UNAVAILABLE: u8 = 4;
/// Interrupted by a signal; what was done before is done.
pub const INTERRUPTED: u8 = 130;

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// What the process exits with.
    pub fn exit_code(&self) -> u8 {
        self.code
    }

    /// What is wrong, for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    pub(crate) fn other(message: impl Into<String>) -> Self {
        Self::new(FAILED, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message)
    }

    pub(crate) fn nothing(message: impl Into<String>) -> Self {
        Self::new(NOTHING, message)
    }

    pub(crate) fn interrupted(message: impl Into<String>) -> Self {
        Self::new(INTERRUPTED, message)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Unavailable { .. } => UNAVAILABLE,
            Error::NotFound { .. } => NOTHING,
            Error::Configuration(_)
            | Error::Invalid(_)
            | Error::Unstorable { .. }
            | Error::DuplicateKind { .. } => USAGE,
            _ => FAILED,
        };
        Self::new(code, error.chain())
    }
}

impl From<FilterError> for Failure {
    fn from(error: FilterError) -> Self {
        Self::usage(error.to_string())
    }
}
