//! Finding what may be claimed next.

use std::time::Instant;

use bson::{Bson, Document, RawDocument, doc, oid::ObjectId};
use futures_util::future::try_join_all;
use jiff::Timestamp;
use mongodb::options::Hint;
use rocketjob_core::{
    ClaimRequest, Error, Filter, JobDocument, Result, SetAside, State, date, id_text, name,
};

use crate::{
    filter,
    frontier::{Place, Start},
    query::{self, limited},
    schema,
    store::MongoStore,
};

/// The planner merges the sorted scans of up to this many kinds; of one more it sorts them all.
const KINDS: usize = 200;
/// So many leaps from kind to kind are worth it, to know where to begin.
const LEAPS: usize = 50;
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
                let aside = SetAside::undecodable(text, reason);
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

/// Where the first is, if it is a job: batches stay where they are, and are to be found again.
fn first_place(found: &[Candidate]) -> Option<Place> {
    match found.first()? {
        Candidate::Job(job) => Place::of_job(job),
        _ => None,
    }
}

/// What a claim looks for.
pub(crate) struct Search<'s> {
    store: &'s MongoStore,
    kinds: Vec<&'s str>,
    filter: Option<&'s Filter>,
    may_lag: bool,
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
            may_lag: request.may_lag,
            now,
        }
    }

    /// Up to `limit` documents in the order of claims, behind the first `skip`.
    pub(crate) async fn next(&self, skip: usize, limit: usize) -> Result<Vec<Candidate>> {
        if self.kinds.len() > KINDS {
            return self.next_of_lists(skip, limit).await;
        }
        if !self.may_lag {
            return self.find(&self.kinds, None, skip, limit).await;
        }
        let frontiers = self.store.frontiers();
        let start = if let Some(start) = frontiers.of(&self.kinds, self.filter) {
            start
        } else {
            let began = Instant::now();
            let Some(start) = self.start().await? else {
                return self.find(&self.kinds, None, skip, limit).await;
            };
            frontiers.found(&self.kinds, self.filter, start.clone(), began.elapsed());
            start
        };
        let kinds: Vec<_> = start.kinds.iter().map(String::as_str).collect();
        let found = self.find(&kinds, Some(start.place), skip, limit).await?;
        if found.len() < limit {
            frontiers.lost(&self.kinds, self.filter);
            return self.find(&self.kinds, None, skip, limit).await;
        }
        if skip == 0
            && let Some(place) = first_place(&found)
        {
            frontiers.moved(&self.kinds, self.filter, start.place, place);
        }
        Ok(found)
    }

    /// The first place of all, and the kinds of which there are jobs, found by leaping from one
    /// kind to the next. `None` where there is nothing, or there are too many of them, or one has
    /// no place.
    async fn start(&self) -> Result<Option<Start>> {
        let mut start: Option<Start> = None;
        let mut wanted = self.kinds.as_slice();
        for _ in 0..LEAPS {
            let next = match wanted.first() {
                Some(first) => self.first_from(first).await?,
                None => None,
            };
            let Some((kind, place)) = next else {
                return Ok(start);
            };
            wanted = &wanted[wanted.partition_point(|wanted| *wanted < kind.as_str())..];
            if wanted.first().is_none_or(|wanted| *wanted != kind) {
                continue;
            }
            wanted = &wanted[1..];
            let Some(place) = place else { return Ok(None) };
            let start = start.get_or_insert_with(|| Start {
                place,
                kinds: Vec::new(),
            });
            start.place = start.place.min(place);
            start.kinds.push(kind);
        }
        Ok(None)
    }

    /// The first job of the first kind, from this one on, of which there are any.
    async fn first_from(&self, kind: &str) -> Result<Option<(String, Option<Place>)>> {
        let condition = doc! {
            name::READY: true,
            name::STATE: { "$gte": State::Queued.as_str() },
            name::KIND: { "$gte": kind },
        };
        let mut options = limited(1);
        options.sort = Some(doc! { name::KIND: 1, name::PRIORITY: 1, name::ID: 1 });
        options.hint = Some(Hint::Name(schema::CLAIM.into()));
        let fields = doc! { name::KIND: 1, name::PRIORITY: 1, name::ID: 1 };
        let found = self.store.read_fields(condition, options, fields).await?;
        let first = found.first().and_then(|found| {
            let kind = found.get_str(name::KIND).ok()?;
            Some((kind.to_owned(), Place::of(found)))
        });
        Ok(first)
    }

    async fn next_of_lists(&self, skip: usize, limit: usize) -> Result<Vec<Candidate>> {
        let lists = self.kinds.chunks(KINDS);
        let most = skip.saturating_add(limit);
        let lists = lists.map(|kinds| self.find(kinds, None, 0, most));
        let mut merged: Vec<_> = try_join_all(lists).await?.into_iter().flatten().collect();
        merged.sort_by_key(Candidate::place);
        Ok(merged.into_iter().skip(skip).take(limit).collect())
    }

    /// All, or those of one priority from a place on.
    async fn find(
        &self,
        kinds: &[&str],
        from: Option<Place>,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<Candidate>> {
        if kinds.is_empty() {
            return Ok(Vec::new());
        }
        // Of one priority the planner merges sorted scans only if it is left out of the order.
        let (place, order) = match from {
            Some(place) => (place.onwards(), doc! { name::ID: 1 }),
            None => (Document::new(), doc! { name::PRIORITY: 1, name::ID: 1 }),
        };
        let mut options = limited(limit);
        options.sort = Some(order);
        options.skip = Some(skip as u64);
        options.hint = Some(Hint::Name(schema::CLAIM.into()));
        let found = self.store.read(self.condition(kinds, place)?, options);
        Ok(found.await?.iter().map(|raw| Candidate::new(raw)).collect())
    }

    fn condition(&self, kinds: &[&str], place: Document) -> Result<Document> {
        let due = doc! { name::RUN_AT: schema::due(date(self.now)) };
        let mut condition = claimable(due);
        condition.insert(name::KIND, doc! { "$in": kinds });
        condition.extend(place);
        self.narrowed(condition)
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
