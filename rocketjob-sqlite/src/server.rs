//! [`ServerStore`] in SQLite.

use std::time::Duration;

use async_trait::async_trait;
use bson::{Bson, oid::ObjectId};
use jiff::Timestamp;
use rocketjob_core::{
    Error, Heartbeat, PublishedDefinition, Result, ServerDocument, ServerState, ServerStore,
};
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::{error::Failure, row::object_id, store::SqliteStore};

const SELECT: &str = "SELECT id, name, max_workers, started_at, state, updated_at, workers, \
                      counter, version, definitions, lease FROM servers";

/// What a server publishes, as one document.
#[derive(Serialize, Deserialize)]
struct Published {
    definitions: Vec<PublishedDefinition>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filter: Option<Bson>,
    /// In milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    poll_interval: Option<i64>,
}

#[async_trait]
impl ServerStore for SqliteStore {
    async fn insert_server(&self, server: &ServerDocument) -> Result<()> {
        let server = server.clone();
        let name = server.name.clone();
        let is_mine = self
            .write(move |session| {
                let definitions = bson::serialize_to_vec(&Published {
                    definitions: server.definitions,
                    filter: server
                        .filter
                        .as_ref()
                        .map(bson::serialize_to_bson)
                        .transpose()?,
                    poll_interval: server.poll_interval.map(milliseconds),
                })?;
                session
                    .prepare(
                        "INSERT OR IGNORE INTO servers (id, name, max_workers, started_at, state, \
                         updated_at, workers, counter, version, definitions, lease) \
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                    )?
                    .execute(params![
                        server.id.bytes(),
                        server.name,
                        server.max_workers,
                        server.started_at.map(Timestamp::as_millisecond),
                        server.state.as_str(),
                        server
                            .heartbeat
                            .map(|beat| beat.updated_at.as_millisecond()),
                        server.heartbeat.map(|beat| beat.workers),
                        server.heartbeat.map(|beat| counter(beat.counter)),
                        server.version,
                        definitions,
                        server.lease.map(milliseconds),
                    ])?;
                // Also when an earlier try, whose answer was lost, wrote it.
                let mut statement = session.prepare("SELECT 1 FROM servers WHERE id = ?1")?;
                Ok(statement.exists([server.id.bytes()])?)
            })
            .await?;
        if is_mine {
            Ok(())
        } else {
            Err(Error::ServerNameTaken { name })
        }
    }

    async fn heartbeat(&self, id: ObjectId, workers: u32) -> Result<Option<ServerDocument>> {
        let now = self.time().as_millisecond();
        self.write(move |session| {
            session
                .prepare(
                    "UPDATE servers SET updated_at = ?2, workers = ?3, \
                     counter = ifnull(counter, 0) + 1 WHERE id = ?1",
                )?
                .execute(params![id.bytes(), now, workers])?;
            session
                .prepare(&format!("{SELECT} WHERE id = ?1"))?
                .query_row([id.bytes()], |row| Ok(read(row)))
                .optional()?
                .transpose()
        })
        .await
    }

    async fn set_server_state(
        &self,
        id: ObjectId,
        from: &[ServerState],
        to: ServerState,
    ) -> Result<bool> {
        let from = from.to_vec();
        self.write(move |session| {
            let state: Option<String> = session
                .prepare("SELECT state FROM servers WHERE id = ?1")?
                .query_row([id.bytes()], |row| row.get(0))
                .optional()?;
            let state = state.as_deref().and_then(ServerState::from_name);
            if !state.is_some_and(|state| from.contains(&state)) {
                return Ok(false);
            }
            session
                .prepare("UPDATE servers SET state = ?2 WHERE id = ?1")?
                .execute(params![id.bytes(), to.as_str()])?;
            Ok(true)
        })
        .await
    }

    async fn set_max_workers(&self, id: ObjectId, max_workers: u32) -> Result<bool> {
        self.write(move |session| {
            let changed = session
                .prepare("UPDATE servers SET max_workers = ?2 WHERE id = ?1")?
                .execute(params![id.bytes(), max_workers])?;
            Ok(changed > 0)
        })
        .await
    }

    async fn servers(&self) -> Result<Vec<ServerDocument>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!("{SELECT} ORDER BY id"))?;
            let mut rows = statement.query([])?;
            let mut servers = Vec::new();
            while let Some(row) = rows.next()? {
                servers.push(read(row)?);
            }
            Ok(servers)
        })
        .await
    }

    async fn remove_server(&self, id: ObjectId) -> Result<bool> {
        self.write(move |session| {
            let removed = session
                .prepare("DELETE FROM servers WHERE id = ?1")?
                .execute([id.bytes()])?;
            Ok(removed > 0)
        })
        .await
    }

    async fn declare_dead(&self, id: ObjectId, beats: u64) -> Result<bool> {
        self.write(move |session| {
            let removed = session
                .prepare("DELETE FROM servers WHERE id = ?1 AND ifnull(counter, 0) = ?2")?
                .execute(params![id.bytes(), counter(beats)])?;
            Ok(removed > 0)
        })
        .await
    }
}

fn read(row: &rusqlite::Row<'_>) -> Result<ServerDocument, Failure> {
    let name: String = row.get(1)?;
    let unexpected = |what: &str| Failure::Unexpected(format!("server `{name}` has {what}"));
    let id: Vec<u8> = row.get(0)?;
    let state: String = row.get(4)?;
    let heartbeat = match (row.get(5)?, row.get(6)?, row.get::<_, Option<i64>>(7)?) {
        (Some(updated_at), Some(workers), Some(counter)) => Some(Heartbeat {
            updated_at: Timestamp::from_millisecond(updated_at)
                .map_err(|error| unexpected(&error.to_string()))?,
            workers,
            counter: u64::try_from(counter).unwrap_or(0),
        }),
        _ => None,
    };
    let published: Published = bson::deserialize_from_slice(&row.get::<_, Vec<u8>>(9)?)?;
    Ok(ServerDocument {
        id: object_id(&id).ok_or_else(|| unexpected("no usable id"))?,
        max_workers: row.get(2)?,
        started_at: row
            .get::<_, Option<i64>>(3)?
            .and_then(|time| Timestamp::from_millisecond(time).ok()),
        state: ServerState::from_name(&state)
            .ok_or_else(|| unexpected(&format!("the unknown state `{state}`")))?,
        heartbeat,
        lease: row.get::<_, Option<i64>>(10)?.and_then(duration),
        version: row.get(8)?,
        definitions: published.definitions,
        // What a newer version publishes is passed over.
        filter: published
            .filter
            .and_then(|filter| bson::deserialize_from_bson(filter).ok()),
        poll_interval: published.poll_interval.and_then(duration),
        name,
    })
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn duration(milliseconds: i64) -> Option<Duration> {
    u64::try_from(milliseconds).ok().map(Duration::from_millis)
}

fn counter(counter: u64) -> i64 {
    i64::try_from(counter).unwrap_or(i64::MAX)
}
