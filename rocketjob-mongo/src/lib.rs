//! Rocket Job's store on MongoDB.
//!
//! One document per job, in the layout of the original, which may work on the same database at the
//! same time. What we need beyond it stands in fields that the original ignores. The protocol has
//! three steps, each one round trip for many jobs: a `find` of the next jobs, an `update` that
//! claims them all under one token, and an `update` or `delete` that settles them in groups, each
//! conditional on the state and the token.
//!
//! `schema` has the names and indexes, `claim` and `place` the way of a job to a worker, `settle`
//! the way back, `error` everything that a driver's error can mean.
//!
//! ```no_run
//! # async fn example() -> rocketjob_core::Result<()> {
//! use rocketjob_core::{Filter, JobStore, ReadFrom, State};
//! use rocketjob_mongo::MongoStore;
//!
//! let store = MongoStore::connect("mongodb://localhost:27017/rocketjob").await?;
//! let failed = Filter::state(State::Failed);
//! assert_eq!(store.count(&failed, ReadFrom::SecondaryPreferred).await?, 0);
//! # Ok(())
//! # }
//! ```

mod bell;
mod candidate;
mod claim;
mod clock;
mod command;
mod error;
mod event;
mod event_ear;
mod filter;
mod frontier;
mod insert;
mod inspection;
mod job_set;
mod joint;
mod limit;
mod place;
mod query;
mod ready;
mod schema;
mod server;
mod settle;
mod steer;
mod store;
mod tail;
mod transaction;
mod update;

pub use store::MongoStore;
pub use transaction::CreateJobIn;
