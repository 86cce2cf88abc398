//! Sets of jobs, counted in their indexes, and documents that cannot be read.

use std::ops::RangeInclusive;

use rocketjob_core::{COUNTED, JobDocument, JobSet, SetAside, State};
use rusqlite::{Params, params};

use crate::{
    error::Failure,
    hold::count as sql_count,
    session::Session,
    sql::{self, COUNT_HALVES},
};

/// How many unreadable documents may hide a job that is looked for.
const UNREADABLE: usize = 10;
/// How many of the first and of the last jobs are looked at.
const EDGE: usize = 1_000;

/// How many jobs are in `set`, as far as `at_most`.
pub(crate) fn count(session: &Session<'_>, set: &JobSet, at_most: u64) -> Result<u64, Failure> {
    let one = |sql: &str, parameters: &[&dyn rusqlite::ToSql]| {
        count_rows(session, sql, parameters).map(|count| count.min(at_most))
    };
    let most = i64::try_from(at_most).unwrap_or(i64::MAX);
    match set {
        JobSet::Ready {
            kinds,
            priorities,
            before,
        } => {
            let (first, last) = (priorities.start(), priorities.end());
            let before = before.map(|id| id.bytes().to_vec());
            let mut count = 0;
            for kind in kinds {
                if count >= at_most {
                    break;
                }
                count += match &before {
                    None => one(sql::COUNT_READY, params![most, kind, first, last])?,
                    Some(id) => one(
                        sql::COUNT_READY_BEFORE,
                        params![most, kind, first, last, id],
                    )?,
                };
            }
            Ok(count.min(at_most))
        }
        JobSet::Held(hold) => one(sql::COUNT_HELD, params![most, hold]),
        JobSet::State(State::Queued) => {
            let mut count = 0;
            for half in COUNT_HALVES {
                count += one(half, params![most])?;
            }
            Ok(count.min(at_most))
        }
        JobSet::State(State::Running) => one(sql::COUNT_RUNNING, params![most]),
        JobSet::State(state) => one(sql::COUNT_STOPPED, params![most, state.as_str()]),
        other => Err(Failure::Unexpected(format!(
            "this version of the store cannot count {other:?}"
        ))),
    }
}

fn count_rows(session: &Session<'_>, sql: &str, parameters: impl Params) -> Result<u64, Failure> {
    let count: i64 = session
        .prepare(sql)?
        .query_row(parameters, |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// The first ready jobs of a kind.
pub(crate) fn first_ready(
    session: &Session<'_>,
    kind: &str,
    priorities: &RangeInclusive<i64>,
    at_most: usize,
) -> Result<Vec<JobDocument>, Failure> {
    let (first, last) = (priorities.start(), priorities.end());
    let rows = session.rows(
        sql::FIRST_READY,
        params![kind, first, last, sql_count(at_most.max(UNREADABLE))],
    )?;
    let readable = rows
        .iter()
        .filter_map(|row| JobDocument::new(row.decode()).ok());
    Ok(readable.take(at_most).collect())
}

/// Documents that cannot be read, among the misfits, the last that failed, and the first and last
/// of all.
pub(crate) fn undecodable(session: &Session<'_>, at_most: usize) -> Result<Vec<SetAside>, Failure> {
    let failed = usize::try_from(COUNTED).unwrap_or(usize::MAX);
    let mut found: Vec<SetAside> = Vec::new();
    for (sql, count) in [
        (sql::MISFITS, EDGE),
        (sql::LAST_FAILED, failed),
        (sql::FIRST_JOBS, EDGE),
        (sql::LAST_JOBS, EDGE),
    ] {
        let mut statement = session.prepare(sql)?;
        let mut rows = statement.query([sql_count(count)])?;
        while let Some(row) = rows.next()? {
            let document = crate::row::Row::read(row)?.decode();
            let Some(aside) = SetAside::of(&document) else {
                continue;
            };
            if found.len() == at_most {
                return Ok(found);
            }
            if !found.contains(&aside) {
                found.push(aside);
            }
        }
    }
    Ok(found)
}
