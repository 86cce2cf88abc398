//! The layout of the file, and how an older one becomes today's.

use std::path::Path;

use rocketjob_core::Error;
use rusqlite::Connection;

use crate::{
    error::{Failure, cannot_open},
    sql,
};

/// Marks a file as ours: `RJob` in ASCII.
const APPLICATION: i64 = 0x524A_6F62;

/// What leads from each version to the next; a file's version is how many of them it has seen.
const MIGRATIONS: &[&str] = &[sql::CREATE];

/// Makes the tables of a new file, and brings those of an older one up to date.
///
/// Any number of processes may do so at the same time.
pub(crate) fn migrate(connection: &Connection, path: &Path) -> Result<(), Error> {
    let failed = |error: rusqlite::Error| cannot_open(path, Failure::from(error));
    // Reading is enough as a rule and takes no lock from those who work. What it says is only
    // believed when all is well: another process may be at it right now.
    if version(connection, path).is_ok_and(|version| version == MIGRATIONS.len()) {
        return Ok(());
    }
    connection
        .execute_batch("BEGIN IMMEDIATE")
        .map_err(failed)?;
    let migrated = version(connection, path).and_then(|version| {
        for migration in MIGRATIONS.iter().skip(version) {
            connection.execute_batch(migration).map_err(failed)?;
        }
        connection
            .execute_batch(&format!(
                "PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {}; COMMIT",
                MIGRATIONS.len()
            ))
            .map_err(failed)
    });
    if migrated.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK").map_err(failed)?;
    }
    migrated
}

/// How many migrations the file has seen.
fn version(connection: &Connection, path: &Path) -> Result<usize, Error> {
    let number = |sql: &str| {
        connection
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .map_err(|error| cannot_open(path, Failure::from(error)))
    };
    let application = number("PRAGMA application_id")?;
    let version = number("PRAGMA user_version")?;
    let path = path.display();
    if application != APPLICATION {
        let is_empty =
            application == 0 && version == 0 && number("SELECT count(*) FROM sqlite_schema")? == 0;
        return if is_empty {
            Ok(0)
        } else {
            Err(Error::configuration(format!(
                "`{path}` is the database of another program: jobs need a file of their own"
            )))
        };
    }
    usize::try_from(version)
        .ok()
        .filter(|version| *version <= MIGRATIONS.len())
        .ok_or_else(|| {
            Error::configuration(format!(
                "`{path}` was written by a newer version of this library (layout {version}; this one knows up to {}): update this program",
                MIGRATIONS.len()
            ))
        })
}
