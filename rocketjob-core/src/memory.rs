//! The memory store: everything in this process, for tests, simulations and trying things out.
//!
//! All state stands behind one lock, which makes each operation atomic and the whole store
//! deterministic on a clock that is moved by hand. It is a store like the others: it passes the
//! same conformance suite. `jobs` keeps the documents and their indexes, `claim` hands them out.

mod claim;
mod event;
mod find;
mod index;
mod inspect;
mod job;
mod jobs;
mod limit;
mod server;

use std::{collections::BTreeMap, sync::Arc};

use bson::{Bson, Document, oid::ObjectId};
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};

use crate::{
    bell::Bell,
    change::Change,
    clock::{Clock, IdSource, SystemClock},
    opening::Openings,
    server::ServerDocument,
};

use self::{event::Events, index::Key, jobs::Jobs};

/// A store that keeps everything in memory. Cloning it costs nothing and gives another handle on
/// the same data, which goes with the last handle.
///
/// ```
/// use rocketjob_core::{JobStore, ManualClock, MemoryStore};
///
/// let clock = ManualClock::default();
/// let store = MemoryStore::with_clock(clock.clone());
/// let before = store.now();
/// clock.advance(std::time::Duration::from_secs(3600));
/// assert_eq!((store.now() - before).as_secs(), 3600);
/// ```
#[derive(Debug, Clone)]
pub struct MemoryStore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: Box<dyn Clock>,
    ids: IdSource,
    bell: Bell,
    event_bell: Bell,
    openings: Openings,
    data: Mutex<Data>,
}

#[derive(Debug, Default)]
struct Data {
    jobs: Jobs,
    servers: BTreeMap<ObjectId, ServerDocument>,
    events: Events,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store on this machine's clock.
    pub fn new() -> Self {
        Self::with_clock(SystemClock)
    }

    /// An empty store on another clock.
    pub fn with_clock(clock: impl Clock) -> Self {
        Self::with_ids(clock, IdSource::new())
    }

    /// An empty store on another clock that mints its ids from `ids`.
    pub fn with_ids(clock: impl Clock, ids: IdSource) -> Self {
        Self(Arc::new(Shared {
            clock: Box::new(clock),
            ids,
            bell: Bell::new(),
            event_bell: Bell::new(),
            openings: Openings::new(),
            data: Mutex::default(),
        }))
    }

    /// Stores `document` as it is, in the place of one with the same `_id`: for tests and for
    /// importing. Nothing is checked, no unique key is observed and no bell rings, as when another
    /// program writes. A document without `_id` gets one.
    pub fn insert_raw(&self, mut document: Document) {
        let id = document
            .entry(crate::name::ID)
            .or_insert_with(|| Bson::ObjectId(self.mint()));
        let key = Key::new(id);
        self.data().jobs.write(key, Some(document));
    }

    /// Makes a change without any condition, as another program can, and says whether the job
    /// exists: for tests.
    pub fn change_raw(&self, id: ObjectId, change: &Change) -> bool {
        let mut data = self.data();
        let key = Key::Object(id);
        let Some(mut document) = data.jobs.get(&key).cloned() else {
            return false;
        };
        change.apply(&mut document);
        let after = (!change.delete).then_some(document);
        data.jobs.write(key, after);
        true
    }

    /// The stored document with this id, also an undecodable one: for tests and for exporting.
    pub fn raw(&self, id: ObjectId) -> Option<Document> {
        self.data().jobs.get(&Key::Object(id)).cloned()
    }

    /// Shows each stored document, without copying any: for tests and simulations.
    pub fn visit(&self, see: impl FnMut(&Document)) {
        self.data().jobs.documents().for_each(see);
    }

    /// Removes all events, as another program can: for tests.
    pub fn remove_events(&self) {
        self.data().events.clear();
    }

    fn time(&self) -> Timestamp {
        self.0.clock.now()
    }

    fn mint(&self) -> ObjectId {
        self.0.ids.next(self.time())
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        self.0.data.lock()
    }
}
