//! What SQLite reports, as the errors of the library: the only place that maps one to the other.

use std::{path::Path, sync::Arc};

use rocketjob_core::{BoxError, Error};
use rusqlite::{ErrorCode, ffi};

/// Why a statement or an operation on the file failed, before it is known where.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// What SQLite said; shared, since a whole group of operations may fail for one reason.
    Sqlite(Arc<rusqlite::Error>),
    /// A document that cannot be written.
    Bson(Arc<bson::error::Error>),
    /// What only a defect or another program can have put into the file.
    Unexpected(String),
    /// A unique key is in use.
    Existing(bson::oid::ObjectId),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(Arc::new(error))
    }
}

impl From<bson::error::Error> for Failure {
    fn from(error: bson::error::Error) -> Self {
        Self::Bson(Arc::new(error))
    }
}

impl Failure {
    /// The error for the caller of the store at `address`.
    pub(crate) fn at(self, address: &str) -> Error {
        match self {
            Self::Sqlite(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                    broken_off(address, error)
                }
                // Room may be made: what waits for it loses nothing.
                Some(ErrorCode::DiskFull) => broken_off(
                    address,
                    format!(
                        "the disk is full ({error}): make room where the file lies; work goes on by itself then"
                    ),
                ),
                Some(ErrorCode::SystemIoFailure) if !is_unreadable(&error) => broken_off(
                    address,
                    format!(
                        "the disk does not take what is written ({error}, code {}): look at its space, at quotas and at the messages of the system; work goes on by itself once it does",
                        extended_code(&error)
                    ),
                ),
                _ => Error::Storage(Box::new(error)),
            },
            Self::Bson(error) => Error::Storage(Box::new(error)),
            Self::Unexpected(text) => Error::Storage(text.into()),
            Self::Existing(existing) => Error::Existing {
                reason: "a unique key of the document is in use".into(),
                existing,
            },
        }
    }
}

/// Whether what is on the disk cannot be had back: no patience helps against that.
fn is_unreadable(error: &rusqlite::Error) -> bool {
    matches!(
        extended_code(error),
        ffi::SQLITE_IOERR_READ
            | ffi::SQLITE_IOERR_SHORT_READ
            | ffi::SQLITE_IOERR_CORRUPTFS
            | ffi::SQLITE_IOERR_DATA
    )
}

fn extended_code(error: &rusqlite::Error) -> i32 {
    error
        .sqlite_error()
        .map_or(ffi::SQLITE_OK, |error| error.extended_code)
}

/// The operation was broken off, and nobody knows whether it happened.
pub(crate) fn broken_off(address: &str, source: impl Into<BoxError>) -> Error {
    Error::Unavailable {
        address: address.into(),
        source: source.into(),
    }
}

/// Why the file at `path` cannot be opened, and what would help.
pub(crate) fn cannot_open(path: &Path, failure: Failure) -> Error {
    let Failure::Sqlite(error) = &failure else {
        return failure.at(&path.display().to_string());
    };
    let path = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => Error::configuration(format!(
            "`{path}` is not an SQLite database: give the path of another file, or of one that does not exist yet"
        )),
        Some(ErrorCode::DatabaseCorrupt) => Error::configuration(format!(
            "`{path}` is a damaged SQLite database ({error}): restore it from a backup"
        )),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => Error::configuration(format!(
            "cannot open `{path}` ({error}): the file and its folder must be readable and writable for this user"
        )),
        Some(ErrorCode::ReadOnly) => Error::configuration(format!(
            "cannot write to `{path}` ({error}): the file and its folder must be writable for this user"
        )),
        _ => failure.clone().at(&format!("sqlite://{path}")),
    }
}
