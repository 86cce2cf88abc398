//! Lists, counts and deletion by filter.

use std::collections::BTreeMap;

use bson::Bson;
use rocketjob_core::{Filter, JobDocument, Query, Sort, State, whole_number};
use rusqlite::{params_from_iter, types::Value};

use crate::{
    error::Failure,
    hold::count as sql_count,
    query::Condition,
    row::Row,
    session::{Session, Stored},
    sql,
};

/// How many jobs are deleted before other writers get their turn.
pub(crate) const DELETED_AT_ONCE: usize = 500;
/// How many rows one statement reads, at most, before the next takes over.
const MOST_ROWS: usize = 10_000;

/// A part of a list: jobs without the sort field and jobs with it lie in parts of their own, so
/// that each can be read in order from an index.
#[derive(Debug, Clone)]
enum Part {
    /// The whole list, by id; behind this one.
    ById(Option<Vec<u8>>),
    /// Jobs without the field; behind this id.
    Without(Option<Vec<u8>>),
    /// Jobs with the field; behind this value and id.
    With(Option<(Value, Vec<u8>)>),
}

pub(crate) fn find(session: &Session<'_>, query: &Query) -> Result<Vec<JobDocument>, Failure> {
    let condition = Condition::new(&query.filter);
    if let Some(found) = few_of_many(session, query, &condition)? {
        return Ok(found);
    }
    let mut found = Vec::new();
    for mut part in parts(query) {
        let mut size = query.limit;
        while found.len() < query.limit {
            let (sql, values) = part.statement(query, &condition, size);
            let rows = session.rows(&sql, params_from_iter(values))?;
            let is_last = rows.len() < size;
            if let Some(row) = rows.last() {
                part = part.behind(row, query.sort);
            }
            let jobs = rows.iter().filter_map(|row| job(row, &condition));
            found.extend(jobs.take(query.limit - found.len()));
            if is_last {
                break;
            }
            size = (size * 4).min(MOST_ROWS);
        }
    }
    Ok(found)
}

/// The job in a row, if it meets the condition.
fn job(row: &Row, condition: &Condition) -> Option<JobDocument> {
    let document = row.decode();
    let matches = condition.matches(row, &document);
    matches.then(|| JobDocument::new(document).ok()).flatten()
}

/// All that a walk is to find, if that fits into its first page and the index of stopped jobs leads
/// to it: then nothing else needs to be gone through.
fn few_of_many(
    session: &Session<'_>,
    query: &Query,
    condition: &Condition,
) -> Result<Option<Vec<JobDocument>>, Failure> {
    if !query.walk || query.after.is_some() || query.sort != Sort::Id {
        return Ok(None);
    }
    let sql = format!(
        "{}INDEXED BY jobs_stopped WHERE {} LIMIT ?",
        sql::SELECT,
        condition.sql
    );
    if session.prepare(&sql).is_err() {
        // It does not lead there.
        return Ok(None);
    }
    let mut values = condition.values.clone();
    values.push(Value::Integer(sql_count(query.limit)));
    let mut rows = session.rows(&sql, params_from_iter(values))?;
    if rows.len() >= query.limit {
        return Ok(None);
    }
    rows.sort_unstable_by(|left, right| left.id.cmp(&right.id));
    if query.descending {
        rows.reverse();
    }
    Ok(Some(
        rows.iter().filter_map(|row| job(row, condition)).collect(),
    ))
}

pub(crate) fn count(session: &Session<'_>, filter: &Filter) -> Result<u64, Failure> {
    let condition = Condition::new(filter);
    let mut count = 0_i64;
    if condition.is_exact() {
        count += count_rows(session, &condition, "1")?;
        each_misfit(session, &condition, |row, is_counted| {
            count += i64::from(filter.matches(&row.decode())) - i64::from(is_counted);
        })?;
    } else {
        each_match(session, &condition, |_| count += 1)?;
    }
    Ok(u64::try_from(count).unwrap_or(0))
}

pub(crate) fn count_by_state(
    session: &Session<'_>,
    filter: &Filter,
) -> Result<BTreeMap<State, u64>, Failure> {
    let condition = Condition::new(filter);
    let mut counts: BTreeMap<State, i64> = BTreeMap::new();
    let mut add = |state: Option<State>, number: i64| {
        if let Some(state) = state {
            *counts.entry(state).or_default() += number;
        }
    };
    if condition.is_exact() {
        for state in State::ALL {
            if state == State::Queued {
                for half in sql::QUEUED_HALVES {
                    add(Some(state), count_rows(session, &condition, half)?);
                }
            } else {
                let in_state = format!("state = '{state}'");
                add(Some(state), count_rows(session, &condition, &in_state)?);
            }
        }
        each_misfit(session, &condition, |row, is_counted| {
            let state = row.state().and_then(State::from_name);
            add(state, -i64::from(is_counted));
            add(state, i64::from(filter.matches(&row.decode())));
        })?;
    } else {
        each_match(session, &condition, |row| {
            add(row.state().and_then(State::from_name), 1);
        })?;
    }
    Ok(counts
        .into_iter()
        .filter_map(|(state, count)| Some((state, u64::try_from(count).ok()?)))
        .filter(|(_, count)| *count > 0)
        .collect())
}

/// Deletes the first jobs behind `after` that meet `filter` and are not running. Says how many, and
/// behind which to go on, if there may be more.
pub(crate) fn delete(
    session: &Session<'_>,
    filter: &Filter,
    after: Option<Vec<u8>>,
) -> Result<(u64, Option<Vec<u8>>), Failure> {
    let condition = Condition::new(filter);
    let mut values = condition.values.clone();
    values.push(Value::Blob(after.unwrap_or_default()));
    let sql = format!(
        "{}WHERE (({}) OR misfit = 1) AND state IS NOT 'running' AND id > ?
         ORDER BY id LIMIT {DELETED_AT_ONCE}",
        sql::SELECT,
        condition.sql
    );
    let rows = session.rows(&sql, params_from_iter(values))?;
    let last = (rows.len() == DELETED_AT_ONCE)
        .then(|| rows.last().map(|row| row.id.clone()))
        .flatten();
    let mut deleted = 0;
    for stored in rows.into_iter().map(Stored::new) {
        if condition.matches(&stored.row, &stored.document) {
            session.delete(&stored)?;
            deleted += 1;
        }
    }
    Ok((deleted, last))
}

fn parts(query: &Query) -> Vec<Part> {
    let id = |id: bson::oid::ObjectId| id.bytes().to_vec();
    if query.sort == Sort::Id {
        return vec![Part::ById(query.after.as_ref().map(|after| id(after.id)))];
    }
    let after = query.after.as_ref().map(|after| {
        let value = match &after.value {
            Bson::DateTime(time) => Some(time.timestamp_millis()),
            value => whole_number(value),
        };
        (value, id(after.id))
    });
    match (after, query.descending) {
        (None, false) => vec![Part::Without(None), Part::With(None)],
        (None, true) => vec![Part::With(None), Part::Without(None)],
        (Some((None, id)), false) => vec![Part::Without(Some(id)), Part::With(None)],
        (Some((None, id)), true) => vec![Part::Without(Some(id))],
        (Some((Some(value), id)), false) => vec![Part::With(Some((Value::Integer(value), id)))],
        (Some((Some(value), id)), true) => vec![
            Part::With(Some((Value::Integer(value), id))),
            Part::Without(None),
        ],
    }
}

impl Part {
    fn statement(&self, query: &Query, condition: &Condition, size: usize) -> (String, Vec<Value>) {
        let field = query.sort.field();
        let (beyond, direction) = if query.descending {
            ("<", "DESC")
        } else {
            (">", "ASC")
        };
        let mut values = condition.values.clone();
        let mut place = |id: &Option<Vec<u8>>| match id {
            None => String::new(),
            Some(id) => {
                values.push(Value::Blob(id.clone()));
                format!(" AND id {beyond} ?")
            }
        };
        let place = match self {
            Self::ById(after) => place(after),
            Self::Without(after) => format!(" AND {field} IS NULL{}", place(after)),
            Self::With(None) => format!(" AND {field} IS NOT NULL"),
            Self::With(Some((value, id))) => {
                values.extend([value.clone(), Value::Blob(id.clone())]);
                format!(" AND ({field}, id) {beyond} (?, ?)")
            }
        };
        let order = match self {
            Self::ById(_) | Self::Without(_) => format!("id {direction}"),
            Self::With(_) => format!("{field} {direction}, id {direction}"),
        };
        values.push(Value::Integer(sql_count(size)));
        // What another index finds would be sorted for each page. `NOT INDEXED` does not say so.
        let walk = match self {
            Self::ById(_) if query.walk => "INDEXED BY sqlite_autoindex_jobs_1 ",
            _ => "",
        };
        let sql = format!(
            "{}{walk}WHERE {}{place} ORDER BY {order} LIMIT ?",
            sql::SELECT,
            condition.sql
        );
        (sql, values)
    }

    /// The rest of the part behind `row`.
    fn behind(self, row: &Row, sort: Sort) -> Self {
        let id = row.id.clone();
        match self {
            Self::ById(_) => Self::ById(Some(id)),
            Self::Without(_) => Self::Without(Some(id)),
            Self::With(_) => Self::With(Some((row.value(sort.field()), id))),
        }
    }
}

/// How many rows the columns alone find.
fn count_rows(session: &Session<'_>, condition: &Condition, part: &str) -> Result<i64, Failure> {
    let sql = format!(
        "SELECT count(*) FROM jobs WHERE {part} AND {}",
        condition.sql
    );
    Ok(session
        .prepare(&sql)?
        .query_row(params_from_iter(&condition.values), |row| row.get(0))?)
}

/// Looks at the rows of which the columns may say something else than the document: each with
/// whether [`count_rows`] counted it.
fn each_misfit(
    session: &Session<'_>,
    condition: &Condition,
    mut act: impl FnMut(&Row, bool),
) -> Result<(), Failure> {
    let counted = format!("SELECT id FROM jobs WHERE misfit = 1 AND {}", condition.sql);
    let mut statement = session.prepare(&counted)?;
    let counted: Vec<Vec<u8>> = statement
        .query_map(params_from_iter(&condition.values), |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let all = format!("{}WHERE misfit = 1", sql::SELECT);
    for row in session.rows(&all, [])? {
        act(&row, counted.contains(&row.id));
    }
    Ok(())
}

/// Looks at each row that meets the condition, one at a time.
fn each_match(
    session: &Session<'_>,
    condition: &Condition,
    mut act: impl FnMut(&Row),
) -> Result<(), Failure> {
    // A misfit may meet the filter although its columns do not.
    let sql = format!("{}WHERE ({}) OR misfit = 1", sql::SELECT, condition.sql);
    let mut statement = session.prepare(&sql)?;
    let mut rows = statement.query(params_from_iter(&condition.values))?;
    while let Some(row) = rows.next()? {
        let row = Row::read(row)?;
        if condition.matches(&row, &row.decode()) {
            act(&row);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
