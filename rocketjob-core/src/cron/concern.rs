//! `#[cron]`: a job that is performed by a schedule.

use bson::{Bson, Document, doc};
use futures_util::{FutureExt, future::LocalBoxFuture};
use jiff::Timestamp;

use super::{
    Schedule,
    state::{CronState, FIELDS, SCHEDULE, SLOT},
};
use crate::{
    change::Change,
    clock::later,
    concern::{Concern, Next, UniqueKey, UniqueScope},
    conclusion::{Conclusion, Saving},
    context::JobContext,
    document::JobDocument,
    encoding::{date, timestamp},
    error::{Result, ValidationFailed},
    failure::{JobError, JobFailure, JobResult},
    field::FieldDefinition,
    name,
    settlement::{Outcome, Settlement},
    state::Transition,
};

/// What becomes of times at which no instance could begin before the next one was due: while no
/// server ran, or the schedule was paused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Misfire {
    /// They are left out; the next time is the next one to come.
    Skip,
    /// One instance stands for all of them, at once.
    #[default]
    RunOnce,
    /// Each has its instance, one after the other; of more than this many, the last ones.
    RunAll(u32),
}

/// `#[cron("0 2 * * *")]`: each instance is performed at a time of its schedule, and makes the next.
///
/// The next instance is a successor of the one before: it exists exactly once, whatever server dies,
/// and for another time of the schedule. It is made when an instance begins, so that a long or failing
/// one does not hold up the next, or with `after_start = false` when it has ended. It inherits the
/// fields that are marked `copy_on_restart`. The chain goes on after an abort, and ends when a
/// waiting instance is deleted or when `expires_at` comes; a paused instance pauses it.
#[derive(Debug, Clone, Copy)]
pub struct Cron {
    /// The schedule of a new job; without one, a job has none unless it is given one.
    pub schedule: Option<&'static str>,
    /// Whether at most one unfinished job of the kind has the same schedule.
    pub singleton: bool,
    /// Whether the next instance is made when one begins, and not when it has ended.
    pub after_start: bool,
    /// What becomes of times that were missed.
    pub misfire: Misfire,
}

impl Cron {
    /// No schedule yet: jobs get theirs when they are created.
    pub const fn ad_hoc() -> Self {
        Self {
            schedule: None,
            singleton: true,
            after_start: true,
            misfire: Misfire::RunOnce,
        }
    }
}

impl Concern for Cron {
    type State = CronState;

    fn name(&self) -> &'static str {
        "cron"
    }

    fn fields(&self) -> &'static [FieldDefinition] {
        FIELDS
    }

    fn initial_state(&self) -> CronState {
        CronState {
            cron_schedule: self.schedule.map(Into::into),
            cron_singleton: self.singleton,
            cron_after_start: self.after_start,
            cron_slot: None,
        }
    }

    fn validate(&self, _job: &JobDocument, state: &CronState, problems: &mut ValidationFailed) {
        if let Some(Err(error)) = state.schedule() {
            problems.add(SCHEDULE, error.to_string());
        }
    }

    fn unique_key(&self, job: &JobDocument, state: &CronState) -> Option<UniqueKey> {
        let schedule = state
            .cron_schedule
            .as_deref()
            .filter(|_| state.cron_singleton)?;
        Some(UniqueKey {
            key: format!("cron:{}:{schedule}", job.kind()),
            scope: UniqueScope::Unfinished,
            reason: format!(
                "Cron schedule Another instance of this job with the schedule `{schedule}` is already queued, running, paused or failed"
            ),
        })
    }

    fn before_save(&self, saving: &mut Saving<'_>, state: &mut CronState) -> Result<()> {
        if !saving.sets(SCHEDULE) {
            return Ok(());
        }
        let Some(Ok(schedule)) = state.schedule() else {
            state.cron_slot = None;
            return Ok(());
        };
        if saving.sets(name::RUN_AT) {
            return Ok(());
        }
        let Some(slot) = schedule.next_after(saving.now()) else {
            return Ok(());
        };
        state.cron_slot = Some(slot);
        let expires_in = saving.definition().expires_in;
        saving.change().put(name::RUN_AT, date(slot));
        if let (None, Some(expires_in)) = (saving.before(), expires_in)
            && saving.job().expires_at() == Some(later(saving.now(), expires_in))
        {
            // Its time begins with the schedule's, and not with its creation.
            saving
                .change()
                .put(name::EXPIRES_AT, date(later(slot, expires_in)));
        }
        Ok(())
    }

    fn around_perform<'a>(
        &'a self,
        job: &'a JobContext,
        next: Next<'a>,
    ) -> LocalBoxFuture<'a, JobResult> {
        async move {
            self.begin(job).await?;
            next.run().await
        }
        .boxed_local()
    }

    fn settle(&self, settlement: &mut Settlement<'_>, state: &mut CronState) {
        let before = settlement.job().as_document().get_datetime(SLOT).ok();
        let before = before.copied().and_then(timestamp);
        if let (Outcome::HandBack, Some(slot)) = (settlement.outcome(), state.cron_slot)
            && before != Some(slot)
        {
            settlement.change.put(name::RUN_AT, date(slot));
        }
    }

    fn conclude(&self, conclusion: &mut Conclusion<'_>, state: &mut CronState) -> Result<()> {
        let ends = matches!(
            conclusion.transition(),
            Transition::Complete | Transition::Fail | Transition::Abort
        );
        if !ends {
            return Ok(());
        }
        match state.schedule() {
            None => return Ok(()),
            Some(Err(error)) => {
                let (id, kind) = (conclusion.job().id(), conclusion.job().kind());
                tracing::error!(%id, kind, %error, "no next instance: set `cron_schedule` right and retry the job");
                return Ok(());
            }
            Some(Ok(schedule)) => {
                let run_at = conclusion.job().run_at();
                if let Some(slot) = self.next_slot(&schedule, state, run_at, conclusion.now())
                    && let Some(next) = conclusion.restarted(&at(slot))?
                {
                    conclusion.add_successor(next);
                }
            }
        }
        state.cron_schedule = None;
        conclusion.change().take(UniqueScope::Unfinished.field());
        Ok(())
    }
}

impl Cron {
    /// What comes before `perform`: missed times, and the next instance where it is made at the
    /// start. An error when the job is not to be performed now.
    async fn begin(&self, job: &JobContext) -> JobResult {
        let mut state = job.concern::<Self>()?;
        let (Some(store), Some(schedule)) = (job.store(), state.schedule()) else {
            return Ok(());
        };
        let schedule = schedule.map_err(|error| {
            JobError::from(format!("`cron_schedule` is no schedule: {error}")).with_fail_for_good()
        })?;
        let now = store.now();
        if job.attempt() == 1 {
            self.catch_up(job, &schedule, &mut state, now)?;
        }
        if !state.cron_after_start {
            return Ok(());
        }
        let run_at = job.document().run_at();
        let next = match self.next_slot(&schedule, &state, run_at, now) {
            Some(slot) => job.restarted(&at(slot))?,
            None => None,
        };
        if next
            .as_ref()
            .is_some_and(|next| excludes(job.document(), next))
        {
            return Ok(());
        }
        let change = Change::new()
            .set(SCHEDULE, Bson::Null)
            .set(SLOT, state.cron_slot.map(date))
            .unset(UniqueScope::Unfinished.field());
        let written = job.go_on_with(next.into_iter().collect(), change).await;
        written.map_err(|error| JobError::handed_back(&error))
    }

    /// Decides which time of the schedule the instance is for, where it comes late.
    fn catch_up(
        &self,
        job: &JobContext,
        schedule: &Schedule,
        state: &mut CronState,
        now: Timestamp,
    ) -> JobResult {
        let Some(slot) = state.cron_slot else {
            return Ok(());
        };
        match self.misfire {
            Misfire::RunOnce => return Ok(()),
            Misfire::RunAll(most) => {
                state.cron_slot = Some(last_slots(schedule, slot, now, most));
                job.set_concern::<Self>(state)?;
            }
            Misfire::Skip => {
                let due = job
                    .document()
                    .run_at()
                    .map_or(slot, |run_at| run_at.max(slot));
                let is_missed = schedule.next_after(due).is_some_and(|next| next <= now);
                let Some(next) = schedule.next_after(now).filter(|_| is_missed) else {
                    return Ok(());
                };
                state.cron_slot = Some(next);
                job.set_concern::<Self>(state)?;
                tracing::info!(id = %job.id(), kind = job.kind(), %slot, %next, "came too late: put off");
                let failure =
                    JobFailure::message("it came too late for its time, and waits for the next");
                return Err(JobError::new(crate::failure::Wish::HandBack, failure));
            }
        }
        Ok(())
    }

    /// The time of the schedule after the one of this instance.
    fn next_slot(
        &self,
        schedule: &Schedule,
        state: &CronState,
        run_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        // One that was performed early has had its time.
        let of_this = state.cron_slot.or(run_at).unwrap_or(now);
        match self.misfire {
            Misfire::RunAll(most) if of_this < now => {
                let next = schedule.next_after(of_this)?;
                Some(last_slots(schedule, next, now, most))
            }
            _ => schedule.next_after(of_this.max(now)),
        }
    }
}

/// `slot`, unless more than `most` times of the schedule have come since: then the first of the last
/// `most`.
fn last_slots(schedule: &Schedule, slot: Timestamp, now: Timestamp, most: u32) -> Timestamp {
    let mut first = now;
    for number in 0..most.max(1) {
        let before = if number == 0 {
            Some(now)
        } else {
            first.checked_sub(jiff::SignedDuration::from_secs(1)).ok()
        };
        match before.and_then(|before| schedule.previous(before)) {
            Some(previous) if previous > slot => first = previous,
            _ => return slot,
        }
    }
    first
}

/// Whether the next instance cannot be there while this one is active, since another concern wants
/// one job at a time: it is made at the end then.
fn excludes(job: &JobDocument, next: &JobDocument) -> bool {
    let key = next.get(name::UNIQUE_KEY);
    key.is_some() && key == job.get(name::UNIQUE_KEY)
}

/// What an instance for this time has.
fn at(slot: Timestamp) -> Document {
    doc! { name::RUN_AT: date(slot), SLOT: date(slot) }
}
