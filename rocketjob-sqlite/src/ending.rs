//! The ends of claims in one statement each: the job is not read, and what becomes of its row is
//! known before the transaction begins.
//!
//! The statement repeats the fence. When it meets no row, nothing is written, and nobody knows why:
//! then the way over the document decides; see [`settle`](crate::settle).

use std::{fmt::Write as _, sync::Arc};

use bson::{Bson, Document};
use rocketjob_core::{Change, Claim, Guard, Patch, State, name};
use rusqlite::{CachedStatement, Statement, types::Value};

use crate::{
    error::Failure,
    row::{COLUMNS, store},
    session::Session,
    sql,
};

/// A write that ends a claim and makes no work ready.
#[derive(Debug)]
pub(crate) struct Ending {
    sql: Arc<str>,
    /// What it binds after the fence.
    values: Vec<Value>,
}

/// The statement of the last change: most changes of a group are alike.
#[derive(Debug, Default)]
pub(crate) struct Form {
    columns: Vec<usize>,
    change: Option<Arc<str>>,
    delete: Option<Arc<str>>,
}

impl Ending {
    /// `None` where the job's document must be known.
    pub(crate) fn of(patch: &Patch, form: &mut Form) -> Option<Self> {
        fence(patch)?;
        if patch.change.delete {
            let sql = form
                .delete
                .get_or_insert_with(|| sql::DELETE_CLAIMED.into());
            return Some(Self {
                sql: Arc::clone(sql),
                values: Vec::new(),
            });
        }
        let (columns, values) = columns_and_rest(&patch.change)?;
        Some(Self {
            sql: form.of(columns),
            values,
        })
    }

    /// Does it for the patch of which it was made, with its statement. Says whether it was done.
    fn run(&self, statement: &mut Statement<'_>, patch: &Patch) -> Result<bool, Failure> {
        let Some(claim) = fence(patch) else {
            return Ok(false);
        };
        statement.raw_bind_parameter(1, patch.id.bytes().as_slice())?;
        statement.raw_bind_parameter(2, &claim.token)?;
        statement.raw_bind_parameter(3, &claim.worker_name)?;
        for (index, value) in self.values.iter().enumerate() {
            statement.raw_bind_parameter(index + 4, value)?;
        }
        Ok(statement.raw_execute()? > 0)
    }
}

/// Runs endings, with the statement of the one before where it is the same.
pub(crate) struct Endings<'s, 'c> {
    session: &'s Session<'c>,
    last: Option<(Arc<str>, CachedStatement<'c>)>,
}

impl<'s, 'c> Endings<'s, 'c> {
    pub(crate) fn new(session: &'s Session<'c>) -> Self {
        let last = None;
        Self { session, last }
    }

    /// Says whether it was done.
    pub(crate) fn run(&mut self, ending: &Ending, patch: &Patch) -> Result<bool, Failure> {
        match &mut self.last {
            Some((sql, statement)) if Arc::ptr_eq(sql, &ending.sql) => ending.run(statement, patch),
            last => {
                let statement = self.session.prepare(&ending.sql)?;
                let (_, statement) = last.insert((Arc::clone(&ending.sql), statement));
                ending.run(statement, patch)
            }
        }
    }
}

impl Form {
    /// The statement that writes these columns and the rest.
    fn of(&mut self, columns: Vec<usize>) -> Arc<str> {
        if let Some(sql) = &self.change
            && self.columns == columns
        {
            return Arc::clone(sql);
        }
        let mut sql = String::from(sql::UPDATE);
        for (place, index) in columns.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = write!(sql, "{} = ?{}, ", COLUMNS[*index].name, place + 4);
        }
        let (set, unset) = (columns.len() + 4, columns.len() + 5);
        let _ = write!(sql, "rest = changed(rest, ?{set}, ?{unset}) ");
        sql.push_str(sql::WHERE_CLAIMED);
        let sql: Arc<str> = sql.into();
        self.columns = columns;
        self.change = Some(Arc::clone(&sql));
        sql
    }
}

/// The claim, if its holder writes and nothing but the claim is asked.
fn fence(patch: &Patch) -> Option<&Claim> {
    match &patch.guard {
        Guard {
            states,
            claim: Some(claim),
            matching: None,
        } if states == &[State::Running] => Some(claim),
        _ => None,
    }
}

/// The columns that a change writes, their values, and those of the rest: what is set and what goes.
/// `None` where the change may leave work to be done, or more follows from it than is said there.
fn columns_and_rest(change: &Change) -> Option<(Vec<usize>, Vec<Value>)> {
    let stops = change
        .state()
        .is_some_and(|state| !matches!(state, State::Queued | State::Running));
    let is_twice = |field: &String| change.set.contains_key(field);
    if !stops || !change.increment.is_empty() || change.unset.iter().any(is_twice) {
        return None;
    }
    let (mut columns, mut values) = (Vec::new(), Vec::new());
    let (mut set, mut unset) = (Document::new(), Document::new());
    let present = change.set.iter().map(|(field, value)| (field, Some(value)));
    let absent = change.unset.iter().map(|field| (field, None));
    for (field, value) in present.chain(absent) {
        if !is_plain(field) {
            return None;
        }
        let column = COLUMNS.iter().position(|column| column.field == field);
        match (column, value) {
            (Some(index), value) => {
                let (value, fits) = store(&COLUMNS[index], value.unwrap_or(&Bson::Null));
                if !fits {
                    return None;
                }
                columns.push(index);
                values.push(value);
            }
            (None, Some(value)) => {
                set.insert(field, value.clone());
            }
            (None, None) => {
                unset.insert(field, Bson::Null);
            }
        }
    }
    for document in [set, unset] {
        let bytes = document.to_vec().ok()?;
        values.push(Value::Blob(bytes));
    }
    Some((columns, values))
}

/// Whether a field lies in one place only, and nothing else follows from it.
fn is_plain(field: &str) -> bool {
    !field.contains('.') && !matches!(field, name::ID | name::SLOTS | name::SUCCESSORS)
}

#[cfg(test)]
mod tests;
