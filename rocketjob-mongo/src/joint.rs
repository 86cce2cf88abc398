//! One change, and the jobs that are there because of it, in one transaction.

use std::{result, time::Duration};

use bson::{Document, RawDocumentBuf};
use mongodb::{
    ClientSession, Collection,
    error::{Error as DriverError, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT},
    options::{ReadConcern, TransactionOptions},
};
use rocketjob_core::{Change, Insertion, JobDocument, Patch, Refusal, Result};

use crate::{
    error, filter,
    insert::encoded,
    schema,
    store::{MongoStore, durable, primary},
    update::operators,
};

/// How often it is tried while others write the same documents.
const TRIES: u32 = 12;
/// How often the server is asked whether it has committed.
const COMMITS: usize = 5;
/// For how long the first one lets others go ahead; each does so for longer.
const PAUSE: Duration = Duration::from_millis(2);

/// What became of one try.
enum Tried {
    Done,
    /// The guard did not hold.
    Refused,
    /// A unique key stands against the change.
    Held(DriverError),
    /// A unique key or an id stands against one of the jobs.
    Exists,
    /// Others write the same documents.
    Busy(DriverError),
    /// A standalone server.
    NoTransactions,
}

impl MongoStore {
    pub(crate) async fn update_and_insert_jobs(
        &self,
        patch: Patch,
        jobs: Vec<JobDocument>,
    ) -> Result<Result<Vec<Insertion>, Refusal>> {
        let condition = filter::guarded(patch.id, &patch.guard)?;
        let raw = encoded(&jobs)?;
        let mut insertions = vec![Insertion::Inserted; jobs.len()];
        let mut busy = None;
        for tried in 1..=TRIES {
            let open = insertions.iter().zip(&raw);
            let open = open.filter(|(insertion, _)| **insertion == Insertion::Inserted);
            let open: Vec<_> = open.map(|(_, raw)| raw).collect();
            if open.is_empty() {
                let updated = self.update_job(patch).await?;
                return Ok(updated.map(|_| insertions));
            }
            match self.try_jointly(&condition, &patch.change, open).await? {
                Tried::Done => return Ok(Ok(insertions)),
                Tried::Refused => return self.refusal(&patch).await.map(Err),
                Tried::Held(problem) => {
                    if let Some(holder) = self.holder_told(&problem).await? {
                        return Ok(Err(Refusal::Existing(holder)));
                    }
                }
                Tried::Exists => self.mark_existing(&jobs, &mut insertions).await?,
                Tried::Busy(problem) => {
                    busy = Some(problem);
                    tokio::time::sleep(PAUSE * tried).await;
                }
                Tried::NoTransactions => return self.insert_and_update(patch, jobs).await,
            }
        }
        Err(match busy {
            Some(problem) => self.error(problem),
            None => error::refused(
                error::DUPLICATE_KEY,
                "the holder of a unique key changes too fast to be told",
            ),
        })
    }

    async fn try_jointly(
        &self,
        condition: &Document,
        change: &Change,
        jobs: Vec<&RawDocumentBuf>,
    ) -> Result<Tried> {
        let tried = self
            .transact(condition, change, jobs)
            .await
            .or_else(|problem| {
                if error::is_without_transactions(&problem) {
                    Ok(Tried::NoTransactions)
                } else if problem.contains_label(TRANSIENT_TRANSACTION_ERROR) {
                    Ok(Tried::Busy(problem))
                } else {
                    Err(problem)
                }
            });
        tried.map_err(|problem| self.error(problem))
    }

    async fn transact(
        &self,
        condition: &Document,
        change: &Change,
        jobs: Vec<&RawDocumentBuf>,
    ) -> result::Result<Tried, DriverError> {
        let mut session = self.client().start_session().await?;
        let options = TransactionOptions::builder()
            .read_concern(ReadConcern::local())
            .write_concern(durable())
            .selection_criteria(primary())
            .build();
        session.start_transaction().with_options(options).await?;
        let written = self.write_in(&mut session, condition, change, jobs).await;
        if matches!(written, Ok(Tried::Done)) {
            commit(&mut session).await?;
        } else if let Err(error) = session.abort_transaction().await {
            // The server ends it by itself.
            tracing::debug!(%error, "a transaction was not ended");
        }
        written
    }

    async fn write_in(
        &self,
        session: &mut ClientSession,
        condition: &Document,
        change: &Change,
        jobs: Vec<&RawDocumentBuf>,
    ) -> result::Result<Tried, DriverError> {
        // Without the durability of its own that other writes have: the transaction has it.
        let collection: Collection<RawDocumentBuf> = self.database().collection(schema::JOBS);
        let condition = condition.clone();
        let changed = if change.delete {
            let deletion = collection.find_one_and_delete(condition);
            deletion.session(&mut *session).await
        } else if change.is_empty() {
            collection.find_one(condition).session(&mut *session).await
        } else {
            let update = collection.find_one_and_update(condition, operators(change));
            update.session(&mut *session).await
        };
        match changed {
            Ok(None) => return Ok(Tried::Refused),
            Err(problem) if error::is_duplicate(&problem) => return Ok(Tried::Held(problem)),
            Ok(Some(_)) => {}
            Err(problem) => return Err(problem),
        }
        match collection.insert_many(jobs).session(session).await {
            Err(problem) if error::is_duplicate(&problem) => Ok(Tried::Exists),
            inserted => inserted.map(|_| Tried::Done),
        }
    }

    /// Marks those of `jobs` that are there already, or whose key is in use.
    async fn mark_existing(
        &self,
        jobs: &[JobDocument],
        insertions: &mut [Insertion],
    ) -> Result<()> {
        let rivals = self.rivals(jobs.iter()).await?;
        for (job, insertion) in jobs.iter().zip(insertions) {
            if *insertion == Insertion::Inserted
                && let Some(rival) = rivals.of(job, None)
            {
                *insertion = Insertion::Existing(rival);
            }
        }
        Ok(())
    }

    /// In an order in which a crash loses nothing, where there are no transactions.
    async fn insert_and_update(
        &self,
        patch: Patch,
        jobs: Vec<JobDocument>,
    ) -> Result<Result<Vec<Insertion>, Refusal>> {
        let condition = filter::guarded(patch.id, &patch.guard)?;
        let holds = self.jobs().find_one(condition).await;
        if holds.map_err(|error| self.error(error))?.is_none() {
            return self.refusal(&patch).await.map(Err);
        }
        let insertions = self.insert_jobs(jobs).await?;
        Ok(self.update_job(patch).await?.map(|_| insertions))
    }
}

async fn commit(session: &mut ClientSession) -> result::Result<(), DriverError> {
    for _ in 1..COMMITS {
        match session.commit_transaction().await {
            Err(problem) if problem.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) => {}
            committed => return committed,
        }
    }
    session.commit_transaction().await
}
