//! Rocket Job's embedded store: a SQLite file, and no server to install.
//!
//! [`SqliteStore`] keeps every promise of [`Storage`](rocketjob_core::Storage) with the file alone:
//! several processes on one machine may work on it at the same time, and what was acknowledged is
//! on the disk. Small writes of many tasks share one transaction and one sync. A full disk makes the
//! store unavailable for a while: nothing is lost, and work goes on once there is room.
//!
//! ```
//! use rocketjob_core::{Filter, JobStore, ReadFrom};
//! use rocketjob_sqlite::SqliteStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> rocketjob_core::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("jobs.db");
//! let store = SqliteStore::open(path).await?;
//! assert_eq!(store.count(&Filter::all(), ReadFrom::Primary).await?, 0);
//! # Ok(())
//! # }
//! ```

mod bell;
mod claim;
mod connection;
mod ending;
mod error;
mod event;
mod find;
mod hold;
mod inspection;
mod job_set;
mod limit;
mod options;
#[cfg(test)]
mod plan;
mod query;
mod rest;
mod row;
mod schema;
mod server;
mod session;
mod settle;
mod sql;
mod store;
#[cfg(test)]
mod watch;
mod writer;

pub use options::{Options, Synchronous};
pub use store::SqliteStore;
