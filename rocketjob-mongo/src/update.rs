//! One guarded change, and the job after it.

use bson::{Document, RawDocumentBuf, doc, oid::ObjectId};
use mongodb::{error::Error as DriverError, options::ReturnDocument};
use rocketjob_core::{Change, Guard, JobDocument, Patch, Refusal, Result, State, integer, name};

use crate::{error, filter, query, store::MongoStore};

/// A unique key's holder may be gone when it is looked for, this often.
const TRIES: usize = 5;

impl MongoStore {
    pub(crate) async fn update_job(&self, patch: Patch) -> Result<Result<JobDocument, Refusal>> {
        let condition = filter::guarded(patch.id, &patch.guard)?;
        for _ in 0..TRIES {
            let written = if patch.change.delete {
                self.jobs().find_one_and_delete(condition.clone()).await
            } else if patch.change.is_empty() {
                self.jobs().find_one(condition.clone()).await
            } else {
                self.jobs()
                    .find_one_and_update(condition.clone(), operators(&patch.change))
                    .return_document(ReturnDocument::After)
                    .await
            };
            match written {
                Ok(Some(raw)) => return query::decode(&raw).map(Ok),
                Ok(None) => return self.refusal(&patch).await.map(Err),
                Err(problem) if error::is_duplicate(&problem) => {
                    if let Some(holder) = self.holder_told(&problem).await? {
                        return Ok(Err(Refusal::Existing(holder)));
                    }
                }
                Err(problem) => return Err(self.error(problem)),
            }
        }
        Err(error::refused(
            error::DUPLICATE_KEY,
            "the holder of a unique key changes too fast to be told",
        ))
    }

    /// Who holds the unique key that an error names, if he still does.
    async fn holder_told(&self, problem: &DriverError) -> Result<Option<ObjectId>> {
        match error::duplicate_key(problem) {
            Some(key) => self.holder(&key).await,
            None => Ok(None),
        }
    }

    /// Why the guard of `patch` did not hold.
    pub(crate) async fn refusal(&self, patch: &Patch) -> Result<Refusal> {
        let found = self.jobs().find_one(doc! { name::ID: patch.id }).await;
        Ok(match found.map_err(|error| self.error(error))? {
            None => Refusal::NotFound,
            Some(raw) => refusal(&patch.guard, &raw),
        })
    }
}

/// As [`Guard::refusal`], also for a document that is none to the driver.
fn refusal(guard: &Guard, raw: &RawDocumentBuf) -> Refusal {
    match Document::try_from(raw.as_ref()) {
        Ok(document) => guard.refusal(&document),
        Err(_) => Refusal::State(State::Failed),
    }
}

/// A change in MongoDB's words.
pub(crate) fn operators(change: &Change) -> Document {
    let mut operators = Document::new();
    if !change.set.is_empty() {
        operators.insert("$set", change.set.clone());
    }
    if !change.unset.is_empty() {
        let fields: Document = change
            .unset
            .iter()
            .map(|field| (field.clone(), "".into()))
            .collect();
        operators.insert("$unset", fields);
    }
    if !change.increment.is_empty() {
        let fields: Document = change
            .increment
            .iter()
            .map(|(field, by)| (field.clone(), integer(*by)))
            .collect();
        operators.insert("$inc", fields);
    }
    operators
}
