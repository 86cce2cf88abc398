//! Finding what may be claimed next.

use bson::{Bson, Document, RawDocument, doc, oid::ObjectId};
use futures_util::future::try_join_all;
use jiff::Timestamp;
use mongodb::options::Hint;
use rocketjob_core::{
    ClaimRequest, Error, Filter, JobDocument, Result, SetAside, State, date, id_text, name,
};

use crate::{
    filter,
    query::{self, limited},
    schema,
    store::MongoStore,
};

/// The planner merges the sorted scans of up to this many kinds; of one more it sorts them all.
const KINDS: usize = 200;
/// What `sub_state` says of a batch that workers may join.
const PROCESSING: &str = "processing";

/// A document that may be claimed.
pub(crate) enum Candidate {
    Job(JobDocument),
    Batch(JobDocument),
    Undecodable { id: Option<Bson>, aside: SetAside },
}

impl Candidate {
    fn new(raw: &RawDocument) -> Self {
        match query::decode(raw) {
            Ok(job) if job.state() == State::Running => Self::Batch(job),
            Ok(job) => Self::Job(job),
            Err(problem) => {
                let id = query::raw_id(raw);
                let text = id.as_ref().map(id_text).unwrap_or_default();
                let reason = match problem {
                    Error::Undecodable { reason, .. } => reason,
                    other => other.to_string(),
                };
                let aside = SetAside { id: text, reason };
                Self::Undecodable { id, aside }
            }
        }
    }

    /// The order of claims; what cannot be read comes first, to be out of the way.
    fn place(&self) -> Option<(i64, ObjectId)> {
        match self {
            Self::Job(job) | Self::Batch(job) => Some((job.priority(), job.id())),
            Self::Undecodable { .. } => None,
        }
    }
}

/// The condition that a document may be handed out, if as a queued job it meets `queued` as well.
pub(crate) fn claimable(mut queued: Document) -> Document {
    queued.insert(name::STATE, State::Queued.as_str());
    doc! {
        name::READY: true,
        name::STATE: { "$gte": State::Queued.as_str() },
        // A running job that is no batch was claimed by the original, which leaves `ready`.
        "$or": [
            queued,
            { name::STATE: State::Running.as_str(), name::SUB_STATE: PROCESSING },
        ],
    }
}

/// What a claim looks for.
pub(crate) struct Search<'s> {
    store: &'s MongoStore,
    kinds: Vec<&'s str>,
    filter: Option<&'s Filter>,
    now: Timestamp,
}

impl<'s> Search<'s> {
    pub(crate) fn new(store: &'s MongoStore, request: &ClaimRequest<'s>, now: Timestamp) -> Self {
        let mut kinds: Vec<_> = request.kinds.iter().map(String::as_str).collect();
        kinds.sort_unstable();
        kinds.dedup();
        Self {
            store,
            kinds,
            filter: request.filter,
            now,
        }
    }

    /// Up to `limit` documents in the order of claims, behind the first `skip`.
    pub(crate) async fn next(&self, skip: usize, limit: usize) -> Result<Vec<Candidate>> {
        if self.kinds.len() <= KINDS {
            return self.find(&self.kinds, skip, limit).await;
        }
        let lists = self.kinds.chunks(KINDS);
        let lists = lists.map(|kinds| self.find(kinds, 0, skip.saturating_add(limit)));
        let mut merged: Vec<_> = try_join_all(lists).await?.into_iter().flatten().collect();
        merged.sort_by_key(Candidate::place);
        Ok(merged.into_iter().skip(skip).take(limit).collect())
    }

    async fn find(&self, kinds: &[&str], skip: usize, limit: usize) -> Result<Vec<Candidate>> {
        if kinds.is_empty() {
            return Ok(Vec::new());
        }
        let due = doc! { name::RUN_AT: schema::due(date(self.now)) };
        let mut condition = claimable(due);
        condition.insert(name::KIND, doc! { "$in": kinds });
        let condition = self.narrowed(condition)?;
        let mut options = limited(limit);
        options.sort = Some(doc! { name::PRIORITY: 1, name::ID: 1 });
        options.skip = Some(skip as u64);
        options.hint = Some(Hint::Name(schema::CLAIM.into()));
        let found = self.store.read(condition, options).await?;
        Ok(found.iter().map(|raw| Candidate::new(raw)).collect())
    }

    /// The condition on which `ids` may still be claimed.
    pub(crate) fn still(&self, ids: impl Into<Bson>) -> Result<Document> {
        self.narrowed(doc! {
            name::ID: ids,
            name::STATE: State::Queued.as_str(),
            name::READY: true,
            name::RUN_AT: schema::due(date(self.now)),
        })
    }

    fn narrowed(&self, mut condition: Document) -> Result<Document> {
        if let Some(filter) = self.filter {
            condition.insert("$and", vec![filter::query(filter)?]);
        }
        Ok(condition)
    }
}
