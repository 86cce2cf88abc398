//! Server documents: the original's fields, and beside them what ours publish.

use std::time::Duration;

use async_trait::async_trait;
use bson::{
    Bson, DateTime, Document, deserialize_from_bson, doc, oid::ObjectId, serialize_to_bson,
};
use futures_util::TryStreamExt;
use mongodb::{
    Collection,
    options::{CollectionOptions, ReadConcern, ReturnDocument},
};
use rocketjob_core::{
    Error, Heartbeat, JobStore, PublishedDefinition, Result, ServerDocument, ServerState,
    ServerStore, date, timestamp, whole_number,
};

use crate::{
    error, schema,
    store::{MongoStore, durable, primary},
};

const NAME: &str = "name";
const MAX_WORKERS: &str = "max_workers";
const STARTED_AT: &str = "started_at";
const STATE: &str = "state";
const HEARTBEAT: &str = "heartbeat";
const UPDATED_AT: &str = "updated_at";
const WORKERS: &str = "workers";
/// Ours; the original ignores it, as it does all below.
const COUNTER: &str = "counter";
/// In milliseconds.
const LEASE: &str = "lease";
const VERSION: &str = "version";
const DEFINITIONS: &str = "definitions";
const FILTER: &str = "filter";
/// In milliseconds.
const POLL_INTERVAL: &str = "poll_interval";

impl MongoStore {
    fn server_documents(&self) -> Collection<Document> {
        self.durable(schema::SERVERS)
    }

    /// A collection that is read from the primary and written durably.
    pub(crate) fn durable(&self, name: &str) -> Collection<Document> {
        let options = CollectionOptions::builder()
            .selection_criteria(primary())
            .read_concern(ReadConcern::local())
            .write_concern(durable())
            .build();
        self.database().collection_with_options(name, options)
    }

    async fn set_of_server(&self, condition: Document, field: &str, value: Bson) -> Result<bool> {
        let set = doc! { "$set": { field: value } };
        let updated = self.server_documents().update_one(condition, set).await;
        updated
            .map(|result| result.matched_count == 1)
            .map_err(|error| self.error(error))
    }
}

#[async_trait]
impl ServerStore for MongoStore {
    async fn insert_server(&self, server: &ServerDocument) -> Result<()> {
        let documents = self.server_documents();
        match documents.insert_one(encode(server)?).await {
            Ok(_) => Ok(()),
            Err(problem) if error::is_duplicate(&problem) => {
                let same = doc! { "_id": server.id, NAME: &server.name };
                let earlier = documents.find_one(same).await;
                match earlier.map_err(|error| self.error(error))? {
                    // An earlier try of this call, whose answer was lost.
                    Some(_) => Ok(()),
                    None => Err(Error::ServerNameTaken {
                        name: server.name.clone(),
                    }),
                }
            }
            Err(problem) => Err(self.error(problem)),
        }
    }

    async fn heartbeat(&self, id: ObjectId, workers: u32) -> Result<Option<ServerDocument>> {
        let sampled = self.clock().resample(self.database()).await;
        sampled.map_err(|error| self.error(error))?;
        let beat = doc! {
            "$set": {
                // The original's embedded documents have ids of their own.
                "heartbeat._id": id,
                "heartbeat.updated_at": date(self.now()),
                "heartbeat.workers": number(workers),
            },
            "$inc": { "heartbeat.counter": 1_i64 },
        };
        let server = self
            .server_documents()
            .find_one_and_update(doc! { "_id": id }, beat)
            .return_document(ReturnDocument::After)
            .await;
        Ok(server
            .map_err(|error| self.error(error))?
            .as_ref()
            .and_then(decode))
    }

    async fn set_server_state(
        &self,
        id: ObjectId,
        from: &[ServerState],
        to: ServerState,
    ) -> Result<bool> {
        let from: Vec<_> = from.iter().copied().map(ServerState::as_str).collect();
        let condition = doc! { "_id": id, STATE: { "$in": from } };
        self.set_of_server(condition, STATE, to.as_str().into())
            .await
    }

    async fn set_max_workers(&self, id: ObjectId, max_workers: u32) -> Result<bool> {
        self.set_of_server(doc! { "_id": id }, MAX_WORKERS, number(max_workers))
            .await
    }

    async fn servers(&self) -> Result<Vec<ServerDocument>> {
        let found = self
            .server_documents()
            .find(doc! {})
            .sort(doc! { "_id": 1 })
            .await;
        let found: Vec<Document> = found
            .map_err(|error| self.error(error))?
            .try_collect()
            .await
            .map_err(|error| self.error(error))?;
        Ok(found.iter().filter_map(decode).collect())
    }

    async fn remove_server(&self, id: ObjectId) -> Result<bool> {
        let removed = self.server_documents().delete_one(doc! { "_id": id }).await;
        removed
            .map(|result| result.deleted_count == 1)
            .map_err(|error| self.error(error))
    }

    async fn declare_dead(&self, id: ObjectId, counter: u64) -> Result<bool> {
        let mut stands = vec![Bson::Int64(i64::try_from(counter).unwrap_or(i64::MAX))];
        if counter == 0 {
            // Also where there is none, or no heartbeat at all.
            stands.push(Bson::Null);
        }
        let condition = doc! { "_id": id, "heartbeat.counter": { "$in": stands } };
        let removed = self.server_documents().delete_one(condition).await;
        removed
            .map(|result| result.deleted_count == 1)
            .map_err(|error| self.error(error))
    }
}

/// A number of workers as the original stores it.
fn number(count: u32) -> Bson {
    Bson::Int32(i32::try_from(count).unwrap_or(i32::MAX))
}

fn encode(server: &ServerDocument) -> Result<Document> {
    let mut document = doc! {
        "_id": server.id,
        NAME: &server.name,
        MAX_WORKERS: number(server.max_workers),
        STATE: server.state.as_str(),
        VERSION: &server.version,
        DEFINITIONS: serialize_to_bson(&server.definitions).map_err(error::unusable)?,
    };
    if let Some(started_at) = server.started_at {
        document.insert(STARTED_AT, date(started_at));
    }
    if let Some(lease) = server.lease {
        document.insert(LEASE, milliseconds(lease));
    }
    if let Some(filter) = &server.filter {
        document.insert(FILTER, serialize_to_bson(filter).map_err(error::unusable)?);
    }
    if let Some(interval) = server.poll_interval {
        document.insert(POLL_INTERVAL, milliseconds(interval));
    }
    if let Some(heartbeat) = server.heartbeat {
        let beat = doc! {
            "_id": server.id,
            UPDATED_AT: date(heartbeat.updated_at),
            WORKERS: number(heartbeat.workers),
            COUNTER: i64::try_from(heartbeat.counter).unwrap_or(i64::MAX),
        };
        document.insert(HEARTBEAT, beat);
    }
    Ok(document)
}

/// The server in a document, ours or the original's; `None` for one without a usable id.
///
/// What else cannot be read is passed over, and an unknown state counts as running: a server that is
/// left out of the list would be taken for dead, and its claims for nobody's.
fn decode(document: &Document) -> Option<ServerDocument> {
    let server = read(document);
    if server.is_none() {
        tracing::warn!(?document, "an undecodable server document is left out");
    }
    server
}

fn read(document: &Document) -> Option<ServerDocument> {
    let time = |date: &DateTime| timestamp(*date);
    Some(ServerDocument {
        id: document.get_object_id("_id").ok()?,
        name: document.get_str(NAME).unwrap_or_default().to_owned(),
        max_workers: count(document, MAX_WORKERS),
        started_at: document.get_datetime(STARTED_AT).ok().and_then(time),
        state: document
            .get_str(STATE)
            .ok()
            .and_then(ServerState::from_name)
            .unwrap_or(ServerState::Running),
        heartbeat: document.get_document(HEARTBEAT).ok().and_then(|beat| {
            Some(Heartbeat {
                updated_at: beat.get_datetime(UPDATED_AT).ok().and_then(time)?,
                workers: count(beat, WORKERS),
                counter: count(beat, COUNTER),
            })
        }),
        lease: duration(document, LEASE),
        version: document.get_str(VERSION).unwrap_or_default().to_owned(),
        definitions: definitions(document),
        filter: document
            .get(FILTER)
            .and_then(|filter| deserialize_from_bson(filter.clone()).ok()),
        poll_interval: duration(document, POLL_INTERVAL),
    })
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn duration(document: &Document, field: &str) -> Option<Duration> {
    let milliseconds = document.get(field).and_then(whole_number)?;
    u64::try_from(milliseconds).ok().map(Duration::from_millis)
}

fn count<N: TryFrom<i64> + Default>(document: &Document, field: &str) -> N {
    let number = document.get(field).and_then(whole_number);
    number
        .and_then(|number| N::try_from(number).ok())
        .unwrap_or_default()
}

/// The definitions that this version can read: a newer server may publish more.
fn definitions(document: &Document) -> Vec<PublishedDefinition> {
    let published = document.get_array(DEFINITIONS).into_iter().flatten();
    published
        .filter_map(|definition| deserialize_from_bson(definition.clone()).ok())
        .collect()
}
