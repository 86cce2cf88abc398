//! Reading and writing rows of jobs on one connection, inside a transaction.
//!
//! Every change of a job goes through [`Session`], so that slots are freed by any write that ends
//! a run, and so that the bell rings for any write that makes work ready or schedules it. What an
//! [`Ending`](crate::ending::Ending) writes does neither.

use std::{cell::Cell, fmt::Write as _};

use bson::{Bson, Document};
use jiff::Timestamp;
use rocketjob_core::{Change, News, name};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Statement, params};

use crate::{
    error::Failure,
    row::{Row, column_name, decides_when, object_id},
    sql,
};

/// A job as it is stored, in both forms.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stored {
    pub(crate) row: Row,
    pub(crate) document: Document,
}

impl Stored {
    pub(crate) fn new(row: Row) -> Self {
        let document = row.decode();
        Self { row, document }
    }
}

/// One transaction.
#[derive(Debug)]
pub(crate) struct Session<'c> {
    connection: &'c Connection,
    news: Cell<News>,
}

impl<'c> Session<'c> {
    pub(crate) fn new(connection: &'c Connection) -> Self {
        Self {
            connection,
            news: Cell::default(),
        }
    }

    pub(crate) fn connection(&self) -> &'c Connection {
        self.connection
    }

    pub(crate) fn prepare(&self, sql: &str) -> Result<CachedStatement<'c>, Failure> {
        Ok(self.connection.prepare_cached(sql)?)
    }

    /// What it has to tell those who wait.
    pub(crate) fn news(&self) -> News {
        self.news.get()
    }

    pub(crate) fn row(&self, id: &[u8]) -> Result<Option<Row>, Failure> {
        Ok(self
            .prepare(sql::JOB)?
            .query_row([id], Row::read)
            .optional()?)
    }

    /// The rows of a statement that selects all columns.
    pub(crate) fn rows(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
    ) -> Result<Vec<Row>, Failure> {
        let mut statement = self.prepare(sql)?;
        let rows = statement.query_map(parameters, Row::read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Adds a document. Inner error: who stands against it, by id or unique key.
    pub(crate) fn insert(&self, document: Document) -> Result<Result<(), Vec<u8>>, Failure> {
        let slots = slots(&document);
        let news = News::of_document(&document);
        let row = Row::encode(document)?;
        let mut statement = self.prepare(sql::INSERT)?;
        row.bind(&mut statement)?;
        if statement.raw_execute()? == 0 {
            return if self.row(&row.id)?.is_some() {
                Ok(Err(row.id))
            } else {
                self.rival(&row).map(Err)
            };
        }
        if row.is_running() {
            self.move_slots(&row.id, &[], &slots)?;
        }
        self.note(news);
        Ok(Ok(()))
    }

    /// Lets a job run that takes no place in a limit, if its row is still as it was; `statement`
    /// is [`START`](sql::START). Says whether it is.
    pub(crate) fn start(
        statement: &mut Statement<'_>,
        before: &Row,
        token: &str,
        worker_name: &str,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        let next = before.bind(statement)?;
        statement.raw_bind_parameter(next, token)?;
        statement.raw_bind_parameter(next + 1, worker_name)?;
        statement.raw_bind_parameter(next + 2, now.as_millisecond())?;
        Ok(statement.raw_execute()? > 0)
    }

    /// Makes a change, except that it does not delete. Inner error: the job that holds a unique
    /// key, or a place in a limit, which this one would take.
    pub(crate) fn change(
        &self,
        before: &Stored,
        change: &Change,
    ) -> Result<Result<Stored, Vec<u8>>, Failure> {
        let mut document = before.document.clone();
        change.apply(&mut document);
        self.replace(before, document)
    }

    /// As [`change`](Self::change), where no unique key or place can be in the way.
    pub(crate) fn mark(&self, before: &Stored, change: &Change) -> Result<Stored, Failure> {
        self.change(before, change)?
            .map_err(|rival| existing(&rival))
    }

    /// Writes `document` in the place of `before`, which has the same id. Inner error: as of
    /// [`change`](Self::change).
    pub(crate) fn replace(
        &self,
        before: &Stored,
        document: Document,
    ) -> Result<Result<Stored, Vec<u8>>, Failure> {
        let mut row = Row::encode(document.clone())?;
        row.id.clone_from(&before.row.id);
        let changed: Vec<usize> = (0..row.values.len())
            .filter(|index| row.values[*index] != before.row.values[*index])
            .collect();
        let rest_changed = row.rest != before.row.rest;
        let after = Stored { row, document };
        let (held, wanted) = (held(before), held(&after));
        if let Some(holder) = self.slot_holder(&after.row.id, &held, &wanted)? {
            return Ok(Err(holder));
        }
        if (rest_changed || !changed.is_empty())
            && !self.update(&after.row, &changed, rest_changed)?
        {
            return self.rival(&after.row).map(Err);
        }
        self.move_slots(&after.row.id, &held, &wanted)?;
        if changed.into_iter().any(decides_when) {
            self.note(News::of_document(&after.document));
        }
        Ok(Ok(after))
    }

    pub(crate) fn delete(&self, stored: &Stored) -> Result<(), Failure> {
        self.prepare(sql::DELETE)?.execute([&stored.row.id])?;
        if stored.row.is_running() {
            self.move_slots(&stored.row.id, &slots(&stored.document), &[])?;
        }
        Ok(())
    }

    /// Writes the columns that changed, so that only their indexes are touched. Says whether it
    /// was done, or a unique key stood against it.
    fn update(&self, row: &Row, changed: &[usize], rest_changed: bool) -> Result<bool, Failure> {
        let mut sql = String::from(sql::UPDATE);
        let mut separator = "";
        for index in changed {
            // Writing to a String cannot fail.
            let _ = write!(sql, "{separator}{} = ?", column_name(*index));
            separator = ", ";
        }
        if rest_changed {
            let _ = write!(sql, "{separator}rest = ?");
        }
        sql.push_str(" WHERE id = ?");
        let mut statement = self.prepare(&sql)?;
        let mut next = 1;
        for index in changed {
            statement.raw_bind_parameter(next, &row.values[*index])?;
            next += 1;
        }
        if rest_changed {
            statement.raw_bind_parameter(next, &row.rest)?;
            next += 1;
        }
        statement.raw_bind_parameter(next, &row.id)?;
        Ok(statement.raw_execute()? > 0)
    }

    /// Who holds a unique key of `row`.
    fn rival(&self, row: &Row) -> Result<Vec<u8>, Failure> {
        for (sql, key) in [
            (sql::UNIQUE, row.unique_key()),
            (sql::UNFINISHED, row.unfinished_key()),
        ] {
            let Some(key) = key else { continue };
            let holder = self
                .prepare(sql)?
                .query_row(params![key, row.id], |found| found.get(0))
                .optional()?;
            if let Some(holder) = holder {
                return Ok(holder);
            }
        }
        Err(Failure::Unexpected(
            "a job was refused, but no other holds its keys".into(),
        ))
    }

    /// Another job that has one of the places `after` which `job` has not had `before`.
    fn slot_holder(
        &self,
        job: &[u8],
        before: &[Slot],
        after: &[Slot],
    ) -> Result<Option<Vec<u8>>, Failure> {
        for slot in after.iter().filter(|slot| !before.contains(slot)) {
            let holder = self
                .prepare(sql::SLOT_HOLDER)?
                .query_row(params![slot.key, slot.number, job], |found| found.get(0))
                .optional()?;
            if holder.is_some() {
                return Ok(holder);
            }
        }
        Ok(None)
    }

    fn move_slots(&self, job: &[u8], before: &[Slot], after: &[Slot]) -> Result<(), Failure> {
        for slot in before.iter().filter(|slot| !after.contains(slot)) {
            self.prepare(sql::FREE_SLOT)?
                .execute(params![slot.key, slot.number, job])?;
        }
        for slot in after.iter().filter(|slot| !before.contains(slot)) {
            self.prepare(sql::TAKE_SLOT)?
                .execute(params![slot.key, slot.number, job])?;
        }
        Ok(())
    }

    fn note(&self, news: News) {
        self.news.set(self.news.get().and(news));
    }
}

/// The failure to write because the job with this key is in the way.
pub(crate) fn existing(key: &[u8]) -> Failure {
    match object_id(key) {
        Some(id) => Failure::Existing(id),
        None => Failure::Unexpected("a unique key belongs to a job without a usable id".into()),
    }
}

/// The places that a job has as it is stored.
fn held(stored: &Stored) -> Vec<Slot> {
    if stored.row.is_running() {
        slots(&stored.document)
    } else {
        Vec::new()
    }
}

/// A place in a limit.
#[derive(Debug, PartialEq, Eq)]
struct Slot {
    key: String,
    number: i64,
}

/// The places that a document takes while it is running.
fn slots(document: &Document) -> Vec<Slot> {
    let names = document.get_array(name::SLOTS).into_iter().flatten();
    let mut slots: Vec<Slot> = Vec::new();
    for text in names.filter_map(Bson::as_str) {
        let slot = text
            .rsplit_once(':')
            .and_then(|(key, number)| {
                let number = number.parse::<u32>().ok()?.into();
                let key = key.to_owned();
                Some(Slot { key, number })
            })
            .unwrap_or_else(|| Slot {
                key: text.to_owned(),
                number: 0,
            });
        if !slots.contains(&slot) {
            slots.push(slot);
        }
    }
    slots
}
