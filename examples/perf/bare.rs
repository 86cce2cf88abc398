//! The bare protocol: claim and settle in groups, with nothing but the driver. The roof for a
//! system that keeps one document per job.

use std::time::Instant;

use bson::{Document, doc, oid::ObjectId};
use futures_util::TryStreamExt;
use mongodb::{
    Client, Collection,
    options::{Acknowledgment, WriteConcern},
};

use crate::{Anything, system};

/// Jobs per second of one claimer, with one settling write in flight behind the next claim.
pub(crate) async fn measure(url: &str, jobs: usize, group: usize, keep: bool) -> Anything<f64> {
    // The same documents and the same indexes that the system has.
    system::enqueue(url, jobs, keep).await?;
    let client = Client::with_uri_str(url).await?;
    let database = client
        .default_database()
        .ok_or("the address names no database")?;
    let collection: Collection<Document> = database.collection("rocket_job.jobs");

    let began = Instant::now();
    let mut sequence = 0;
    let mut settling = None;
    let mut done = 0;
    loop {
        sequence += 1;
        let claimed = claim(&collection, sequence, group).await?;
        if let Some(task) = settling.take() {
            done += finished(task).await?;
        }
        if claimed.is_empty() {
            break;
        }
        let collection = collection.clone();
        settling = Some(tokio::spawn(async move {
            settle(&collection, sequence, claimed, keep).await
        }));
    }
    if done != u64::try_from(jobs)? {
        return Err(format!("the bare protocol settled {done} of {jobs} jobs").into());
    }
    Ok(system::rate(jobs, began.elapsed()))
}

async fn finished(task: tokio::task::JoinHandle<Anything<u64>>) -> Anything<u64> {
    task.await?
}

async fn claim(
    collection: &Collection<Document>,
    sequence: u64,
    group: usize,
) -> Anything<Vec<ObjectId>> {
    let ready = doc! { "state": "queued", "ready": true, "_type": { "$in": ["PerfJob"] } };
    let found = collection
        .find(ready)
        .sort(doc! { "priority": 1, "_id": 1 })
        .limit(i64::try_from(group)?);
    let found: Vec<Document> = found.await?.try_collect().await?;
    let ids: Vec<ObjectId> = found
        .iter()
        .filter_map(|job| job.get_object_id("_id").ok())
        .collect();
    if ids.is_empty() {
        return Ok(ids);
    }
    let set = doc! { "state": "running", "claim": format!("bare:{sequence}"), "worker_name": "bare:1:1", "started_at": bson::DateTime::now() };
    let update = collection.update_many(
        doc! { "_id": { "$in": &ids }, "state": "queued", "ready": true },
        doc! { "$set": set, "$unset": { "ready": "" } },
    );
    let written = update
        .write_concern(concern(Acknowledgment::Nodes(1)))
        .await?;
    if written.modified_count != u64::try_from(ids.len())? {
        return Err("the bare protocol is alone and yet lost a claim".into());
    }
    Ok(ids)
}

async fn settle(
    collection: &Collection<Document>,
    sequence: u64,
    ids: Vec<ObjectId>,
    keep: bool,
) -> Anything<u64> {
    let claimed = doc! { "_id": { "$in": ids }, "state": "running", "claim": format!("bare:{sequence}"), "worker_name": "bare:1:1" };
    if !keep {
        let deleted = collection
            .delete_many(claimed)
            .write_concern(concern(Acknowledgment::Majority))
            .await?;
        return Ok(deleted.deleted_count);
    }
    let set = doc! {
        "state": "completed", "completed_at": bson::DateTime::now(), "worker_name": null, "percent_complete": 100,
    };
    let update = collection.update_many(claimed, doc! { "$set": set });
    Ok(update
        .write_concern(concern(Acknowledgment::Majority))
        .await?
        .modified_count)
}

fn concern(acknowledgment: Acknowledgment) -> WriteConcern {
    WriteConcern::builder().w(acknowledgment).build()
}
