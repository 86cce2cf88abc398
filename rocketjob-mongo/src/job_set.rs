//! Sets of jobs, counted by their indexes, and documents that cannot be read.

use std::ops::RangeInclusive;

use bson::{Document, RawDocumentBuf, doc};
use mongodb::options::Hint;
use rocketjob_core::{
    COUNTED, Error, JobDocument, JobSet, Result, SetAside, State, UNDECODABLE, id_text, name,
};

use crate::{
    query::{limited, raw_id, readable},
    schema,
    store::{MongoStore, primary},
};

/// How many unreadable documents may hide a job that is looked for.
const UNREADABLE: usize = 10;
/// How many of the first and of the last jobs are looked at.
const EDGE: usize = 1_000;

impl MongoStore {
    pub(crate) async fn count_jobs_in(&self, set: &JobSet, at_most: u64) -> Result<u64> {
        let mut count = 0;
        for (condition, index) in parts(set)? {
            if count < at_most {
                count += self.count_by(condition, index, at_most - count).await?;
            }
        }
        Ok(count)
    }

    async fn count_by(&self, condition: Document, index: &str, at_most: u64) -> Result<u64> {
        let counted = self
            .jobs()
            .count_documents(condition)
            .limit(at_most)
            .hint(Hint::Name(index.into()))
            .selection_criteria(primary())
            .await;
        counted.map_err(|error| self.error(error))
    }

    pub(crate) async fn first_ready_jobs(
        &self,
        kind: &str,
        priorities: &RangeInclusive<i64>,
        at_most: usize,
    ) -> Result<Vec<JobDocument>> {
        let (first, last) = (*priorities.start(), *priorities.end());
        let mut condition = ready();
        condition.insert(name::KIND, kind);
        condition.insert(name::PRIORITY, doc! { "$gte": first, "$lte": last });
        let mut options = limited(at_most.max(UNREADABLE));
        options.sort = Some(doc! { name::KIND: 1, name::PRIORITY: 1, name::ID: 1 });
        options.hint = Some(Hint::Name(schema::CLAIM.into()));
        let found = self.read(condition, options).await?;
        let readable = found.iter().filter_map(|raw| readable(raw));
        Ok(readable.take(at_most).collect())
    }

    pub(crate) async fn undecodable_jobs(&self, at_most: usize) -> Result<Vec<SetAside>> {
        let failed = self.last_failed_undecodable(at_most).await?;
        let mut found = Vec::new();
        for raw in failed
            .iter()
            .chain(&self.edge(1).await?)
            .chain(&self.edge(-1).await?)
        {
            if let Some(aside) = aside(raw)
                && found.len() < at_most
                && !found.contains(&aside)
            {
                found.push(aside);
            }
        }
        Ok(found)
    }

    /// Of the jobs that were created last among the failed ones, those that could not be read.
    async fn last_failed_undecodable(&self, at_most: usize) -> Result<Vec<RawDocumentBuf>> {
        use futures_util::TryStreamExt as _;

        let class = format!("{}.class_name", name::EXCEPTION);
        let pipeline = [
            doc! { "$match": { name::STATE: State::Failed.as_str() } },
            doc! { "$sort": { name::STATE: 1, name::ID: -1 } },
            doc! { "$limit": i64::try_from(COUNTED).unwrap_or(i64::MAX) },
            doc! { "$match": { class: UNDECODABLE } },
            doc! { "$limit": i64::try_from(at_most.max(1)).unwrap_or(i64::MAX) },
        ];
        let found = self
            .jobs()
            .aggregate(pipeline)
            .with_type::<RawDocumentBuf>()
            .await;
        let found = found.map_err(|error| self.error(error))?;
        found.try_collect().await.map_err(|error| self.error(error))
    }

    /// The envelopes of the first jobs in this direction.
    async fn edge(&self, direction: i32) -> Result<Vec<RawDocumentBuf>> {
        let mut options = limited(EDGE);
        options.sort = Some(doc! { name::ID: direction });
        let fields = name::ENVELOPE.iter().map(|field| (*field, 1));
        options.projection = Some(
            fields
                .map(|(field, one)| (field.to_owned(), one.into()))
                .collect(),
        );
        self.read(doc! {}, options).await
    }
}

/// Each part of `set` with the index that holds it.
fn parts(set: &JobSet) -> Result<Vec<(Document, &'static str)>> {
    Ok(match set {
        JobSet::Ready {
            kinds,
            priorities,
            before,
        } => {
            let (first, last) = (*priorities.start(), *priorities.end());
            let of = |condition: Document| {
                let mut all = ready();
                all.insert(name::KIND, doc! { "$in": kinds });
                all.extend(condition);
                (all, schema::CLAIM)
            };
            match before {
                None => vec![of(doc! { name::PRIORITY: { "$gte": first, "$lte": last } })],
                // Apart, so that each is a range of the index.
                Some(before) => vec![
                    of(doc! { name::PRIORITY: { "$gte": first, "$lt": last } }),
                    of(doc! { name::PRIORITY: last, name::ID: { "$lt": before } }),
                ],
            }
        }
        JobSet::Held(hold) => vec![(
            doc! { name::HOLD: hold, name::STATE: State::Queued.as_str() },
            schema::HELD,
        )],
        JobSet::State(State::Queued) => vec![
            (ready(), schema::CLAIM),
            (
                doc! { name::HOLD: { "$exists": true }, name::STATE: State::Queued.as_str(), name::READY: { "$ne": true } },
                schema::HELD,
            ),
            (
                doc! { name::STATE: State::Queued.as_str(), name::READY: null, name::HOLD: null },
                schema::ADOPTION,
            ),
        ],
        JobSet::State(State::Running) => {
            vec![(doc! { name::STATE: State::Running.as_str() }, schema::TOKEN)]
        }
        JobSet::State(state) => vec![(doc! { name::STATE: state.as_str() }, schema::ENDED)],
        other => {
            return Err(Error::configuration(format!(
                "this version of the store cannot count {other:?}"
            )));
        }
    })
}

fn ready() -> Document {
    doc! { name::READY: true, name::STATE: State::Queued.as_str() }
}

/// What is wrong with a stored document.
fn aside(raw: &RawDocumentBuf) -> Option<SetAside> {
    match Document::try_from(&**raw) {
        Ok(document) => SetAside::of(&document),
        Err(problem) => {
            let id = raw_id(raw).as_ref().map(id_text).unwrap_or_default();
            Some(SetAside::undecodable(id, problem.to_string()))
        }
    }
}
