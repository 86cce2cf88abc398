//! Making held jobs ready: those whose time has come, and those that wait for something else.

use bson::{Bson, Document, doc};
use futures_util::future::try_join;
use jiff::Timestamp;
use mongodb::options::{FindOptions, Hint};
use rocketjob_core::{JobDocument, JobStore, News, Result, State, date, name, timestamp};

use crate::{
    candidate::claimable,
    query::{limited, readable},
    schema,
    store::MongoStore,
};

/// How many unreadable documents may hide a job that is looked for.
const UNREADABLE: usize = 10;
/// Others may release the same jobs at the same time; more are looked for this often.
const TRIES: usize = 5;

impl MongoStore {
    pub(crate) async fn promote_jobs(&self, limit: usize) -> Result<u64> {
        let now = date(self.now());
        let scheduled = doc! {
            name::HOLD: name::HOLD_SCHEDULED,
            name::STATE: State::Queued.as_str(),
            name::RUN_AT: schema::due(now.clone()),
        };
        let unmarked = doc! {
            name::STATE: State::Queued.as_str(),
            name::READY: null,
            name::HOLD: null,
        };
        let mut touched = self
            .touch(
                &scheduled,
                limit,
                schema::DUE,
                doc! { name::RUN_AT: 1, name::ID: 1 },
                &make_ready(),
            )
            .await?;
        let mut ready = touched;
        let room = limit.saturating_sub(usize::try_from(touched).unwrap_or(usize::MAX));
        if room > 0 {
            let ids = self
                .ids(&unmarked, room, schema::ADOPTION, doc! { name::ID: 1 })
                .await?;
            if !ids.is_empty() {
                let mut due = unmarked.clone();
                due.insert(name::RUN_AT, schema::due(now.clone()));
                let mut later = unmarked;
                later.insert(name::RUN_AT, doc! { "$gt": now });
                let hold = doc! { "$set": { name::HOLD: name::HOLD_SCHEDULED } };
                let adopted = self.change_all(&ids, due, &make_ready()).await?;
                touched += adopted + self.change_all(&ids, later, &hold).await?;
                ready += adopted;
            }
        }
        if ready > 0 {
            self.ring(News::READY);
        }
        Ok(touched)
    }

    pub(crate) async fn release_jobs(&self, hold: &str, count: usize) -> Result<u64> {
        let waiting = doc! { name::HOLD: hold, name::STATE: State::Queued.as_str() };
        let mut released = 0;
        for _ in 0..TRIES {
            let wanted = count.saturating_sub(usize::try_from(released).unwrap_or(usize::MAX));
            if wanted == 0 {
                break;
            }
            let order = doc! { name::PRIORITY: 1, name::ID: 1 };
            let more = self
                .touch(&waiting, wanted, schema::HELD, order, &make_ready())
                .await?;
            released += more;
            // All that there were, unless others took some of them meanwhile.
            if more == 0 {
                break;
            }
        }
        if released > 0 {
            self.ring(News::READY);
        }
        Ok(released)
    }

    pub(crate) async fn next_held_job(&self, after: &str) -> Result<Option<JobDocument>> {
        let waiting = doc! { name::HOLD: { "$gt": after }, name::STATE: State::Queued.as_str() };
        let mut options = limited(UNREADABLE);
        options.sort = Some(doc! { name::HOLD: 1, name::PRIORITY: 1, name::ID: 1 });
        options.hint = Some(Hint::Name(schema::HELD.into()));
        let found = self.read(waiting, options).await?;
        Ok(found.iter().find_map(|raw| readable(raw)))
    }

    pub(crate) async fn next_ready_kind(&self, after: &str) -> Result<Option<String>> {
        let mut condition = claimable(Document::new());
        condition.insert(name::KIND, doc! { "$gt": after });
        let mut options = limited(1);
        options.sort = Some(doc! { name::KIND: 1, name::PRIORITY: 1, name::ID: 1 });
        options.hint = Some(Hint::Name(schema::CLAIM.into()));
        let fields = doc! { name::ID: 0, name::KIND: 1 };
        let mut found = self.read_fields(condition, options, fields).await?;
        let next = found.first_mut().and_then(|found| found.remove(name::KIND));
        Ok(match next {
            Some(Bson::String(kind)) => Some(kind),
            _ => None,
        })
    }

    /// When the next scheduled job of any kind or the next limit falls due: any server sees to it.
    pub(crate) async fn next_due_job(&self) -> Result<Option<Timestamp>> {
        let scheduled =
            doc! { name::HOLD: name::HOLD_SCHEDULED, name::STATE: State::Queued.as_str() };
        let mut options = limited(1);
        options.sort = Some(doc! { name::RUN_AT: 1, name::ID: 1 });
        options.hint = Some(Hint::Name(schema::DUE.into()));
        let fields = doc! { name::ID: 0, name::RUN_AT: 1 };
        let jobs = self.read_fields(scheduled, options, fields);
        let (next, limit) = try_join(jobs, self.next_limit()).await?;
        let job = next.first().map(|next| match next.get(name::RUN_AT) {
            Some(Bson::DateTime(run_at)) => timestamp(*run_at).unwrap_or(Timestamp::MAX),
            // An operator cleared it: now.
            _ => self.now(),
        });
        Ok(job.into_iter().chain(limit).min())
    }

    /// Makes `change` on the first documents that meet `condition`, as long as they still do.
    async fn touch(
        &self,
        condition: &Document,
        limit: usize,
        index: &str,
        order: Document,
        change: &Document,
    ) -> Result<u64> {
        let ids = self.ids(condition, limit, index, order).await?;
        if ids.is_empty() {
            return Ok(0);
        }
        self.change_all(&ids, condition.clone(), change).await
    }

    async fn ids(
        &self,
        condition: &Document,
        limit: usize,
        index: &str,
        order: Document,
    ) -> Result<Vec<Bson>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut options: FindOptions = limited(limit.min(MOST));
        options.sort = Some(order);
        options.hint = Some(Hint::Name(index.into()));
        let projection = doc! { name::ID: 1 };
        let found = self
            .read_fields(condition.clone(), options, projection)
            .await?;
        Ok(found
            .into_iter()
            .filter_map(|mut found| found.remove(name::ID))
            .collect())
    }

    async fn change_all(
        &self,
        ids: &[Bson],
        mut condition: Document,
        change: &Document,
    ) -> Result<u64> {
        condition.insert(name::ID, doc! { "$in": ids });
        let changed = self
            .jobs()
            .update_many(condition, change.clone())
            .hint(by_id())
            .await;
        changed
            .map(|result| result.matched_count)
            .map_err(|error| self.error(error))
    }
}

/// How many ids go into one command.
const MOST: usize = 100_000;

fn by_id() -> Hint {
    Hint::Keys(doc! { name::ID: 1 })
}

fn make_ready() -> Document {
    doc! { "$set": { name::READY: true }, "$unset": { name::HOLD: "" } }
}
