//! A store of its own for each test, of each kind.

use std::{path::PathBuf, time::Duration};

use rocketjob::{MemoryStore, Registry, ServerBuilder, prelude::*};
use rocketjob_testing::mongod::{self, TestDatabase};
use tempfile::TempDir;

/// No test takes longer; one that hangs fails.
const CAP: Duration = Duration::from_mins(4);

/// Which store a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    Sqlite,
    Mongo,
}

/// An empty store and what belongs to it.
pub(crate) struct Fixture {
    pub(crate) store: Store,
    /// Where other processes find the same store; `memory://` for the one that they cannot.
    pub(crate) address: String,
    pub(crate) folder: TempDir,
    pub(crate) database: Option<TestDatabase>,
}

impl Fixture {
    pub(crate) async fn start(kind: Kind, test: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let database = match kind {
            Kind::Mongo => Some(mongod::database(test).await),
            Kind::Memory | Kind::Sqlite => None,
        };
        let address = match (kind, &database) {
            (Kind::Memory, _) => "memory://".to_owned(),
            (_, Some(database)) => database.url().to_owned(),
            (_, None) => format!("sqlite://{}", folder.path().join("jobs.db").display()),
        };
        let store = match kind {
            Kind::Memory => Store::new(MemoryStore::new()),
            Kind::Sqlite | Kind::Mongo => rocketjob::connect(&address)
                .await
                .expect("the store can be reached"),
        };
        Self {
            store,
            address,
            folder,
            database,
        }
    }

    /// A server with a few workers that performs jobs of `T` only.
    pub(crate) fn server<T: Perform>(&self) -> ServerBuilder {
        let mut registry = Registry::new();
        registry.register::<T>().expect("the definition is sound");
        Server::builder(&self.store)
            .only(registry)
            .workers(3)
            .poll_interval(Duration::from_millis(20))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Runs `test` on a store of this kind.
pub(crate) fn run(kind: Kind, name: &str, test: impl AsyncFnOnce(&Fixture)) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime can be started").block_on(async {
        let ended = tokio::time::timeout(CAP, async {
            let fixture = Fixture::start(kind, name).await;
            test(&fixture).await;
            if let Some(database) = fixture.database {
                database.drop().await;
            }
        });
        assert!(ended.await.is_ok(), "{name} did not end within {CAP:?}");
    });
}

/// Makes each function a test on every store.
macro_rules! on_every_store {
    ($($(#[$comment:meta])* async fn $name:ident($fixture:ident: &Fixture) $body:block)+) => {
        $($(#[$comment])* mod $name {
            #[allow(unused_imports, reason = "not every test needs all that its neighbours need")]
            use super::*;
            use crate::stores::{self, Fixture, Kind};

            async fn test($fixture: &Fixture) $body

            #[test]
            fn on_memory() {
                stores::run(Kind::Memory, concat!(module_path!(), "::on_memory"), test);
            }

            #[test]
            fn on_sqlite() {
                stores::run(Kind::Sqlite, concat!(module_path!(), "::on_sqlite"), test);
            }

            #[test]
            fn on_mongo() {
                stores::run(Kind::Mongo, concat!(module_path!(), "::on_mongo"), test);
            }
        })+
    };
}

pub(crate) use on_every_store;
