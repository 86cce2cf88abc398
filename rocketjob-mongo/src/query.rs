//! Reading jobs: one, lists, counts.

use std::collections::BTreeMap;

use bson::{Bson, Document, RawDocument, RawDocumentBuf, doc, oid::ObjectId};
use futures_util::TryStreamExt;
use mongodb::options::{FindOptions, Hint, ReadPreference, SelectionCriteria};
use rocketjob_core::{
    ClaimToken, Cursor, Error, Filter, JobDocument, Query, ReadFrom, Result, Sort, State, id_text,
    name, whole_number,
};

use crate::{error, filter, schema, store::MongoStore, store::primary};

impl MongoStore {
    pub(crate) async fn job(&self, id: ObjectId) -> Result<Option<JobDocument>> {
        let found = self.jobs().find_one(doc! { name::ID: id }).await;
        let found = found.map_err(|error| self.error(error))?;
        found.map(|raw| decode(&raw)).transpose()
    }

    pub(crate) async fn find_jobs(&self, query: &Query) -> Result<Vec<JobDocument>> {
        let mut found = Vec::new();
        let mut read = 0;
        // An undecodable document makes a page shorter, and the next ones fill it up.
        while found.len() < query.limit {
            let wanted = query.limit - found.len();
            let page = self.page(query, read, wanted).await?;
            read += page.len();
            let is_last = page.len() < wanted;
            found.extend(page.iter().filter_map(|raw| readable(raw)));
            if is_last {
                break;
            }
        }
        Ok(found)
    }

    async fn page(&self, query: &Query, skip: usize, limit: usize) -> Result<Vec<RawDocumentBuf>> {
        let mut condition = filter::query(&query.filter)?;
        if let Some(cursor) = &query.after {
            let behind = behind(query.sort, query.descending, cursor);
            condition = doc! { "$and": [condition, behind] };
        }
        let direction = if query.descending { -1 } else { 1 };
        let mut sort = doc! { query.sort.field(): direction };
        sort.insert(name::ID, direction);
        let mut options = limited(limit);
        options.sort = Some(sort);
        options.skip = Some(skip as u64);
        options.selection_criteria = Some(criteria(query.read_from));
        if names_successors(&query.filter) {
            options.hint = Some(Hint::Name(schema::SUCCESSORS.into()));
        }
        self.read(condition, options).await
    }

    /// All documents that a `find` gives.
    pub(crate) async fn read(
        &self,
        condition: Document,
        options: FindOptions,
    ) -> Result<Vec<RawDocumentBuf>> {
        let mut documents = Vec::new();
        let batches = self.jobs().find(condition).with_options(options).batch();
        let mut batches = batches.await.map_err(|error| self.error(error))?;
        while let Some(batch) = batches
            .try_next()
            .await
            .map_err(|error| self.error(error))?
        {
            let slices = batch.doc_slices().map_err(|error| self.error(error))?;
            for document in slices {
                if let Some(document) = document.map_err(error::unusable)?.as_document() {
                    documents.push(document.to_owned());
                }
            }
        }
        Ok(documents)
    }

    /// As [`read`](Self::read), with the few fields of `projection` alone, decoded.
    pub(crate) async fn read_fields(
        &self,
        condition: Document,
        mut options: FindOptions,
        projection: Document,
    ) -> Result<Vec<Document>> {
        options.projection = Some(projection);
        let found = self.read(condition, options).await?;
        let decoded = found.iter().map(Document::try_from);
        decoded
            .map(|document| document.map_err(error::unusable))
            .collect()
    }

    pub(crate) async fn claimed_by(
        &self,
        server: ObjectId,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<JobDocument>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let prefix = ClaimToken::prefix(server);
        let mut condition = doc! {
            name::STATE: State::Running.as_str(),
            name::CLAIM: { "$gte": &prefix, "$lt": behind_prefix(&prefix) },
        };
        if let Some(after) = after {
            condition.insert(name::ID, doc! { "$gt": after });
        }
        let mut options = limited(limit);
        options.sort = Some(doc! { name::ID: 1 });
        options.hint = Some(Hint::Name(schema::TOKEN.into()));
        let found = self.read(condition, options).await?;
        Ok(found.iter().filter_map(|raw| readable(raw)).collect())
    }

    pub(crate) async fn next_claimed(&self, after: &str) -> Result<Option<JobDocument>> {
        let behind = doc! { name::CLAIM: { "$gt": after }, name::STATE: State::Running.as_str() };
        let mut limit = 1;
        loop {
            let mut options = limited(limit);
            options.sort = Some(doc! { name::CLAIM: 1 });
            options.hint = Some(Hint::Name(schema::TOKEN.into()));
            let found = self.read(behind.clone(), options).await?;
            let job = found.iter().find_map(|raw| readable(raw));
            if job.is_some() || found.len() < limit {
                return Ok(job);
            }
            // However many cannot be read, they hide no claim behind them.
            limit *= 10;
        }
    }

    pub(crate) async fn count_jobs(&self, filter: &Filter, read_from: ReadFrom) -> Result<u64> {
        let condition = filter::query(filter)?;
        let count = self
            .jobs()
            .count_documents(condition)
            .selection_criteria(criteria(read_from))
            .await;
        count.map_err(|error| self.error(error))
    }

    pub(crate) async fn count_jobs_by_state(
        &self,
        filter: &Filter,
        read_from: ReadFrom,
    ) -> Result<BTreeMap<State, u64>> {
        let group = doc! { "$group": { "_id": "$state", "count": { "$sum": 1 } } };
        let pipeline = [doc! { "$match": filter::query(filter)? }, group];
        let groups = self
            .jobs()
            .aggregate(pipeline)
            .selection_criteria(criteria(read_from))
            .await;
        let groups: Vec<Document> = groups
            .map_err(|error| self.error(error))?
            .try_collect()
            .await
            .map_err(|error| self.error(error))?;
        let counts = groups.iter().filter_map(|group| {
            let state = State::from_name(group.get_str("_id").ok()?)?;
            let count = group.get("count").and_then(whole_number)?;
            Some((state, u64::try_from(count).ok()?))
        });
        Ok(counts.collect())
    }

    pub(crate) async fn delete_jobs(&self, filter: &Filter) -> Result<u64> {
        let at_rest = doc! { name::STATE: { "$ne": State::Running.as_str() } };
        let condition = doc! { "$and": [filter::query(filter)?, at_rest] };
        let deleted = self.jobs().delete_many(condition).await;
        deleted
            .map(|result| result.deleted_count)
            .map_err(|error| self.error(error))
    }
}

/// How many documents a batch has at most when all are asked for.
const MOST: usize = 100_000;

/// Options of a `find` for at most `limit` documents (0: all), in one batch where they fit.
pub(crate) fn limited(limit: usize) -> FindOptions {
    let mut options = FindOptions::default();
    options.limit = Some(i64::try_from(limit).unwrap_or(i64::MAX));
    // One more than the limit, so that the server closes the cursor by itself.
    let batch = if limit == 0 { MOST } else { limit.min(MOST) };
    options.batch_size = Some(
        u32::try_from(batch)
            .unwrap_or(u32::MAX - 1)
            .saturating_add(1),
    );
    options.selection_criteria = Some(primary());
    options
}

/// The first text behind all that begin with `prefix`, whose last character is an ASCII one.
pub(crate) fn behind_prefix(prefix: &str) -> String {
    let mut behind = prefix.to_owned();
    if let Some(last) = behind.pop() {
        behind.push(char::from_u32(u32::from(last) + 1).unwrap_or(char::MAX));
    }
    behind
}

/// The job in a stored document.
///
/// # Errors
/// [`Error::Undecodable`] when the bytes are no document, or the envelope does not fit.
pub(crate) fn decode(raw: &RawDocument) -> Result<JobDocument> {
    let document = Document::try_from(raw).map_err(|problem| Error::Undecodable {
        id: raw_id(raw).map(|id| id_text(&id)).unwrap_or_default(),
        kind: raw.get_str(name::KIND).unwrap_or_default().to_owned(),
        reason: problem.to_string(),
    })?;
    JobDocument::new(document)
}

/// The `_id` of a document of which other parts may be broken.
pub(crate) fn raw_id(raw: &RawDocument) -> Option<Bson> {
    let id = raw.get(name::ID).ok().flatten()?;
    Bson::try_from(id).ok()
}

pub(crate) fn readable(raw: &RawDocument) -> Option<JobDocument> {
    decode(raw)
        .inspect_err(|error| tracing::warn!(%error, "an undecodable document is left out"))
        .ok()
}

fn criteria(read_from: ReadFrom) -> SelectionCriteria {
    let options = None;
    SelectionCriteria::ReadPreference(match read_from {
        ReadFrom::SecondaryPreferred => ReadPreference::SecondaryPreferred { options },
        ReadFrom::Nearest => ReadPreference::Nearest { options },
        _ => ReadPreference::Primary,
    })
}

/// The condition for what follows on `cursor`. Absent and null come first.
fn behind(sort: Sort, descending: bool, cursor: &Cursor) -> Document {
    let further = if descending { "$lt" } else { "$gt" };
    let id = doc! { further: cursor.id };
    let field = sort.field();
    if field == name::ID {
        return doc! { name::ID: id };
    }
    let tie = doc! { field: cursor.value.clone(), name::ID: id };
    let is_null = cursor.value == Bson::Null;
    match (is_null, descending) {
        (true, true) => tie,
        (true, false) => doc! { "$or": [tie, { field: { "$ne": null } }] },
        (false, true) => {
            doc! { "$or": [tie, { field: { further: cursor.value.clone() } }, { field: null }] }
        }
        (false, false) => doc! { "$or": [tie, { field: { further: cursor.value.clone() } }] },
    }
}

/// Whether only jobs with successors are asked for: there are few, and the planner does not see
/// that their index has them all.
fn names_successors(filter: &Filter) -> bool {
    match filter {
        Filter::Exists(path, true) => path == name::SUCCESSORS,
        Filter::And(filters) => filters.iter().any(names_successors),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_lies_behind_all_that_begin_with_it() {
        let end = behind_prefix("abc:");
        assert!("abc:999" < end.as_str() && end.as_str() < "abd");
    }

    #[test]
    fn successors_are_looked_for_in_their_index_only_when_all_must_have_them() {
        let exists = Filter::exists(name::SUCCESSORS);
        assert!(names_successors(&exists.clone().and(Filter::eq("a", 1))));
        assert!(!names_successors(&exists.or(Filter::eq("a", 1))));
        assert!(!names_successors(&Filter::missing(name::SUCCESSORS)));
    }
}
