//! The layout of the file, and how an older one becomes today's.

use std::{collections::BTreeMap, path::Path};

use rocketjob_core::{Error, Finding, Severity, Subject};
use rusqlite::Connection;

use crate::{
    error::{Failure, cannot_open},
    sql,
};

/// Marks a file as ours: `RJob` in ASCII.
const APPLICATION: i64 = 0x524A_6F62;

/// What leads from each version to the next; a file's version is how many of them it has seen.
const MIGRATIONS: &[&str] = &[sql::CREATE, sql::CLAIMS_BY_TOKEN, sql::LEASES, sql::LIMITS];

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

/// What was made of our tables and indexes since the file was opened, and how to mend it.
pub(crate) fn differences(connection: &Connection, file: &str) -> Result<Vec<Finding>, Failure> {
    let ours = Connection::open_in_memory()?;
    for migration in MIGRATIONS {
        ours.execute_batch(migration)?;
    }
    let found = objects(connection)?;
    let differences = objects(&ours)?
        .into_iter()
        .filter_map(|(name, (kind, sql))| match found.get(&name) {
            Some((_, found)) if *found == sql => None,
            Some(_) => Some(Finding::new(
                Severity::Error,
                Subject::Index,
                format!("`{file}`: the {kind} `{name}` is not as it should be"),
                match kind.as_str() {
                    "index" => format!("run `DROP INDEX {name}; {sql}`"),
                    _ => format!("copy its rows into one made by `{sql}`"),
                },
            )),
            None => Some(Finding::new(
                Severity::Error,
                Subject::Index,
                format!("`{file}`: the {kind} `{name}` is missing"),
                match kind.as_str() {
                    "index" => format!("run `{sql}`"),
                    _ => "restore the file from a backup".to_owned(),
                },
            )),
        });
    Ok(differences.collect())
}

/// The tables and indexes that somebody created, by name: their kind and their statement.
fn objects(connection: &Connection) -> Result<BTreeMap<String, (String, String)>, Failure> {
    let mut statement = connection.prepare(
        "SELECT name, type, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'",
    )?;
    let rows = statement.query_map([], |row| {
        let sql: String = row.get(2)?;
        let words: Vec<_> = sql.split_whitespace().collect();
        Ok((row.get(0)?, (row.get(1)?, words.join(" "))))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use rocketjob_core::{InspectStore, JobStore};
    use tempfile::TempDir;

    use super::*;
    use crate::SqliteStore;

    #[tokio::test]
    async fn every_older_layout_is_brought_up_to_date_with_its_jobs() {
        for version in 1..MIGRATIONS.len() {
            let folder = TempDir::new().unwrap();
            let path = folder.path().join("jobs.db");
            let old = Connection::open(&path).unwrap();
            for migration in &MIGRATIONS[..version] {
                old.execute_batch(migration).unwrap();
            }
            old.execute_batch(&format!(
                "INSERT INTO jobs (id, kind, state, claim, rest)
                     VALUES (CAST('123456789012' AS BLOB), 'Mail', 'running', 'a:1', x'0500000000');
                 PRAGMA application_id = {APPLICATION};
                 PRAGMA user_version = {version}"
            ))
            .unwrap();
            let store = SqliteStore::open(&path).await.unwrap();
            let found = store.next_claim("").await.unwrap().unwrap();
            assert_eq!(found.kind(), "Mail");
            let problems = store.inspect().await.unwrap().problems();
            assert_eq!(problems, Vec::<String>::new(), "layout {version}");
        }
    }
}
