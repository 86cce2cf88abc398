//! The classic loop: each worker takes one job with `findOneAndUpdate` and ends it with a write of
//! its own, on an index of state, priority and id.

use std::sync::Arc;

use bson::{Document, doc};
use futures_util::future::try_join_all;
use mongodb::{
    Client, Collection, IndexModel,
    options::{CollectionOptions, WriteConcern},
};

use super::{Bare, begin, end};
use crate::{Anything, serve::Orders};

/// The collection on which it works: without the indexes of the system, which it does not need.
pub(crate) const JOBS: &str = "classic.jobs";
const WORKERS: usize = 10;

/// The index that it needs.
pub(crate) fn index() -> IndexModel {
    let keys = doc! { "state": 1, "priority": 1, "_id": 1 };
    IndexModel::builder().keys(keys).build()
}

/// Works through the queue.
pub(crate) async fn run(bare: &Bare) -> Anything<()> {
    let client = Client::with_uri_str(&bare.store).await?;
    let database = client.default_database().ok_or("no database is named")?;
    let mut concern = WriteConcern::majority();
    concern.journal = Some(true);
    let options = CollectionOptions::builder().write_concern(concern).build();
    let jobs: Arc<Collection<Document>> = Arc::new(database.collection_with_options(JOBS, options));
    // Connects.
    jobs.find_one(doc! {}).await?;
    let mut orders = Orders::new();
    begin(&mut orders).await?;
    let workers = (1..=WORKERS).map(|worker| {
        let jobs = Arc::clone(&jobs);
        let keep = bare.keep;
        tokio::spawn(async move { work(&jobs, &format!("perf:1:{worker}"), keep).await })
    });
    let workers = try_join_all(workers).await?;
    let settled = workers.into_iter().sum::<Anything<u64>>()?;
    end(orders, settled).await
}

async fn work(jobs: &Collection<Document>, worker: &str, keep: bool) -> Anything<u64> {
    let mut settled = 0;
    loop {
        let start = doc! {
            "state": "running", "worker_name": worker, "started_at": bson::DateTime::now(),
        };
        let claimed = jobs
            .find_one_and_update(doc! { "state": "queued" }, doc! { "$set": start })
            .sort(doc! { "priority": 1, "_id": 1 })
            .await?;
        let Some(job) = claimed else {
            return Ok(settled);
        };
        let ours = doc! {
            "_id": job.get_object_id("_id")?, "state": "running", "worker_name": worker,
        };
        if keep {
            let set = doc! {
                "state": "completed",
                "completed_at": bson::DateTime::now(),
                "worker_name": null,
                "percent_complete": 100,
            };
            settled += jobs
                .update_one(ours, doc! { "$set": set })
                .await?
                .matched_count;
        } else {
            settled += jobs.delete_one(ours).await?.deleted_count;
        }
    }
}
