//! One change, and the jobs that are there because of it.
//!
//! Not in a transaction: one whose process is killed or stopped between two of its steps holds its
//! documents for a minute, and all who write them wait. So the jobs are added first, and only as long
//! as the look at the guard is not old: the server itself refuses them later, by its own clock, so that
//! a process that is stopped in between adds nothing when it goes on.

use std::time::Duration;

use bson::{Bson, Document, RawDocumentBuf, doc};
use jiff::Timestamp;
use rocketjob_core::{
    Insertion, JobDocument, JobStore as _, Patch, Refusal, Result, date, later, name,
};

use crate::{error, filter, insert::encoded, store::MongoStore};

/// How long after the look at the guard the jobs are added at the latest.
const AT_ONCE: Duration = Duration::from_millis(100);
/// How often that is tried; a server that is always slower is not waited for.
const TRIES: usize = 10;

impl MongoStore {
    pub(crate) async fn update_and_insert_jobs(
        &self,
        patch: Patch,
        jobs: Vec<JobDocument>,
    ) -> Result<Result<Vec<Insertion>, Refusal>> {
        let condition = filter::guarded(patch.id, &patch.guard)?;
        let mut insertions = None;
        for _ in 1..TRIES {
            let until = later(self.now(), AT_ONCE);
            if !self.holds(&condition).await? {
                return self.refusal(&patch).await.map(Err);
            }
            insertions = self.insert_until(&jobs, until).await?;
            if insertions.is_some() {
                break;
            }
        }
        let insertions = match insertions {
            Some(insertions) => insertions,
            None if self.holds(&condition).await? => self.insert_jobs(jobs).await?,
            None => return self.refusal(&patch).await.map(Err),
        };
        Ok(self.update_job(patch).await?.map(|_| insertions))
    }

    async fn holds(&self, condition: &Document) -> Result<bool> {
        let found = self.jobs().find_one(condition.clone()).await;
        Ok(found.map_err(|error| self.error(error))?.is_some())
    }

    /// Adds `jobs` unless the server's clock is beyond `until`; then the rest of them is not.
    async fn insert_until(
        &self,
        jobs: &[JobDocument],
        until: Timestamp,
    ) -> Result<Option<Vec<Insertion>>> {
        let mut insertions = Vec::with_capacity(jobs.len());
        for (job, raw) in jobs.iter().zip(encoded(jobs)?) {
            let written = self
                .jobs()
                .update_one(doc! { name::ID: job.id() }, new_until(&raw, until)?)
                .upsert(true)
                .await;
            insertions.push(match written {
                Ok(written) if written.upserted_id.is_some() => Insertion::Inserted,
                Ok(_) => Insertion::Existing(job.id()),
                Err(problem) if error::is_too_late(&problem) => return Ok(None),
                Err(problem) if error::is_duplicate(&problem) => {
                    match self.rivals([job].into_iter()).await?.of(job, None) {
                        Some(rival) => Insertion::Existing(rival),
                        // It is gone meanwhile.
                        None => return Ok(None),
                    }
                }
                Err(problem) => return Err(self.error(problem)),
            });
        }
        Ok(Some(insertions))
    }
}

/// What makes a new document of nothing, and leaves one that is there as it is; beyond `until` it is
/// an error.
fn new_until(raw: &RawDocumentBuf, until: Timestamp) -> Result<Vec<Document>> {
    let document = Document::try_from(raw.as_ref()).map_err(error::unusable)?;
    // It must not be known to be an error before it is evaluated.
    let too_late = doc! { "$toInt": { "$concat": ["too late for ", { "$toString": "$_id" }] } };
    let is_new = doc! { "$eq": [{ "$type": format!("${}", name::STATE) }, "missing"] };
    let is_late = doc! { "$gt": ["$$NOW", date(until)] };
    let new = doc! { "$cond": [is_late, too_late, { "$literal": Bson::Document(document) }] };
    Ok(vec![
        doc! { "$replaceWith": { "$cond": [is_new, new, "$$ROOT"] } },
    ])
}

#[cfg(test)]
mod tests {
    use rocketjob_core::{JobStore as _, Store};
    use rocketjob_testing::{job, mongod::database};

    use super::*;

    #[tokio::test]
    async fn the_server_adds_nothing_that_comes_too_late() {
        let database = database("joint::too_late").await;
        let store = MongoStore::connect(database.url()).await.unwrap();
        let job = job("A").build(&Store::new(store.clone()));
        let jobs = [job.clone()];
        let second = Duration::from_secs(1);
        let past = store.now().checked_sub(second).unwrap();
        assert_eq!(store.insert_until(&jobs, past).await.unwrap(), None);
        assert_eq!(store.get(job.id()).await.unwrap(), None);

        let soon = later(store.now(), second);
        let added = store.insert_until(&jobs, soon).await.unwrap();
        assert_eq!(added, Some(vec![Insertion::Inserted]));
        assert_eq!(store.get(job.id()).await.unwrap(), Some(job));
        let added = store.insert_until(&jobs, soon).await.unwrap();
        assert_eq!(added, Some(vec![Insertion::Existing(jobs[0].id())]));
        let late = store.insert_until(&jobs, past).await.unwrap();
        assert_eq!(late, Some(vec![Insertion::Existing(jobs[0].id())]));
    }
}
