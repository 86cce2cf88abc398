//! [`LimitStore`] on MongoDB: one small document for each limit of which something must be known,
//! replaced as a whole if its version still stands.

use async_trait::async_trait;
use bson::{Bson, Document, doc, oid::ObjectId};
use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::{
    Collection,
    options::{CollectionOptions, Hint, ReadConcern},
};
use rocketjob_core::{JobStore, LimitStore, Result, State, StoredLimit, date, name, timestamp};

use crate::{
    error,
    query::limited,
    schema,
    store::{MongoStore, durable, primary},
};

#[async_trait]
impl LimitStore for MongoStore {
    async fn limit(&self, key: &str) -> Result<Option<StoredLimit>> {
        let found = self
            .limit_documents()
            .find_one(doc! { name::ID: key })
            .await;
        let found = found.map_err(|error| self.error(error))?;
        Ok(found.as_ref().map(StoredLimit::from_document))
    }

    async fn swap_limit(&self, previous: Option<ObjectId>, limit: &StoredLimit) -> Result<bool> {
        let limits = self.limit_documents();
        let document = limit.to_document();
        let Some(previous) = previous else {
            return match limits.insert_one(document).await {
                Ok(_) => Ok(true),
                Err(error) if error::is_duplicate(&error) => Ok(false),
                Err(error) => Err(self.error(error)),
            };
        };
        let stands = doc! { name::ID: &limit.key, "version": previous };
        let replaced = limits.replace_one(stands, document).await;
        let replaced = replaced.map_err(|error| self.error(error))?;
        Ok(replaced.matched_count > 0)
    }

    async fn due_limits(&self, limit: usize) -> Result<Vec<StoredLimit>> {
        let due = doc! { "next": { "$lte": date(self.now()) } };
        self.limits_where(due, limit).await
    }

    async fn any_running(&self, kind: &str) -> Result<bool> {
        let running = doc! { name::STATE: State::Running.as_str(), name::KIND: kind };
        let mut options = limited(1);
        options.hint = Some(Hint::Name(schema::TOKEN.into()));
        let found = self.read_fields(running, options, doc! { name::ID: 1 });
        Ok(!found.await?.is_empty())
    }
}

impl MongoStore {
    /// When the first limit falls due.
    pub(crate) async fn next_limit(&self) -> Result<Option<Timestamp>> {
        let limits = self.limit_documents();
        let first = limits
            .find_one(doc! { "next": { "$exists": true } })
            .sort(doc! { "next": 1 })
            .hint(Hint::Name(schema::LIMITS_DUE.into()))
            .projection(doc! { name::ID: 0, "next": 1 });
        let first = first.await.map_err(|error| self.error(error))?;
        Ok(first.and_then(|first| match first.get("next") {
            Some(Bson::DateTime(next)) => timestamp(*next),
            _ => None,
        }))
    }

    /// What is kept of the limits with these keys.
    pub(crate) async fn limits_of(&self, keys: &[&str]) -> Result<Vec<StoredLimit>> {
        match keys {
            [] => Ok(Vec::new()),
            keys => {
                self.limits_where(doc! { name::ID: { "$in": keys } }, 0)
                    .await
            }
        }
    }

    async fn limits_where(&self, condition: Document, limit: usize) -> Result<Vec<StoredLimit>> {
        let limits = self.limit_documents();
        let found = limits
            .find(condition)
            .sort(doc! { "next": 1 })
            .limit(i64::try_from(limit).unwrap_or(i64::MAX));
        let found = found.await.map_err(|error| self.error(error))?;
        let found: Vec<Document> = found
            .try_collect()
            .await
            .map_err(|error| self.error(error))?;
        Ok(found.iter().map(StoredLimit::from_document).collect())
    }

    fn limit_documents(&self) -> Collection<Document> {
        let options = CollectionOptions::builder()
            .selection_criteria(primary())
            .read_concern(ReadConcern::local())
            .write_concern(durable())
            .build();
        self.database()
            .collection_with_options(schema::LIMITS, options)
    }
}
