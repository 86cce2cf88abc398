//! [`LimitStore`] in SQLite.

use async_trait::async_trait;
use bson::{Document, oid::ObjectId};
use jiff::Timestamp;
use rocketjob_core::{LimitStore, Result, StoredLimit};
use rusqlite::{OptionalExtension, params};

use crate::{error::Failure, hold::count, session::Session, sql, store::SqliteStore};

#[async_trait]
impl LimitStore for SqliteStore {
    async fn limit(&self, key: &str) -> Result<Option<StoredLimit>> {
        let key = key.to_owned();
        self.read(move |connection| limit(&Session::new(connection), &key))
            .await
    }

    async fn swap_limit(&self, previous: Option<ObjectId>, limit: &StoredLimit) -> Result<bool> {
        let limit = limit.clone();
        self.write(move |session| swap(session, previous, &limit))
            .await
    }

    async fn due_limits(&self, limit: usize) -> Result<Vec<StoredLimit>> {
        let now = self.time().as_millisecond();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(sql::DUE_LIMITS)?;
            let found =
                statement.query_map(params![now, count(limit)], |row| row.get::<_, Vec<u8>>(0))?;
            found.map(|document| decode(&document?)).collect()
        })
        .await
    }

    async fn any_running(&self, kind: &str) -> Result<bool> {
        let kind = kind.to_owned();
        self.read(move |connection| any_running(&Session::new(connection), &kind))
            .await
    }
}

pub(crate) fn limit(session: &Session<'_>, key: &str) -> Result<Option<StoredLimit>, Failure> {
    let found: Option<Vec<u8>> = session
        .prepare(sql::LIMIT)?
        .query_row([key], |row| row.get(0))
        .optional()?;
    found.map(|document| decode(&document)).transpose()
}

pub(crate) fn swap(
    session: &Session<'_>,
    previous: Option<ObjectId>,
    limit: &StoredLimit,
) -> Result<bool, Failure> {
    let version = limit.version.bytes();
    let next = limit.next.map(Timestamp::as_millisecond);
    let expires_at = limit.expires_at().map(Timestamp::as_millisecond);
    let document = limit.to_document().to_vec()?;
    let values = params![limit.key, version, next, expires_at, document];
    let written = match previous {
        None => session.prepare(sql::INSERT_LIMIT)?.execute(values)?,
        Some(previous) => {
            let previous = previous.bytes();
            let values = params![limit.key, version, next, expires_at, document, previous];
            session.prepare(sql::UPDATE_LIMIT)?.execute(values)?
        }
    };
    Ok(written > 0)
}

pub(crate) fn any_running(session: &Session<'_>, kind: &str) -> Result<bool, Failure> {
    Ok(session.prepare(sql::RUNNING)?.exists([kind])?)
}

/// When the first limit falls due, in milliseconds.
pub(crate) fn next(session: &Session<'_>) -> Result<Option<i64>, Failure> {
    let mut statement = session.prepare(sql::NEXT_LIMIT)?;
    Ok(statement.query_row([], |row| row.get(0)).optional()?)
}

fn decode(document: &[u8]) -> Result<StoredLimit, Failure> {
    let document = Document::from_reader(document)?;
    Ok(StoredLimit::from_document(&document))
}
