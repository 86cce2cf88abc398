//! Inserting jobs.

use std::collections::{HashMap, HashSet};

use bson::{Document, RawDocumentBuf, doc, oid::ObjectId};
use rocketjob_core::{Insertion, JobDocument, Result, State, name};

use crate::{error, query::limited, schema, store::MongoStore};

/// A key's holder may be gone when it is looked for; then the insert is tried again, this often.
const TRIES: usize = 5;

/// The unique keys, each with the first state in which it counts.
const KEYS: [(&str, State); 2] = [
    (name::UNIQUE_KEY, State::Queued),
    (name::UNFINISHED_KEY, State::Failed),
];

/// A document that was not inserted, with the key that stood against it as far as it was told.
type Refused = (usize, Option<&'static str>);

impl MongoStore {
    pub(crate) async fn insert_jobs(&self, jobs: Vec<JobDocument>) -> Result<Vec<Insertion>> {
        let mut insertions = vec![Insertion::Inserted; jobs.len()];
        let mut open: Vec<usize> = (0..jobs.len()).collect();
        let raw = encoded(&jobs)?;
        for _ in 0..TRIES {
            let refused = self
                .insert_raw(open.iter().filter_map(|at| raw.get(*at)))
                .await?;
            if refused.is_empty() {
                return Ok(insertions);
            }
            let refused: Vec<Refused> = refused
                .into_iter()
                .filter_map(|(at, key)| Some((*open.get(at)?, key)))
                .collect();
            let rivals = refused.iter().filter_map(|(at, _)| jobs.get(*at));
            let rivals = self.rivals(rivals).await?;
            open.clear();
            for (at, key) in refused {
                let rival = jobs.get(at).and_then(|job| rivals.of(job, key));
                match (rival, insertions.get_mut(at)) {
                    (Some(rival), Some(insertion)) => *insertion = Insertion::Existing(rival),
                    _ => open.push(at),
                }
            }
            if open.is_empty() {
                return Ok(insertions);
            }
        }
        Err(error::refused(
            error::DUPLICATE_KEY,
            "the holder of a unique key changes too fast to be told",
        ))
    }

    /// Inserts documents, and says which of them stand against a unique index.
    async fn insert_raw(
        &self,
        documents: impl Iterator<Item = &RawDocumentBuf>,
    ) -> Result<Vec<Refused>> {
        let documents: Vec<_> = documents.collect();
        if documents.is_empty() {
            return Ok(Vec::new());
        }
        match self.jobs().insert_many(documents).ordered(false).await {
            Ok(_) => Ok(Vec::new()),
            Err(problem) => match error::duplicates(&problem) {
                None => Err(self.error(problem)),
                Some(refused) => {
                    let refused = refused.into_iter();
                    Ok(refused
                        .map(|(at, text)| (at, schema::key_in(text)))
                        .collect())
                }
            },
        }
    }

    /// Who stands against these jobs.
    pub(crate) async fn rivals<'j>(
        &self,
        jobs: impl Iterator<Item = &'j JobDocument> + Clone,
    ) -> Result<Rivals> {
        let ids: Vec<_> = jobs.clone().map(JobDocument::id).collect();
        let mut rivals = Rivals::default();
        for found in self
            .fields(doc! { name::ID: { "$in": ids } }, name::ID)
            .await?
        {
            if let Ok(id) = found.get_object_id(name::ID) {
                rivals.ids.insert(id);
            }
        }
        for (field, first) in KEYS {
            let keys: Vec<_> = jobs
                .clone()
                .filter_map(|job| job.get(field).cloned())
                .collect();
            if keys.is_empty() {
                continue;
            }
            let holders = doc! { field: { "$in": keys }, name::STATE: { "$gte": first.as_str() } };
            for found in self.fields(holders, field).await? {
                if let (Ok(key), Ok(id)) = (found.get_str(field), found.get_object_id(name::ID)) {
                    rivals.keys.insert((field, key.to_owned()), id);
                }
            }
        }
        Ok(rivals)
    }

    async fn fields(&self, condition: Document, field: &str) -> Result<Vec<Document>> {
        self.read_fields(condition, limited(0), doc! { field: 1 })
            .await
    }

    /// Who holds the key or the place that `key`, from an answer of the server, names.
    pub(crate) async fn holder(&self, key: &Document) -> Result<Option<ObjectId>> {
        let unique = KEYS.into_iter().find_map(|(field, first)| {
            let value = key.get(field)?;
            Some(doc! { field: value, name::STATE: { "$gte": first.as_str() } })
        });
        let holder = unique.or_else(|| {
            let slot = key.get(name::SLOTS)?;
            Some(doc! { name::SLOTS: slot, name::STATE: State::Running.as_str() })
        });
        let Some(holder) = holder else {
            return Ok(None);
        };
        let found = self.fields(holder, name::ID).await?;
        Ok(found
            .first()
            .and_then(|found| found.get_object_id(name::ID).ok()))
    }
}

/// Jobs that stand against others: by their own id, or as holders of a unique key.
#[derive(Debug, Default)]
pub(crate) struct Rivals {
    ids: HashSet<ObjectId>,
    keys: HashMap<(&'static str, String), ObjectId>,
}

impl Rivals {
    /// Who stands against `job`; where several do, who holds `told`.
    pub(crate) fn of(&self, job: &JobDocument, told: Option<&'static str>) -> Option<ObjectId> {
        if self.ids.contains(&job.id()) {
            return Some(job.id());
        }
        let fields = told.into_iter().chain(KEYS.map(|(field, _)| field));
        fields.into_iter().find_map(|field| {
            let key = job.get(field)?.as_str()?;
            self.keys.get(&(field, key.to_owned())).copied()
        })
    }
}

/// The documents as they are sent.
pub(crate) fn encoded(jobs: &[JobDocument]) -> Result<Vec<RawDocumentBuf>> {
    let documents = jobs.iter().map(JobDocument::as_document);
    documents
        .map(|document| RawDocumentBuf::try_from(document).map_err(error::unusable))
        .collect()
}
