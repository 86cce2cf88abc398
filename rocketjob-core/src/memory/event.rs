//! [`EventStore`] in memory.

use std::collections::VecDeque;

use async_trait::async_trait;
use bson::doc;

use super::MemoryStore;
use crate::{
    bell::News,
    encoding::{integer, whole_number},
    error::{Error, Result},
    event::{Event, EventCursor},
    storage::EventStore,
};

/// How many events are kept for subscribers that are behind.
const KEPT: usize = 100_000;
const POSITION: &str = "position";

/// The last events, with the number of the first that is kept.
#[derive(Debug, Default)]
pub(super) struct Events {
    first: i64,
    kept: VecDeque<Event>,
}

impl Events {
    fn push(&mut self, event: Event) {
        self.kept.push_back(event);
        if self.kept.len() > KEPT {
            self.kept.pop_front();
            self.first += 1;
        }
    }

    pub(super) fn clear(&mut self) {
        self.first = self.end();
        self.kept.clear();
    }

    fn end(&self) -> i64 {
        let kept = i64::try_from(self.kept.len()).unwrap_or(i64::MAX);
        self.first.saturating_add(kept)
    }

    fn behind(&self, position: i64, limit: usize) -> (Vec<Event>, i64) {
        let position = position.max(self.first);
        let skipped = usize::try_from(position - self.first).unwrap_or(usize::MAX);
        let events: Vec<_> = self
            .kept
            .iter()
            .skip(skipped)
            .take(limit)
            .cloned()
            .collect();
        let read = i64::try_from(events.len()).unwrap_or(i64::MAX);
        (events, position.saturating_add(read))
    }
}

fn cursor(position: i64) -> EventCursor {
    EventCursor(doc! { POSITION: integer(position) })
}

#[async_trait]
impl EventStore for MemoryStore {
    async fn publish(&self, event: &Event) -> Result<()> {
        self.data().events.push(event.clone());
        self.0.event_bell.ring(News::READY);
        Ok(())
    }

    async fn event_end(&self) -> Result<EventCursor> {
        Ok(cursor(self.data().events.end()))
    }

    async fn events(&self, after: &EventCursor, limit: usize) -> Result<(Vec<Event>, EventCursor)> {
        let position = after
            .0
            .get(POSITION)
            .and_then(whole_number)
            .ok_or_else(|| Error::configuration("the event cursor is not of this store"))?;
        let (events, position) = self.data().events.behind(position, limit);
        Ok((events, cursor(position)))
    }

    fn event_bells(&self) -> u64 {
        self.0.event_bell.rung().ready
    }

    async fn event_published(&self, known: u64) -> u64 {
        self.0.event_bell.wait_for_ready(known).await
    }

    fn hears_events(&self) -> bool {
        true
    }
}
