//! Where the jobs of a section are kept: stores of its own.

use std::time::Duration;

use mongodb::Client;
use rocketjob::{Filter, ReadFrom, State, Store};
use rocketjob_testing::mongod::{Mongod, Options};
use tempfile::TempDir;

use crate::Anything;

/// The collection of jobs.
pub(crate) const JOBS: &str = "rocket_job.jobs";
const DATABASE: &str = "perf";

/// A `mongod`, a replica set of one member. It ends with the value.
pub(crate) struct Mongo {
    mongod: Mongod,
}

impl Mongo {
    pub(crate) async fn start() -> Self {
        Self {
            mongod: Mongod::start(Options::replica_set("perf")).await,
        }
    }

    pub(crate) fn url(&self) -> String {
        self.database(DATABASE)
    }

    pub(crate) fn database(&self, name: &str) -> String {
        self.mongod.url(name)
    }

    /// The id of its process.
    pub(crate) fn process(&self) -> Vec<u32> {
        self.mongod.process().into_iter().collect()
    }

    pub(crate) async fn client(&self) -> Anything<Client> {
        Ok(Client::with_uri_str(self.url()).await?)
    }
}

/// A folder for files of SQLite. They go with the value.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Anything<Self> {
        Ok(Self(TempDir::new()?))
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("sqlite://{}", self.path(name).display())
    }
}

/// Removes all jobs, and waits until those that are still on their way are gone as well.
pub(crate) async fn empty(store: &Store) -> Anything<()> {
    store.delete(&Filter::all()).await?;
    let left = store.count(&Filter::all(), ReadFrom::Primary).await?;
    if left > 0 {
        return Err(format!("{left} jobs are still running").into());
    }
    Ok(())
}

/// Whether no job of this kind is left that has not ended.
pub(crate) async fn are_done(store: &Store, kind: &str) -> Anything<bool> {
    let left = Filter::states([State::Queued, State::Running]).and(Filter::kinds([kind]));
    Ok(store.count(&left, ReadFrom::Primary).await? == 0)
}

/// An error if not exactly so many jobs have completed and were kept.
pub(crate) async fn check_kept(store: &Store, kept: usize) -> Anything<()> {
    let completed = Filter::state(State::Completed);
    let found = store.count(&completed, ReadFrom::Primary).await?;
    if found != kept as u64 {
        return Err(format!("{found} jobs have completed and were kept, not {kept}").into());
    }
    Ok(())
}

/// How long the store is left alone between two measurements, so that what one leaves to be done
/// is no burden on the next.
pub(crate) async fn rest() {
    tokio::time::sleep(Duration::from_millis(200)).await;
}
