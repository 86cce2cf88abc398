//! Events, in the order in which the server stored them.
//!
//! Neither a time nor an id can be the cursor: hosts disagree on both, so an event may arrive with
//! an older one than those that were read before. The natural order of the collection is the order
//! of arrival, so events are read from its end backwards, up to those that the cursor knows. It
//! knows the last few by id, since concurrent inserts may show up a little out of order.

use std::collections::HashSet;

use async_trait::async_trait;
use bson::{Bson, Document, doc, oid::ObjectId};
use futures_util::TryStreamExt;
use mongodb::{Collection, Cursor};
use rocketjob_core::{Error, Event, EventCursor, EventStore, JobStore, Result, date, timestamp};

use crate::{error, schema, store::MongoStore};

const SEEN: &str = "seen";
/// How many ids a cursor knows.
const KNOWN: usize = 64;
/// Behind so many known ones, seen from the end, nothing new can be.
const CERTAIN: usize = 32;

impl MongoStore {
    fn event_documents(&self) -> Collection<Document> {
        self.durable(schema::EVENTS)
    }

    /// All events, the latest first.
    async fn latest(&self) -> Result<Cursor<Document>> {
        let order = doc! { "$natural": -1 };
        let batch = u32::try_from(KNOWN).unwrap_or(u32::MAX);
        let events = self
            .event_documents()
            .find(doc! {})
            .sort(order)
            .batch_size(batch)
            .await;
        events.map_err(|error| self.error(error))
    }
}

#[async_trait]
impl EventStore for MongoStore {
    async fn publish(&self, event: &Event) -> Result<()> {
        match self.event_documents().insert_one(encode(event)).await {
            Ok(_) => Ok(()),
            // An earlier try, whose answer was lost.
            Err(problem) if error::is_duplicate(&problem) => Ok(()),
            Err(problem) => Err(self.error(problem)),
        }
    }

    async fn event_end(&self) -> Result<EventCursor> {
        let mut events = self.latest().await?;
        let mut seen = Vec::new();
        while seen.len() < KNOWN {
            match events.try_next().await.map_err(|error| self.error(error))? {
                None => break,
                Some(event) => seen.extend(event.get("_id").cloned()),
            }
        }
        seen.reverse();
        Ok(EventCursor(doc! { SEEN: seen }))
    }

    async fn events(&self, after: &EventCursor, limit: usize) -> Result<(Vec<Event>, EventCursor)> {
        let seen = after
            .0
            .get_array(SEEN)
            .map_err(|_| Error::configuration("the event cursor is not of this store"))?;
        let known: HashSet<String> = seen.iter().map(key).collect();
        let certain = known.len().min(CERTAIN);
        let mut documents = self.latest().await?;
        let mut new = Vec::new();
        let mut met = 0;
        // With nothing known, all that there is is new.
        while known.is_empty() || met < certain {
            let next = documents
                .try_next()
                .await
                .map_err(|error| self.error(error))?;
            match next {
                None => break,
                Some(event) if event.get("_id").is_some_and(|id| known.contains(&key(id))) => {
                    met += 1;
                }
                Some(event) => new.push(event),
            }
        }
        new.reverse();
        new.truncate(limit);
        let mut seen = seen.clone();
        seen.extend(new.iter().filter_map(|event| event.get("_id").cloned()));
        let surplus = seen.len().saturating_sub(KNOWN);
        seen.drain(..surplus);
        let now = date(self.now());
        let events = new
            .into_iter()
            .filter_map(|event| decode(event, &now))
            .collect();
        Ok((events, EventCursor(doc! { SEEN: seen })))
    }
}

/// An id of any type as a key.
fn key(id: &Bson) -> String {
    id.to_string()
}

fn encode(event: &Event) -> Document {
    let mut document = doc! { "_id": event.id, "name": &event.name };
    if let Some(action) = &event.action {
        document.insert("action", action);
    }
    document.extend(doc! {
        "parameters": event.parameters.clone(),
        "created_at": date(event.created_at),
        "updated_at": date(event.created_at),
    });
    document
}

/// The event in a document; `None` when it has no name, to which nobody can subscribe.
fn decode(mut document: Document, now: &Bson) -> Option<Event> {
    let created_at = document.get("created_at").unwrap_or(now);
    let created_at = created_at.as_datetime().and_then(|date| timestamp(*date));
    Some(Event {
        id: document
            .get_object_id("_id")
            .unwrap_or_else(|_| ObjectId::new()),
        name: document.get_str("name").ok()?.to_owned(),
        action: document.get_str("action").ok().map(ToOwned::to_owned),
        created_at: created_at.unwrap_or_default(),
        parameters: match document.remove("parameters") {
            Some(Bson::Document(parameters)) => parameters,
            _ => Document::new(),
        },
    })
}
