//! [`EventStore`] in SQLite: the position in the table is the order of publication.
//!
//! Positions begin anew when somebody drops the table. So a cursor also knows the id of the event at
//! its position, and where another one stands there, all that there is is new.

use std::sync::Arc;

use async_trait::async_trait;
use bson::{Document, doc, oid::ObjectId};
use jiff::Timestamp;
use rocketjob_core::{Error, Event, EventCursor, EventStore, News, Result, whole_number};
use rusqlite::{Connection, OptionalExtension, params};
use tokio::task::spawn_blocking;

use crate::{error::Failure, hold::count, row::object_id, sql, store::SqliteStore};

const POSITION: &str = "position";
const ID: &str = "id";
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
            if !exists(session.connection())? {
                session.connection().execute_batch(sql::CREATE_EVENTS)?;
            }
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
        .await?;
        let ear = Arc::clone(self.event_ear());
        let rung = spawn_blocking(move || {
            ear.ring(News::READY);
            ear.rest();
        });
        // The event is published: those who were not woken find it by looking for it.
        let _ = rung.await;
        Ok(())
    }

    async fn event_end(&self) -> Result<EventCursor> {
        self.read(|connection| {
            if !exists(connection)? {
                return Ok(Place::BEGINNING.cursor());
            }
            let last = connection
                .prepare_cached("SELECT position, id FROM events ORDER BY position DESC LIMIT 1")?
                .query_row([], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?)))
                .optional()?;
            let place = last.map_or(Place::BEGINNING, |(position, id)| Place {
                position,
                id: object_id(&id),
            });
            Ok(place.cursor())
        })
        .await
    }

    async fn events(&self, after: &EventCursor, limit: usize) -> Result<(Vec<Event>, EventCursor)> {
        let after = Place::read(after)?;
        self.read(move |connection| {
            let mut place = after;
            if !exists(connection)? {
                return Ok((Vec::new(), place.cursor()));
            }
            let start = place.start(connection)?;
            let mut statement = connection.prepare_cached(
                "SELECT position, id, name, action, parameters, created_at FROM events \
                 WHERE position > ?1 ORDER BY position LIMIT ?2",
            )?;
            let mut rows = statement.query(params![start, count(limit)])?;
            let mut events = Vec::new();
            while let Some(row) = rows.next()? {
                let event = read(row)?;
                place = Place {
                    position: row.get(0)?,
                    id: Some(event.id),
                };
                events.push(event);
            }
            Ok((events, place.cursor()))
        })
        .await
    }

    fn event_bells(&self) -> u64 {
        self.event_ear().rung().ready
    }

    async fn event_published(&self, known: u64) -> u64 {
        self.event_ear().wait_for_ready(known).await
    }

    fn hears_events(&self) -> bool {
        self.event_ear().hears_others()
    }
}

/// Whether nobody has dropped the table.
fn exists(connection: &Connection) -> Result<bool, Failure> {
    let mut statement = connection
        .prepare_cached("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'events'")?;
    Ok(statement.exists([])?)
}

/// What a cursor says: the last event that was read.
#[derive(Clone, Copy)]
struct Place {
    position: i64,
    id: Option<ObjectId>,
}

impl Place {
    const BEGINNING: Self = Self {
        position: 0,
        id: None,
    };

    fn read(cursor: &EventCursor) -> Result<Self> {
        let position = cursor.0.get(POSITION).and_then(whole_number);
        Ok(Self {
            position: position
                .ok_or_else(|| Error::configuration("the event cursor is not of this store"))?,
            id: cursor.0.get_object_id(ID).ok(),
        })
    }

    fn cursor(self) -> EventCursor {
        let mut cursor = doc! { POSITION: self.position };
        cursor.extend(self.id.map(|id| (ID.to_owned(), id.into())));
        EventCursor(cursor)
    }

    /// Behind which position to read on.
    fn start(self, connection: &Connection) -> Result<i64, Failure> {
        let found: Option<Vec<u8>> = connection
            .prepare_cached("SELECT id FROM events WHERE position = ?1")?
            .query_row([self.position], |row| row.get(0))
            .optional()?;
        let is_ours = if let Some(found) = found {
            self.id.is_none_or(|id| object_id(&found) == Some(id))
        } else {
            // It was removed for its age, or with all others.
            connection
                .prepare_cached("SELECT 1 FROM events WHERE position > ?1 LIMIT 1")?
                .exists([self.position])?
        };
        Ok(if is_ours { self.position } else { 0 })
    }
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
