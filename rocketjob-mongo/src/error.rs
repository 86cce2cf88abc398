//! What the driver's errors mean: the only place that looks into them.

use bson::{Document, RawDocumentBuf};
use mongodb::error::{Error as DriverError, ErrorKind, WriteFailure};
use rocketjob_core::Error;

/// A unique index stands against a write.
pub(crate) const DUPLICATE_KEY: i32 = 11000;
/// A collection is there already.
const NAMESPACE_EXISTS: i32 = 48;
/// There is no such collection.
const NAMESPACE_NOT_FOUND: i32 = 26;
const AUTHENTICATION_FAILED: i32 = 18;
/// There are no change streams: a standalone server, one that knows no such stage or command, or a
/// user who may not read them.
const NO_CHANGE_STREAMS: [i32; 6] = [13, 59, 115, 303, 40324, 40573];

/// A text that is no number; see `joint`.
const CONVERSION_FAILURE: i32 = 241;

/// The server is shutting down, is no longer the primary, or lost another one: the write may or may
/// not be made, and the same command may succeed on the next primary.
const INTERRUPTED: [i32; 13] = [
    6, 7, 89, 91, 134, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436,
];

/// Whether a command with this code in its answer may succeed when it is sent again.
pub(crate) fn is_interruption(code: i32) -> bool {
    INTERRUPTED.contains(&code)
}

/// Whether the connection broke, or the server gave the command up, while it may have been made.
pub(crate) fn is_interrupted(error: &DriverError) -> bool {
    match &*error.kind {
        ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. } => true,
        _ => code(error).is_some_and(is_interruption),
    }
}

/// Whether a unique index, and nothing else, stood against the write.
pub(crate) fn is_duplicate(error: &DriverError) -> bool {
    match &*error.kind {
        ErrorKind::InsertMany(failed) => {
            failed.write_concern_error.is_none()
                && failed
                    .write_errors
                    .iter()
                    .flatten()
                    .all(|write| write.code == DUPLICATE_KEY)
        }
        _ => code(error) == Some(DUPLICATE_KEY),
    }
}

/// Which documents of an unordered insert, by number, stand against a unique index, and what the
/// server says of it; `None` when anything else went wrong.
pub(crate) fn duplicates(error: &DriverError) -> Option<Vec<(usize, &str)>> {
    match &*error.kind {
        ErrorKind::InsertMany(failed) if is_duplicate(error) => Some(
            failed
                .write_errors
                .iter()
                .flatten()
                .map(|write| (write.index, write.message.as_str()))
                .collect(),
        ),
        _ => None,
    }
}

/// Whether a collection could not be created because it is there.
pub(crate) fn is_existing_collection(error: &DriverError) -> bool {
    code(error) == Some(NAMESPACE_EXISTS)
}

/// Whether no change stream can be opened, now and later.
pub(crate) fn is_without_change_streams(error: &DriverError) -> bool {
    code(error).is_some_and(|code| NO_CHANGE_STREAMS.contains(&code))
}

/// Whether a document was not inserted since it would have been too late.
pub(crate) fn is_too_late(error: &DriverError) -> bool {
    code(error) == Some(CONVERSION_FAILURE)
}

/// Whether a command failed because its collection is not there.
pub(crate) fn is_missing_collection(error: &DriverError) -> bool {
    code(error) == Some(NAMESPACE_NOT_FOUND)
}

fn code(error: &DriverError) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(command) => Some(command.code),
        ErrorKind::Write(WriteFailure::WriteError(write)) => Some(write.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(concern)) => Some(concern.code),
        ErrorKind::InsertMany(failed) => failed
            .write_concern_error
            .as_ref()
            .map(|concern| concern.code),
        _ => None,
    }
}

/// The library's error for one of the driver's; `address` has no password in it.
pub(crate) fn translate(address: &str, error: DriverError) -> Error {
    match &*error.kind {
        ErrorKind::Io(_)
        | ErrorKind::ConnectionPoolCleared { .. }
        | ErrorKind::ServerSelection { .. }
        | ErrorKind::DnsResolve { .. }
        | ErrorKind::Shutdown => unavailable(address, error),
        ErrorKind::Authentication { message, .. } => Error::Configuration(format!(
            "the store at {address} does not accept the user and the password: {message}"
        )),
        ErrorKind::IncompatibleServer { message, .. } => {
            Error::Configuration(format!("the store at {address} is too old: {message}"))
        }
        _ => match code(&error) {
            Some(code) if is_interruption(code) => unavailable(address, error),
            Some(AUTHENTICATION_FAILED) => Error::Configuration(format!(
                "the store at {address} does not accept the user and the password"
            )),
            _ => Error::Storage(Box::new(error)),
        },
    }
}

fn unavailable(address: &str, error: DriverError) -> Error {
    Error::Unavailable {
        address: address.into(),
        source: Box::new(error),
    }
}

/// What is wrong with a URL; the URL itself may hold a password and is not told.
pub(crate) fn bad_url(error: &DriverError) -> Error {
    let reason = match &*error.kind {
        ErrorKind::InvalidArgument { message, .. } => message.clone(),
        ErrorKind::DnsResolve { message, .. } => format!("its host is not known: {message}"),
        other => other.to_string(),
    };
    Error::Configuration(format!(
        "the URL of the store cannot be used: {reason}; a good one is `mongodb://host:27017/rocketjob`"
    ))
}

/// A document that the driver or the server cannot take.
pub(crate) fn unusable(error: bson::error::Error) -> Error {
    Error::Storage(Box::new(error))
}

/// What the server said of a write that it refused.
pub(crate) fn refused(code: i32, message: &str) -> Error {
    Error::Storage(format!("the server refused a write with code {code}: {message}").into())
}

/// Which key stood against a write, with its value.
pub(crate) fn duplicate_key(error: &DriverError) -> Option<Document> {
    let response = error.server_response()?;
    key_value(response)
}

fn key_value(response: &RawDocumentBuf) -> Option<Document> {
    let raw = response.get_document("keyValue").ok()?;
    Document::try_from(raw).ok()
}
