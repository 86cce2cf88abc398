//! Claim and settle in groups, with nothing but `SQLite`: one connection, on the table and the
//! indexes of the system, and settings like its own.
//!
//! A group is settled in the transaction that claims the next one, which saves every other sync.

use std::{path::Path, thread, time::Duration};

use bson::oid::ObjectId;
use rusqlite::{Connection, params};

use super::{Bare, WORKER, begin, end};
use crate::{Anything, serve::Orders};

const CLAIM: &str = "UPDATE jobs SET state = 'running', claim = ?1, worker_name = ?2, \
    started_at = ?3, ready = NULL WHERE id IN (
        SELECT id FROM jobs INDEXED BY jobs_ready
        WHERE kind = 'PerfJob' AND ready = 1 AND state = 'queued'
            AND (run_at IS NULL OR run_at <= ?3)
        ORDER BY ifnull(priority, 50), id LIMIT ?4
    ) RETURNING id, rest";

const DELETE: &str =
    "DELETE FROM jobs WHERE id = ?1 AND state = 'running' AND claim = ?2 AND worker_name = ?3";

const COMPLETE: &str = "UPDATE jobs SET state = 'completed', completed_at = ?4, \
    worker_name = NULL, rest = ?5 \
    WHERE id = ?1 AND state = 'running' AND claim = ?2 AND worker_name = ?3";

/// A field among those that have no column, as it is encoded: a whole number, its name.
const PROGRESS: &[u8] = b"\x10percent_complete\0";

/// How long who finds the file locked waits before it looks again; as long as the system does.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(1);

/// A claimed job: its id, and what has no column.
type Job = (Vec<u8>, Vec<u8>);

/// Works through the queue.
pub(crate) async fn run(bare: &Bare) -> Anything<()> {
    let path = bare.store.strip_prefix("sqlite://");
    let connection = open(path.ok_or("no path is named")?.as_ref())?;
    let server = ObjectId::new().to_hex();
    let mut orders = Orders::new();
    begin(&mut orders).await?;
    let mut settled = 0;
    let mut claimed: (String, Vec<Job>) = (String::new(), Vec::new());
    for sequence in 1.. {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let (token, jobs) = &claimed;
        for job in jobs {
            settled += u64::from(settle(&connection, token, job, bare.keep)?);
        }
        let token = format!("{server}:{sequence}");
        let jobs = claim(&connection, &token, bare.group)?;
        connection.execute_batch("COMMIT")?;
        if jobs.is_empty() {
            break;
        }
        claimed = (token, jobs);
    }
    end(orders, settled).await
}

/// Opens a file of the system, as the system does.
pub(crate) fn open(path: &Path) -> Anything<Connection> {
    let mut connection = Connection::open(path)?;
    connection.busy_handler(Some(|_| {
        thread::sleep(LOOK_AGAIN_AFTER);
        true
    }))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

fn claim(connection: &Connection, token: &str, group: usize) -> Anything<Vec<Job>> {
    let now = bson::DateTime::now().timestamp_millis();
    let mut statement = connection.prepare_cached(CLAIM)?;
    let jobs = statement.query_map(params![token, WORKER, now, i64::try_from(group)?], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    Ok(jobs.collect::<Result<_, _>>()?)
}

/// Completes a job, and says whether it was its own.
fn settle(connection: &Connection, token: &str, (id, rest): &Job, keep: bool) -> Anything<bool> {
    if !keep {
        let mut statement = connection.prepare_cached(DELETE)?;
        return Ok(statement.execute(params![id, token, WORKER])? == 1);
    }
    let mut rest = rest.clone();
    let place = rest
        .windows(PROGRESS.len())
        .position(|part| part == PROGRESS);
    let value = place.ok_or("a job without progress")? + PROGRESS.len();
    rest[value..value + 4].copy_from_slice(&100_i32.to_le_bytes());
    let now = bson::DateTime::now().timestamp_millis();
    let mut statement = connection.prepare_cached(COMPLETE)?;
    Ok(statement.execute(params![id, token, WORKER, now, rest])? == 1)
}
