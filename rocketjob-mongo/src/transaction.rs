//! Creating jobs inside a transaction of the caller.

use bson::{RawDocumentBuf, oid::ObjectId};
use mongodb::{ClientSession, Collection};
use rocketjob_core::{Error, Job, JobDocument, NewJob, Result, name};
use tracing::{Instrument as _, field};

use crate::{error, insert::encoded, schema, store::MongoStore};

impl MongoStore {
    /// Adds jobs within the transaction of `session`, which a client of this store began, and
    /// returns their ids: all of them are there when it commits, none when it aborts.
    ///
    /// No server is told: the jobs are found by the next poll, or by whatever else becomes ready.
    ///
    /// # Errors
    /// [`Error::Existing`] when a job with the same unique key is active. After any error the
    /// server has aborted the transaction; the source of [`Error::Storage`] is the driver's error,
    /// whose labels tell whether the whole transaction may be tried again.
    pub async fn insert_in(
        &self,
        session: &mut ClientSession,
        jobs: Vec<JobDocument>,
    ) -> Result<Vec<ObjectId>> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        // Without the durability of its own that other writes have: the transaction has it.
        let collection: Collection<RawDocumentBuf> = self.database().collection(schema::JOBS);
        let inserted = collection
            .insert_many(encoded(&jobs)?)
            .session(session)
            .await;
        match inserted {
            Ok(_) => Ok(jobs.iter().map(JobDocument::id).collect()),
            Err(problem) if error::is_duplicate(&problem) => Err(self.existing(&jobs).await?),
            Err(problem) => Err(self.error(problem)),
        }
    }

    /// Which job stands against one of `jobs`.
    async fn existing(&self, jobs: &[JobDocument]) -> Result<Error> {
        let rivals = self.rivals(jobs.iter()).await?;
        let refused = jobs
            .iter()
            .find_map(|job| Some((job, rivals.of(job, None)?)));
        Ok(match refused {
            Some((job, existing)) => Error::Existing {
                reason: reason(job),
                existing,
            },
            // Two of the jobs themselves, or the other one is gone meanwhile.
            None => error::refused(error::DUPLICATE_KEY, "two jobs have the same unique key"),
        })
    }
}

fn reason(job: &JobDocument) -> String {
    let reason = job
        .get(name::UNIQUE_REASON)
        .and_then(|reason| reason.as_str());
    reason
        .unwrap_or("another job holds its unique key")
        .to_owned()
}

/// Creates a job together with the caller's own writes.
///
/// ```no_run
/// # async fn example(order: bson::Document, mail: impl rocketjob_core::Job) -> Result<(), Box<dyn std::error::Error>> {
/// use rocketjob_core::CreateJob;
/// use rocketjob_mongo::{CreateJobIn, MongoStore};
///
/// let store = MongoStore::connect("mongodb://localhost:27017/shop").await?;
/// let mut session = store.client().start_session().await?;
/// session.start_transaction().await?;
/// let orders = store.database().collection("orders");
/// orders.insert_one(order).session(&mut session).await?;
/// mail.priority(5).create_in(&store, &mut session).await?;
/// session.commit_transaction().await?;
/// # Ok(())
/// # }
/// ```
#[expect(
    async_fn_in_trait,
    reason = "implemented for every job here, and nowhere else"
)]
pub trait CreateJobIn<T: Job>: Into<NewJob<T>> {
    /// Stores the job within the transaction of `session`, and returns its id; see
    /// [`MongoStore::insert_in`].
    ///
    /// # Errors
    /// As [`MongoStore::insert_in`], and [`Error::Invalid`] when a rule is broken.
    async fn create_in(self, store: &MongoStore, session: &mut ClientSession) -> Result<ObjectId> {
        let span = tracing::info_span!("enqueue", kind = T::DEFINITION.kind, id = field::Empty);
        let insert = async {
            let job = self.into().prepare(store)?;
            let id = job.id();
            span.record("id", field::display(id));
            store.insert_in(session, vec![job]).await?;
            Ok(id)
        };
        insert.instrument(span.clone()).await
    }
}

impl<T: Job, J: Into<NewJob<T>>> CreateJobIn<T> for J {}
