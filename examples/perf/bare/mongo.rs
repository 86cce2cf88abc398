//! Claim and settle in groups, with nothing but the driver: the roof for a system that keeps one
//! document per job on MongoDB.
//!
//! One claimer: the next jobs are found, all are taken with one update at w:1, and while the next are
//! claimed the former are settled with one command, by the majority. Everything is encoded once, and
//! of what is found only the ids are looked at. Hints make it no faster: the planner chooses the same
//! indexes without them.

use bson::{
    Document, RawArrayBuf, RawBson, RawDocumentBuf, doc,
    oid::ObjectId,
    raw::{CString, cstr},
    rawdoc,
};
use futures_util::TryStreamExt;
use mongodb::{Client, Collection, Database};
use rocketjob::whole_number;

use super::{Bare, WORKER, begin, end};
use crate::{Anything, place::JOBS, serve::Orders};

/// Works through the queue.
pub(crate) async fn run(bare: &Bare) -> Anything<()> {
    let client = Client::with_uri_str(&bare.store).await?;
    let database = client.default_database().ok_or("no database is named")?;
    let queue = Queue {
        jobs: database.collection(JOBS),
        database,
        server: ObjectId::new(),
        keep: bare.keep,
    };
    // Connects.
    queue.jobs.find(doc! {}).limit(1).await?;
    let mut orders = Orders::new();
    begin(&mut orders).await?;
    let mut settled = 0;
    let mut settling = None;
    for sequence in 1.. {
        let token = format!("{}:{sequence}", queue.server.to_hex());
        let claimed = queue.claim(&token, bare.group).await?;
        if let Some(task) = settling.take() {
            settled += finished(task).await?;
        }
        let Some(claimed) = claimed else { break };
        let queue = queue.clone();
        settling = Some(tokio::spawn(
            async move { queue.settle(&token, claimed).await },
        ));
    }
    end(orders, settled).await
}

async fn finished(task: tokio::task::JoinHandle<Anything<u64>>) -> Anything<u64> {
    task.await?
}

#[derive(Clone)]
struct Queue {
    database: Database,
    jobs: Collection<RawDocumentBuf>,
    server: ObjectId,
    keep: bool,
}

impl Queue {
    /// Takes the next jobs, if there are any.
    async fn claim(&self, token: &str, group: usize) -> Anything<Option<RawArrayBuf>> {
        let ready = doc! { "state": "queued", "ready": true, "_type": { "$in": ["PerfJob"] } };
        let mut batches = self
            .jobs
            .find(ready)
            .sort(doc! { "priority": 1, "_id": 1 })
            .limit(i64::try_from(group)?)
            // One more than the limit: the server closes the cursor by itself.
            .batch_size(u32::try_from(group)? + 1)
            .batch()
            .await?;
        let mut ids = RawArrayBuf::new();
        let mut count = 0;
        while let Some(batch) = batches.try_next().await? {
            for job in batch.doc_slices()? {
                let job = job?;
                let job = job.as_document().ok_or("a job is no document")?;
                ids.push(job.get_object_id("_id")?);
                count += 1;
            }
        }
        if count == 0 {
            return Ok(None);
        }
        let statement = rawdoc! {
            "q": { "_id": { "$in": ids.clone() }, "state": "queued", "ready": true },
            "u": {
                "$set": {
                    "state": "running",
                    "claim": token,
                    "worker_name": WORKER,
                    "started_at": bson::DateTime::now(),
                },
                "$unset": { "ready": "" },
            },
            "multi": true,
        };
        let claimed = self
            .send(("update", "updates"), statement, rawdoc! { "w": 1 })
            .await?;
        if claimed != count {
            return Err("the bare protocol is alone and yet lost a claim".into());
        }
        Ok(Some(ids))
    }

    /// Completes jobs, and says how many were its own.
    async fn settle(&self, token: &str, ids: RawArrayBuf) -> Anything<u64> {
        let ours = rawdoc! {
            "_id": { "$in": ids },
            "state": "running",
            "claim": token,
            "worker_name": WORKER,
        };
        let majority = rawdoc! { "w": "majority", "j": true };
        if !self.keep {
            let statement = rawdoc! { "q": ours, "limit": 0 };
            return self.send(("delete", "deletes"), statement, majority).await;
        }
        let set = rawdoc! {
            "state": "completed",
            "completed_at": bson::DateTime::now(),
            "worker_name": RawBson::Null,
            "percent_complete": 100,
        };
        let statement = rawdoc! { "q": ours, "u": { "$set": set }, "multi": true };
        self.send(("update", "updates"), statement, majority).await
    }

    /// Sends a command of one statement, and says how many documents it met.
    async fn send(
        &self,
        (verb, list): (&'static str, &'static str),
        statement: RawDocumentBuf,
        concern: RawDocumentBuf,
    ) -> Anything<u64> {
        let mut statements = RawArrayBuf::new();
        statements.push(statement);
        let mut command = RawDocumentBuf::new();
        command.append(CString::try_from(verb)?, JOBS);
        command.append(CString::try_from(list)?, statements);
        command.append(cstr!("writeConcern"), concern);
        let reply = self.database.run_raw_command(command).await?;
        met(&reply)
    }
}

fn met(reply: &Document) -> Anything<u64> {
    if reply.contains_key("writeErrors") || reply.contains_key("writeConcernError") {
        return Err(format!("refused: {reply}").into());
    }
    let met = reply.get("n").and_then(whole_number).unwrap_or(0);
    Ok(u64::try_from(met)?)
}
