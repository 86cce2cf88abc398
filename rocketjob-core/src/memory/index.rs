//! What is looked up, derived from the documents.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use bson::{Bson, DateTime, Document, oid::ObjectId};

use super::limit::running_kind;
use crate::{
    definition::DEFAULT_PRIORITY,
    encoding::{id_text, whole_number},
    name,
    state::State,
};

/// The id of a document, which other programs may have made of any type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Other(String),
    Object(ObjectId),
}

impl Key {
    pub(super) fn new(id: &Bson) -> Self {
        match id {
            Bson::ObjectId(id) => Self::Object(*id),
            other => Self::Other(id_text(other)),
        }
    }
}

/// A place in the order of claims.
pub(super) type Place = (i64, Key);

/// Ordered sets under names; a name without any item takes no room.
#[derive(Debug)]
pub(super) struct Groups<T>(BTreeMap<String, BTreeSet<T>>);

impl<T> Default for Groups<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord> Groups<T> {
    fn put(&mut self, group: &str, item: T, present: bool) {
        if present {
            self.0.entry(group.to_owned()).or_default().insert(item);
        } else if let Some(items) = self.0.get_mut(group) {
            items.remove(&item);
            if items.is_empty() {
                self.0.remove(group);
            }
        }
    }

    pub(super) fn iter(&self, group: &str) -> impl Iterator<Item = &T> {
        self.0.get(group).into_iter().flatten()
    }

    pub(super) fn is_empty(&self, group: &str) -> bool {
        !self.0.contains_key(group)
    }

    /// The name of the first group behind `after`.
    pub(super) fn next_group(&self, after: &str) -> Option<&str> {
        let behind = (Bound::Excluded(after), Bound::Unbounded);
        self.0
            .range::<str, _>(behind)
            .map(|(name, _)| name.as_str())
            .next()
    }

    /// The names of all groups that begin with `prefix`.
    pub(super) fn names_from<'g>(&'g self, prefix: &'g str) -> impl Iterator<Item = &'g str> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let names = self.0.range::<str, _>(from).map(|(name, _)| name.as_str());
        names.take_while(move |name| name.starts_with(prefix))
    }

    /// The items of all groups behind `after`, group by group.
    pub(super) fn behind_group(&self, after: &str) -> impl Iterator<Item = &T> {
        let behind = (Bound::Excluded(after), Bound::Unbounded);
        self.0.range::<str, _>(behind).flat_map(|(_, items)| items)
    }

    /// The items of `group` behind `after`.
    pub(super) fn behind(&self, group: &str, after: Option<&T>) -> impl Iterator<Item = &T> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.0
            .get(group)
            .into_iter()
            .flat_map(move |items| items.range((start, Bound::Unbounded)))
    }
}

/// All indexes. Only states of which the index says so are in it, so that a state left also by
/// another program frees what it held.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// By kind: jobs marked as ready that are queued, and batches that can be joined.
    pub(super) ready: Groups<Place>,
    /// By reason: queued jobs that are held.
    pub(super) held: Groups<Place>,
    /// Queued jobs held as scheduled, by due time; no time at all is due.
    pub(super) due: BTreeSet<(i64, Key)>,
    /// Queued jobs without a mark.
    pub(super) unmarked: BTreeSet<Key>,
    /// By key: who holds it among queued and running jobs.
    pub(super) unique: Groups<ObjectId>,
    /// By key: who holds it among unfinished jobs.
    pub(super) unfinished: Groups<ObjectId>,
    /// By slot: running jobs that take it.
    pub(super) slots: Groups<Key>,
    /// By kind: running jobs.
    pub(super) running: Groups<Key>,
    /// By incarnation: running jobs claimed by that server.
    pub(super) claims: Groups<ObjectId>,
    /// Running jobs by the token of their claim.
    pub(super) tokens: BTreeSet<(String, Key)>,
}

impl Index {
    /// Adds or removes all entries of one document: the only place that derives them.
    pub(super) fn put(&mut self, key: &Key, document: &Document, present: bool) {
        let Some(state) = state(document) else {
            return;
        };
        let place = || (priority(document), key.clone());
        let ready = document.get_bool(name::READY).unwrap_or(false);
        if ready
            && (state == State::Queued || is_joinable(document))
            && let Some(kind) = text(document, name::KIND)
        {
            self.ready.put(kind, place(), present);
        }
        if state == State::Queued {
            match text(document, name::HOLD) {
                Some(hold) => {
                    self.held.put(hold, place(), present);
                    if hold == name::HOLD_SCHEDULED {
                        put(&mut self.due, (due(document), key.clone()), present);
                    }
                }
                None if !ready => put(&mut self.unmarked, key.clone(), present),
                None => {}
            }
        }
        if let Some(kind) = running_kind(document) {
            self.running.put(kind, key.clone(), present);
        }
        if state == State::Running {
            for slot in slots(document) {
                self.slots.put(slot, key.clone(), present);
            }
        }
        if state == State::Running
            && let Some(token) = text(document, name::CLAIM)
        {
            put(&mut self.tokens, (token.to_owned(), key.clone()), present);
        }
        let Key::Object(id) = *key else {
            return;
        };
        if let Some(key) = unique_key(document, state) {
            self.unique.put(key, id, present);
        }
        if let Some(key) = unfinished_key(document, state) {
            self.unfinished.put(key, id, present);
        }
        if state == State::Running
            && let Some((server, _)) = text(document, name::CLAIM).and_then(|t| t.split_once(':'))
        {
            self.claims.put(server, id, present);
        }
    }

    /// The job other than `id` that holds a unique key or a place in a limit which `document` would
    /// take.
    pub(super) fn rival(&self, id: ObjectId, document: &Document) -> Option<ObjectId> {
        let state = state(document)?;
        let unique = unique_key(document, state)
            .into_iter()
            .flat_map(|key| self.unique.iter(key));
        let unfinished = unfinished_key(document, state)
            .into_iter()
            .flat_map(|key| self.unfinished.iter(key));
        let placed = slots(document)
            .filter(|_| state == State::Running)
            .flat_map(|slot| self.slots.iter(slot))
            .filter_map(|key| match key {
                Key::Object(holder) => Some(holder),
                Key::Other(_) => None,
            });
        unique
            .chain(unfinished)
            .chain(placed)
            .find(|holder| **holder != id)
            .copied()
    }
}

fn put<T: Ord>(set: &mut BTreeSet<T>, item: T, present: bool) {
    if present {
        set.insert(item);
    } else {
        set.remove(&item);
    }
}

pub(super) fn state(document: &Document) -> Option<State> {
    text(document, name::STATE).and_then(State::from_name)
}

pub(super) fn text<'d>(document: &'d Document, field: &str) -> Option<&'d str> {
    document.get_str(field).ok()
}

fn priority(document: &Document) -> i64 {
    match document.get(name::PRIORITY) {
        None | Some(Bson::Null) => i64::from(DEFAULT_PRIORITY),
        // One that cannot be read comes first, so that it is set aside soon.
        Some(value) => whole_number(value).unwrap_or(i64::MIN),
    }
}

/// When a job falls due: no time at all is due, what is no time never.
pub(super) fn due(document: &Document) -> i64 {
    match document.get(name::RUN_AT) {
        None | Some(Bson::Null) => i64::MIN,
        Some(Bson::DateTime(run_at)) => run_at.timestamp_millis(),
        Some(_) => DateTime::MAX.timestamp_millis(),
    }
}

/// Whether it is a running batch that hands out slices.
pub(super) fn is_joinable(document: &Document) -> bool {
    state(document) == Some(State::Running) && text(document, name::SUB_STATE) == Some("processing")
}

fn unique_key(document: &Document, state: State) -> Option<&str> {
    text(document, name::UNIQUE_KEY).filter(|_| matches!(state, State::Queued | State::Running))
}

fn unfinished_key(document: &Document, state: State) -> Option<&str> {
    text(document, name::UNFINISHED_KEY).filter(|_| !state.is_end())
}

fn slots(document: &Document) -> impl Iterator<Item = &str> {
    document
        .get_array(name::SLOTS)
        .into_iter()
        .flatten()
        .filter_map(Bson::as_str)
}
