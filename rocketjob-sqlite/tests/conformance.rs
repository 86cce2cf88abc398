//! Every promise of the storage traits, kept by a file on the disk.

#![expect(clippy::unwrap_used, reason = "tests panic: that is how they fail")]

use std::time::Duration;

use bson::{Document, oid::ObjectId};
use rocketjob_core::{Change, Store};
use rocketjob_sqlite::SqliteStore;
use rocketjob_testing::{Harness, Loss};
use rusqlite::Connection;
use tempfile::TempDir;

struct Sqlite {
    store: SqliteStore,
    folder: TempDir,
}

impl Sqlite {
    async fn open(folder: &TempDir) -> SqliteStore {
        SqliteStore::open(folder.path().join("jobs.db"))
            .await
            .unwrap()
    }
}

impl Harness for Sqlite {
    async fn start(_test: &'static str) -> Self {
        let folder = TempDir::new().unwrap();
        let store = Self::open(&folder).await;
        Self { store, folder }
    }

    fn store(&self) -> Store {
        Store::new(self.store.clone())
    }

    async fn second(&self) -> Store {
        Store::new(Self::open(&self.folder).await)
    }

    async fn put_raw(&self, document: Document) {
        self.store.insert_raw(document).await.unwrap();
    }

    async fn write_raw(&self, id: ObjectId, set: Document, unset: &[&str]) {
        let change = Change {
            set,
            unset: unset.iter().map(ToString::to_string).collect(),
            ..Change::default()
        };
        assert!(self.store.change_raw(id, change).await.unwrap());
    }

    async fn raw(&self, id: ObjectId) -> Option<Document> {
        self.store.raw(id).await.unwrap()
    }

    async fn lose_events(&self, loss: Loss) {
        let file = Connection::open(self.folder.path().join("jobs.db")).unwrap();
        let sql = match loss {
            Loss::Emptied => "DELETE FROM events",
            Loss::Dropped => "DROP TABLE events",
            Loss::Recreated => {
                "DROP TABLE events; CREATE TABLE events (position INTEGER PRIMARY KEY, id BLOB, \
                 name TEXT, action TEXT, parameters BLOB, created_at INTEGER)"
            }
        };
        file.busy_timeout(Duration::from_secs(30)).unwrap();
        file.execute_batch(sql).unwrap();
    }

    async fn finish(self) {}
}

rocketjob_testing::conformance!(Sqlite);
