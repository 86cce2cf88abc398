//! Collections and indexes.
//!
//! Every index costs a write when a job is claimed and when it ends, so each is partial: a job
//! stands only in those that its present state needs. Filters use equality, `$exists: true` and
//! ranges alone, which all versions allow; a range of states is a set, since the names sort as
//! aborted < completed < failed < paused < queued < running. No two indexes have the same keys,
//! which versions before 5.0 refuse even when their filters differ.
//!
//! The original's full indexes on `{state, priority, _id}` and `{completed_at}` are not created on
//! purpose: they would cost two writes each for each job. Where Ruby servers work on the same
//! database, they create them.

use std::time::Duration;

use bson::{Bson, Document, doc};
use mongodb::{
    Collection, Database, IndexModel, error::Error as DriverError, options::IndexOptions,
};

use rocketjob_core::name;

use crate::error;

/// Jobs.
pub(crate) const JOBS: &str = "rocket_job.jobs";
/// Servers.
pub(crate) const SERVERS: &str = "rocket_job.servers";
/// What is kept of limits; ours alone.
pub(crate) const LIMITS: &str = "rocket_job.limits";
/// Events.
pub(crate) const EVENTS: &str = "rocket_job.events";

/// The size of the capped collection of events, in bytes; the original's.
pub(crate) const EVENTS_SIZE: u64 = 134_217_728;

/// The next jobs of each kind.
pub(crate) const CLAIM: &str = "rocketjob_claim";
/// Scheduled jobs by due time.
pub(crate) const DUE: &str = "rocketjob_due";
/// Held jobs by what they wait for.
pub(crate) const HELD: &str = "rocketjob_held";
/// Unique among queued and running jobs.
pub(crate) const UNIQUE: &str = "rocketjob_unique";
/// Unique among unfinished jobs.
pub(crate) const UNFINISHED: &str = "rocketjob_unfinished";
/// The places that running jobs take of limits; unique, which makes limits exact.
pub(crate) const SLOTS: &str = "rocketjob_slots";
/// The claims of a server: a range on the token.
pub(crate) const TOKEN: &str = "rocketjob_token";
/// Queued jobs without any mark, which the original wrote.
pub(crate) const ADOPTION: &str = "rocketjob_adoption";
/// Settled jobs whose successors are still to be created.
pub(crate) const SUCCESSORS: &str = "rocketjob_successors";
/// Lists of ended, failed and paused jobs.
pub(crate) const ENDED: &str = "rocketjob_ended";

/// The indexes on jobs.
pub(crate) fn indexes() -> Vec<IndexModel> {
    let unfinished = doc! { "unfinished_key": { "$exists": true }, "state": { "$gte": "failed" } };
    vec![
        partial(
            CLAIM,
            doc! { "_type": 1, "priority": 1, "_id": 1 },
            doc! { "ready": true, "state": { "$gte": "queued" } },
        ),
        // With the state, so that a job that the original aborted, which leaves `hold` standing,
        // is in nobody's way.
        partial(
            DUE,
            doc! { "run_at": 1, "_id": 1 },
            doc! { "hold": "scheduled", "state": "queued" },
        ),
        partial(
            HELD,
            doc! { "hold": 1, "priority": 1, "_id": 1 },
            doc! { "hold": { "$exists": true }, "state": "queued" },
        ),
        unique(
            UNIQUE,
            doc! { "unique_key": 1 },
            doc! { "unique_key": { "$exists": true }, "state": { "$gte": "queued" } },
        ),
        unique(UNFINISHED, doc! { "unfinished_key": 1 }, unfinished),
        unique(
            SLOTS,
            doc! { "slots": 1 },
            doc! { "state": "running", "slots": { "$exists": true } },
        ),
        partial(TOKEN, doc! { "claim": 1 }, doc! { "state": "running" }),
        partial(
            ADOPTION,
            doc! { "ready": 1, "_id": 1 },
            doc! { "state": "queued", "ready": null, "hold": null },
        ),
        partial(
            SUCCESSORS,
            doc! { "_type": 1, "_id": 1 },
            doc! { "successors": { "$exists": true } },
        ),
        partial(
            ENDED,
            doc! { "state": 1, "_id": 1 },
            doc! { "state": { "$lt": "queued" } },
        ),
    ]
}

/// The indexes on limits: those that fall due, and those of which nothing needs to be kept.
fn limit_indexes() -> Vec<IndexModel> {
    let mut expiring = partial(
        "rocketjob_limits_expire",
        doc! { "expires_at": 1 },
        doc! { "expires_at": { "$exists": true } },
    );
    if let Some(options) = &mut expiring.options {
        options.expire_after = Some(Duration::ZERO);
    }
    let next = doc! { "next": { "$exists": true } };
    vec![expiring, partial(LIMITS_DUE, doc! { "next": 1 }, next)]
}

/// Limits that fall due.
pub(crate) const LIMITS_DUE: &str = "rocketjob_limits_due";

/// The index on servers.
pub(crate) fn server_name() -> IndexModel {
    let options = IndexOptions::builder()
        .name("name_1".to_owned())
        .unique(true)
        .build();
    IndexModel::builder()
        .keys(doc! { "name": 1 })
        .options(options)
        .build()
}

fn partial(name: &str, keys: Document, filter: Document) -> IndexModel {
    let options = IndexOptions::builder()
        .name(name.to_owned())
        .partial_filter_expression(filter)
        .build();
    IndexModel::builder().keys(keys).options(options).build()
}

fn unique(name: &str, keys: Document, filter: Document) -> IndexModel {
    let mut index = partial(name, keys, filter);
    if let Some(options) = &mut index.options {
        options.unique = Some(true);
    }
    index
}

/// The unique key of whose index the server speaks.
pub(crate) fn key_in(message: &str) -> Option<&'static str> {
    let keys = [
        (UNIQUE, name::UNIQUE_KEY),
        (UNFINISHED, name::UNFINISHED_KEY),
    ];
    let named = |index: &str| message.contains(&format!("index: {index} "));
    keys.into_iter()
        .find_map(|(index, key)| named(index).then_some(key))
}

/// Creates what is missing; what is there stays as it is.
pub(crate) async fn create(database: &Database) -> Result<(), DriverError> {
    database
        .collection::<Document>(JOBS)
        .create_indexes(indexes())
        .await?;
    let limits: Collection<Document> = database.collection(LIMITS);
    limits.create_indexes(limit_indexes()).await?;
    let servers: Collection<Document> = database.collection(SERVERS);
    servers.create_index(server_name()).await?;
    create_events(database).await
}

/// Creates the collection of events, unless it is there, whatever it is.
pub(crate) async fn create_events(database: &Database) -> Result<(), DriverError> {
    let events = database
        .create_collection(EVENTS)
        .capped(true)
        .size(EVENTS_SIZE)
        .await;
    match events {
        Err(error) if error::is_existing_collection(&error) => Ok(()),
        other => other,
    }
}

/// How long a server is looked for when the URL does not say it.
pub(crate) const SELECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// The condition that a job's time has come, or that it has none. It holds also for a `run_at` of
/// a wrong type, which is to be found and set aside rather than to lie in the queue for good.
pub(crate) fn due(now: impl Into<Bson>) -> Document {
    doc! { "$not": { "$gt": now.into() } }
}
