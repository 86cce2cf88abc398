//! The documents of jobs, with their indexes.

use std::collections::BTreeMap;

use bson::{DateTime, Document, oid::ObjectId};
use jiff::Timestamp;

use super::index::{self, Index, Key};
use crate::{
    change::{Change, Insertion, Patch, Refusal, Settled},
    document::JobDocument,
    encoding::timestamp,
    filter::Filter,
    name,
    state::State,
    stored_limit::StoredLimit,
};

/// What became of a patch: the document before and after it.
pub(super) struct Written {
    pub(super) before: Document,
    pub(super) after: Option<Document>,
}

#[derive(Debug, Default)]
pub(super) struct Jobs {
    documents: BTreeMap<Key, Document>,
    pub(super) index: Index,
    /// By key.
    pub(super) limits: BTreeMap<String, StoredLimit>,
}

impl Jobs {
    /// Puts, replaces or removes a document: the only way to change one, so that the indexes
    /// always tell what stands in the documents.
    pub(super) fn write(&mut self, key: Key, document: Option<Document>) {
        if let Some(before) = self.documents.remove(&key) {
            self.index.put(&key, &before, false);
        }
        if let Some(after) = document {
            self.index.put(&key, &after, true);
            self.documents.insert(key, after);
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Document> {
        self.documents.get(key)
    }

    pub(super) fn documents(&self) -> impl Iterator<Item = &Document> {
        self.documents.values()
    }

    pub(super) fn insert(&mut self, job: JobDocument) -> Insertion {
        let id = job.id();
        if self.documents.contains_key(&Key::Object(id)) {
            return Insertion::Existing(id);
        }
        if let Some(rival) = self.index.rival(id, job.as_document()) {
            return Insertion::Existing(rival);
        }
        self.write(Key::Object(id), Some(job.into_document()));
        Insertion::Inserted
    }

    /// Makes a change if its guard holds and no unique key stands against it.
    pub(super) fn patch(&mut self, patch: &Patch) -> Result<Written, Refusal> {
        let key = Key::Object(patch.id);
        let before = self.documents.get(&key).ok_or(Refusal::NotFound)?;
        if !patch.guard.holds(before) {
            return Err(patch.guard.refusal(before));
        }
        let before = before.clone();
        let after = if patch.change.delete {
            None
        } else {
            let mut after = before.clone();
            patch.change.apply(&mut after);
            if let Some(rival) = self.index.rival(patch.id, &after) {
                return Err(Refusal::Existing(rival));
            }
            Some(after)
        };
        self.write(key, after.clone());
        Ok(Written { before, after })
    }

    /// As [`patch`](Self::patch), but accepts again what an earlier try with the same claim wrote.
    pub(super) fn settle(&mut self, patch: &Patch) -> Settled {
        match self.patch(patch) {
            Ok(_) => Settled::Accepted,
            Err(refusal) => match self.documents.get(&Key::Object(patch.id)) {
                Some(document) if patch.was_made(document) => Settled::Accepted,
                _ => Settled::Refused(refusal),
            },
        }
    }

    /// When the next scheduled job or limit falls due; a job without a time is due at `now`.
    pub(super) fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        let job = self.index.due.first().and_then(|(due, _)| match *due {
            i64::MIN => Some(now),
            due => timestamp(DateTime::from_millis(due)),
        });
        job.into_iter().chain(self.next_limit()).min()
    }

    pub(super) fn promote(&mut self, limit: usize, now: Timestamp) -> u64 {
        self.forget_limits(now);
        let millis = now.as_millisecond();
        let due = self
            .index
            .due
            .iter()
            .take_while(|(due, _)| *due <= millis)
            .map(|(_, key)| key);
        let touched: Vec<Key> = due
            .chain(&self.index.unmarked)
            .take(limit)
            .cloned()
            .collect();
        for key in &touched {
            let scheduled = self
                .get(key)
                .is_some_and(|document| index::due(document) > millis);
            let change = if scheduled {
                Change::new().set(name::HOLD, name::HOLD_SCHEDULED)
            } else {
                ready()
            };
            self.change(key, &change);
        }
        touched.len() as u64
    }

    pub(super) fn release(&mut self, hold: &str, count: usize) -> u64 {
        let released: Vec<Key> = self
            .index
            .held
            .iter(hold)
            .take(count)
            .map(|(_, key)| key.clone())
            .collect();
        for key in &released {
            self.change(key, &ready());
        }
        released.len() as u64
    }

    pub(super) fn next_held(&self, after: &str) -> Option<JobDocument> {
        let mut held = self.index.held.behind_group(after);
        held.find_map(|(_, key)| JobDocument::new(self.get(key)?.clone()).ok())
    }

    /// Makes a change that cannot fail.
    pub(super) fn change(&mut self, key: &Key, change: &Change) {
        if let Some(mut document) = self.get(key).cloned() {
            change.apply(&mut document);
            self.write(key.clone(), Some(document));
        }
    }

    pub(super) fn claims_of(
        &self,
        server: ObjectId,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Vec<JobDocument> {
        self.index
            .claims
            .behind(&server.to_hex(), after.as_ref())
            .filter_map(|id| self.get(&Key::Object(*id)))
            .filter_map(|document| JobDocument::new(document.clone()).ok())
            .take(limit)
            .collect()
    }

    pub(super) fn next_claim(&self, after: &str) -> Option<JobDocument> {
        // Behind all jobs with exactly this token.
        let start = (format!("{after}\0"), Key::Other(String::new()));
        let mut behind = self.index.tokens.range(start..);
        behind.find_map(|(_, key)| JobDocument::new(self.get(key)?.clone()).ok())
    }

    pub(super) fn matching(&self, filter: &Filter) -> impl Iterator<Item = (&Key, &Document)> {
        self.documents
            .iter()
            .filter(|(_, document)| filter.matches(document))
    }

    pub(super) fn delete(&mut self, filter: &Filter) -> u64 {
        let gone: Vec<Key> = self
            .matching(filter)
            .filter(|(_, document)| index::state(document) != Some(State::Running))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &gone {
            self.write(key.clone(), None);
        }
        gone.len() as u64
    }
}

fn ready() -> Change {
    Change::new().set(name::READY, true).unset(name::HOLD)
}
