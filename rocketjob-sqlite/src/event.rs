//! [`EventStore`] in SQLite: the position in the table is the order of publication.

use async_trait::async_trait;
use bson::{Document, doc};
use jiff::Timestamp;
use rocketjob_core::{Error, Event, EventCursor, EventStore, Result, whole_number};
use rusqlite::params;

use crate::{error::Failure, hold::count, row::object_id, store::SqliteStore};

const POSITION: &str = "position";
/// Events are kept for subscribers that are behind: this many, and for this long.
const KEPT: i64 = 10_000;
const KEPT_MILLISECONDS: i64 = 60 * 60 * 1000;
/// How many old ones go with a new one, at most.
const REMOVED_AT_ONCE: i64 = 100;

#[async_trait]
impl EventStore for SqliteStore {
    async fn publish(&self, event: &Event) -> Result<()> {
        let event = event.clone();
        let now = self.time().as_millisecond();
        self.write(move |session| {
            // Repeated with the same id, it is published once.
            session
                .prepare(
                    "INSERT OR IGNORE INTO events (id, name, action, parameters, created_at) \
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![
                    event.id.bytes(),
                    event.name,
                    event.action,
                    event.parameters.to_vec()?,
                    event.created_at.as_millisecond(),
                ])?;
            session
                .prepare(
                    "DELETE FROM events WHERE position IN (SELECT position FROM events \
                     WHERE position <= (SELECT max(position) FROM events) - ?1 \
                     ORDER BY position LIMIT ?2) AND created_at < ?3",
                )?
                .execute(params![KEPT, REMOVED_AT_ONCE, now - KEPT_MILLISECONDS])?;
            Ok(())
        })
        .await
    }

    async fn event_end(&self) -> Result<EventCursor> {
        let position = self
            .read(|connection| {
                Ok(connection
                    .prepare_cached("SELECT ifnull(max(position), 0) FROM events")?
                    .query_row([], |row| row.get(0))?)
            })
            .await?;
        Ok(cursor(position))
    }

    async fn events(&self, after: &EventCursor, limit: usize) -> Result<(Vec<Event>, EventCursor)> {
        let after = after
            .0
            .get(POSITION)
            .and_then(whole_number)
            .ok_or_else(|| Error::configuration("the event cursor is not of this store"))?;
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT position, id, name, action, parameters, created_at FROM events \
                 WHERE position > ?1 ORDER BY position LIMIT ?2",
            )?;
            let mut rows = statement.query(params![after, count(limit)])?;
            let mut events = Vec::new();
            let mut position = after;
            while let Some(row) = rows.next()? {
                position = row.get(0)?;
                events.push(read(row)?);
            }
            Ok((events, cursor(position)))
        })
        .await
    }
}

fn cursor(position: i64) -> EventCursor {
    EventCursor(doc! { POSITION: position })
}

fn read(row: &rusqlite::Row<'_>) -> Result<Event, Failure> {
    let id: Vec<u8> = row.get(1)?;
    let parameters: Vec<u8> = row.get(4)?;
    let unusable = || Failure::Unexpected("an event has no usable id or time".into());
    Ok(Event {
        id: object_id(&id).ok_or_else(unusable)?,
        name: row.get(2)?,
        action: row.get(3)?,
        parameters: Document::from_reader(parameters.as_slice())?,
        created_at: Timestamp::from_millisecond(row.get(5)?).map_err(|_| unusable())?,
    })
}
