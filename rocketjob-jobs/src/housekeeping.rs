//! Housekeeping: jobs that have ended go when nobody looks for them any more.

use std::{collections::BTreeMap, time::Duration};

use bson::{Bson, oid::ObjectId};
use jiff::{SignedDuration, Timestamp};
use rocketjob_core::{
    Cursor, Filter, JobContext, JobDocument, JobResult, Perform, Query, State, Store, date, name,
};
use rocketjob_derive::RocketJob;
use serde::{Deserialize, Serialize};
use validator::Validate;

/// How many jobs are read and deleted together. An interruption waits for no more.
const BATCH: usize = 500;

/// By how much the clocks may differ of those that made ids and those that wrote times.
const SKEW: SignedDuration = SignedDuration::from_hours(1);

const DAY: i64 = 24 * 60 * 60;

/// Deletes jobs that were completed, failed, aborted or paused long ago: once, or by a schedule that
/// it is given when it is created, such as [`SCHEDULE`](Self::SCHEDULE).
///
/// For each state it says how many seconds a job stays there before it is deleted; without a number
/// jobs stay. A queued job is deleted so long after its creation, all others after `completed_at`,
/// which has also when a job failed, was aborted or paused. A running job is never deleted.
///
/// It goes through the old jobs in batches, in the order of their ids, and looks at no job that was
/// created later than it deletes. It may be interrupted at any time: the next run goes on. How many
/// jobs it has deleted, by state, is in `deleted`.
#[derive(RocketJob, Serialize, Deserialize, Validate, Debug, Clone, PartialEq)]
#[rocketjob(crate = "rocketjob_core", unregistered)]
#[rocketjob(kind = "RocketJob::Jobs::HousekeepingJob", priority = 25)]
#[rocketjob(description = "Deletes jobs that ended long ago", cron)]
#[serde(default)]
pub struct HousekeepingJob {
    /// Seconds until an aborted job is deleted; a week unless set.
    #[field(user_editable, copy_on_restart)]
    #[validate(range(min = 0, message = "is a number of seconds, 0 or more"))]
    pub aborted_retention: Option<i64>,
    /// Seconds until a completed job is deleted; a week unless set.
    #[field(user_editable, copy_on_restart)]
    #[validate(range(min = 0, message = "is a number of seconds, 0 or more"))]
    pub completed_retention: Option<i64>,
    /// Seconds until a failed job is deleted; two weeks unless set.
    #[field(user_editable, copy_on_restart)]
    #[validate(range(min = 0, message = "is a number of seconds, 0 or more"))]
    pub failed_retention: Option<i64>,
    /// Seconds until a paused job is deleted; never unless set.
    #[field(user_editable, copy_on_restart)]
    #[validate(range(min = 0, message = "is a number of seconds, 0 or more"))]
    pub paused_retention: Option<i64>,
    /// Seconds until a queued job is deleted; never unless set.
    #[field(user_editable, copy_on_restart)]
    #[validate(range(min = 0, message = "is a number of seconds, 0 or more"))]
    pub queued_retention: Option<i64>,
    /// Read by servers of the original alone: ours end the claims of dead servers all the time.
    #[field(user_editable, copy_on_restart)]
    pub destroy_zombies: bool,
    /// How many jobs this run has deleted, by state.
    #[field(default)]
    pub deleted: BTreeMap<String, i64>,
}

impl Default for HousekeepingJob {
    /// The numbers of the original.
    fn default() -> Self {
        Self {
            aborted_retention: Some(7 * DAY),
            completed_retention: Some(7 * DAY),
            failed_retention: Some(14 * DAY),
            paused_retention: None,
            queued_retention: None,
            destroy_zombies: true,
            deleted: BTreeMap::new(),
        }
    }
}

impl HousekeepingJob {
    /// The schedule of the original: every quarter of an hour.
    pub const SCHEDULE: &'static str = "0,15,30,45 * * * * UTC";

    /// The states with their retentions.
    fn retentions(&self) -> [(State, Option<i64>); 5] {
        [
            (State::Aborted, self.aborted_retention),
            (State::Completed, self.completed_retention),
            (State::Failed, self.failed_retention),
            (State::Paused, self.paused_retention),
            (State::Queued, self.queued_retention),
        ]
    }

    /// Deletes the jobs in `state` that are over since `seconds`.
    async fn clean(
        &mut self,
        job: &JobContext,
        store: &Store,
        state: State,
        seconds: i64,
    ) -> JobResult {
        let seconds = Duration::from_secs(seconds.unsigned_abs());
        // What is older than time itself does not exist.
        let Ok(before) = store.now().checked_sub(seconds) else {
            return Ok(());
        };
        let over = over(state, before);
        let mut query = Query {
            limit: BATCH,
            ..Query::new(over.clone())
        };
        loop {
            job.check()?;
            let old = store.find(&query).await?;
            let Some(last) = old.last().map(JobDocument::id) else {
                return Ok(());
            };
            let ids = Filter::ids(old.iter().map(JobDocument::id));
            let deleted = store.delete(&ids.and(over.clone())).await?;
            let count = self.deleted.entry(state.to_string()).or_default();
            *count = count.saturating_add_unsigned(deleted);
            job.save(self).await?;
            if old.len() < BATCH {
                return Ok(());
            }
            query.after = Some(Cursor {
                value: last.into(),
                id: last,
            });
        }
    }
}

impl Perform for HousekeepingJob {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        let store = job
            .store()
            .ok_or("there is no store to clean: enqueue the job in place of `perform_now`")?
            .clone();
        self.deleted.clear();
        for (state, retention) in self.retentions() {
            if let Some(seconds) = retention {
                self.clean(job, &store, state, seconds).await?;
            }
        }
        tracing::info!(deleted = ?self.deleted, "housekeeping is done");
        Ok(())
    }
}

/// The jobs in `state` that came into it before this time (queued ones: that were created).
///
/// Whatever ended before a time was created before it: so much of the index on the state and the id
/// need not be looked at.
fn over(state: State, before: Timestamp) -> Filter {
    let since = match state {
        State::Queued => name::CREATED_AT,
        _ => name::COMPLETED_AT,
    };
    let mut all = vec![Filter::state(state), Filter::lt(since, date(before))];
    all.extend(first_id(before).map(|id| Filter::lt(name::ID, Bson::ObjectId(id))));
    Filter::And(all)
}

/// An id behind those of all jobs that were created before this time; `None` where ids cannot tell.
fn first_id(before: Timestamp) -> Option<ObjectId> {
    let seconds = before.checked_add(SKEW).ok()?.as_second();
    let seconds = u32::try_from(seconds).ok()?;
    Some(ObjectId::from_parts(seconds, [0; 5], [0; 3]))
}

#[cfg(test)]
mod tests {
    use rocketjob_core::{CreateJob, Job};

    use super::*;

    #[test]
    fn it_is_the_kind_of_the_original() {
        let definition = HousekeepingJob::DEFINITION;
        assert_eq!(definition.kind, "RocketJob::Jobs::HousekeepingJob");
        assert_eq!(definition.priority, 25);
        let job = HousekeepingJob::default();
        let week = Some(604_800);
        assert_eq!(
            (job.aborted_retention, job.completed_retention),
            (week, week)
        );
        assert_eq!(job.failed_retention, Some(1_209_600));
        assert_eq!((job.paused_retention, job.queued_retention), (None, None));
    }

    #[test]
    fn without_a_store_it_says_what_is_missing() {
        let performed = pollster::block_on(HousekeepingJob::default().perform_now());
        let error = performed.unwrap_err().to_string();
        assert!(error.contains("there is no store to clean"), "{error}");
    }
}
