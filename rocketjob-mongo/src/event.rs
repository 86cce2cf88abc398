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

use crate::{error, schema, store::MongoStore, tail};

const SEEN: &str = "seen";
/// How many ids a cursor knows.
const KNOWN: usize = 64;
/// Behind so many known ones, seen from the end, nothing new can be.
const CERTAIN: usize = 32;

impl MongoStore {
    fn event_documents(&self) -> Collection<Document> {
        self.durable(schema::EVENTS)
    }

    /// Events, the latest first: as many as a look takes as a rule, or all.
    async fn latest(&self, limit: Option<usize>) -> Result<Cursor<Document>> {
        let order = doc! { "$natural": -1 };
        let batch = u32::try_from(KNOWN).unwrap_or(u32::MAX);
        let events = self.event_documents();
        let mut find = events.find(doc! {}).sort(order);
        if let Some(limit) = limit {
            // The server then keeps no cursor, which would have to be closed.
            find = find.limit(i64::try_from(limit).unwrap_or(i64::MAX));
        }
        let events = find.batch_size(batch).await;
        events.map_err(|error| self.error(error))
    }

    /// Events behind those that are `known`, the latest first, among the latest `limit`; `None` when
    /// there may be more.
    async fn behind(
        &self,
        known: &HashSet<String>,
        limit: Option<usize>,
    ) -> Result<Option<Vec<Document>>> {
        let certain = known.len().min(CERTAIN);
        let mut documents = self.latest(limit).await?;
        let mut new = Vec::new();
        let (mut met, mut seen) = (0, 0);
        // With nothing known, all that there is is new.
        while known.is_empty() || met < certain {
            let next = documents.try_next().await;
            match next.map_err(|error| self.error(error))? {
                None if limit == Some(seen) => return Ok(None),
                None => break,
                Some(event) if event.get("_id").is_some_and(|id| known.contains(&key(id))) => {
                    met += 1;
                }
                Some(event) => new.push(event),
            }
            seen += 1;
        }
        Ok(Some(new))
    }
}

#[async_trait]
impl EventStore for MongoStore {
    async fn publish(&self, event: &Event) -> Result<()> {
        match self.event_documents().insert_one(encode(event)).await {
            Ok(_) => {}
            // An earlier try, whose answer was lost.
            Err(problem) if error::is_duplicate(&problem) => {}
            Err(problem) => return Err(self.error(problem)),
        }
        self.event_ear().ring();
        Ok(())
    }

    async fn event_end(&self) -> Result<EventCursor> {
        let mut events = self.latest(Some(KNOWN)).await?;
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
        let few = self.behind(&known, Some(KNOWN)).await?;
        let mut new = match few {
            Some(new) => new,
            None => self.behind(&known, None).await?.unwrap_or_default(),
        };
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

    fn event_bells(&self) -> u64 {
        self.event_ear().rung()
    }

    async fn event_published(&self, known: u64) -> u64 {
        self.event_ear().wait(self.database(), known).await
    }

    fn hears_events(&self) -> bool {
        self.event_ear().hears_others()
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

/// The event in a document; `None` when it has no name, to which nobody can subscribe, and for what
/// only makes the collection not empty.
fn decode(mut document: Document, now: &Bson) -> Option<Event> {
    let created_at = document.get("created_at").unwrap_or(now);
    let created_at = created_at.as_datetime().and_then(|date| timestamp(*date));
    let name = text(&document, "name")?;
    if name == tail::MARK {
        return None;
    }
    Some(Event {
        id: document
            .get_object_id("_id")
            .unwrap_or_else(|_| ObjectId::new()),
        name,
        action: text(&document, "action"),
        created_at: created_at.unwrap_or_default(),
        parameters: match document.remove("parameters") {
            Some(Bson::Document(parameters)) => parameters,
            _ => Document::new(),
        },
    })
}

/// Text, which the original may also write as a symbol.
fn text(document: &Document, field: &str) -> Option<String> {
    match document.get(field) {
        Some(Bson::String(text) | Bson::Symbol(text)) => Some(text.clone()),
        _ => None,
    }
}
