//! Jobs that wait: promotion of those that fall due, adoption of those without a mark, release.

use jiff::Timestamp;
use rocketjob_core::{Change, name};
use rusqlite::{OptionalExtension, params};

use crate::{
    error::Failure,
    limit,
    row::Row,
    session::{Session, Stored},
    sql,
};

pub(crate) fn promote(session: &Session<'_>, most: usize, now: Timestamp) -> Result<u64, Failure> {
    let now = now.as_millisecond();
    session.prepare(sql::FORGET_LIMITS)?.execute([now])?;
    let mut waiting = Vec::new();
    for (sql, takes_time) in [
        (sql::TIMELESS, false),
        (sql::DUE, true),
        (sql::UNMARKED, false),
    ] {
        let missing = count(most.saturating_sub(waiting.len()));
        waiting.extend(if takes_time {
            session.rows(sql, params![missing, now])?
        } else {
            session.rows(sql, [missing])?
        });
    }
    let touched = waiting.len() as u64;
    for row in waiting {
        let is_scheduled = row.run_at().is_some_and(|run_at| run_at > now);
        let change = if is_scheduled {
            Change::new().set(name::HOLD, name::HOLD_SCHEDULED)
        } else {
            ready()
        };
        session.mark(&Stored::new(row), &change)?;
    }
    Ok(touched)
}

pub(crate) fn release(session: &Session<'_>, hold: &str, limit: usize) -> Result<u64, Failure> {
    let waiting: Vec<Row> = session.rows(sql::HELD, params![hold, count(limit)])?;
    let released = waiting.len() as u64;
    for row in waiting {
        session.mark(&Stored::new(row), &ready())?;
    }
    Ok(released)
}

/// When the next scheduled job or limit falls due; a job without a time is due at `now`, in milliseconds.
pub(crate) fn next_due(session: &Session<'_>, now: i64) -> Result<Option<Timestamp>, Failure> {
    let first: Option<Option<i64>> = session
        .prepare(sql::NEXT_DUE)?
        .query_row([], |row| row.get(0))
        .optional()?;
    let due = first.map(|due| due.unwrap_or(now));
    let due = due.into_iter().chain(limit::next(session)?).min();
    Ok(due.and_then(|due| Timestamp::from_millisecond(due).ok()))
}

fn ready() -> Change {
    Change::new().set(name::READY, true).unset(name::HOLD)
}

/// A limit as SQL has it.
pub(crate) fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
