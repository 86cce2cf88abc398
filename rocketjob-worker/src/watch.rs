//! Watches running jobs: writes their progress, tells those that are to stop, gives up on those
//! that do not, and finds claims that the server does not know of.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bson::oid::ObjectId;
use rocketjob_core::{
    Cancelled, Change, Claim, Guard, JobContext, JobDocument, JobError, JobFailure, PANIC, Patch,
    Performed, Result, Settled, Settlement, Store, name,
};
use tokio_util::sync::CancellationToken;

#[cfg(feature = "simulation")]
use crate::simulation::Planted;
use crate::{
    crew::Crew,
    dispatcher::Claims,
    ending::Ending,
    health::{Pulse, report},
    settler::Item,
    standing::{Mode, Post},
    worker::Performing,
};

/// How often running jobs are looked at; shorter ones are never written or checked on their way.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);
/// How many claims are read at a time.
const PAGE: usize = 1000;

/// What watching takes.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) store: Store,
    pub(crate) post: Arc<Post>,
    pub(crate) crew: Arc<Crew>,
    pub(crate) claims: Arc<Claims>,
    /// How often unknown claims are looked for.
    pub(crate) audit_interval: Duration,
    /// How long code that was told to stop may take.
    pub(crate) cancel_grace: Duration,
    /// How many stuck workers may be replaced.
    pub(crate) max_stuck: usize,
    pub(crate) ending: Arc<Ending>,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) stop: CancellationToken,
    #[cfg(feature = "simulation")]
    pub(crate) planted: Option<Planted>,
}

impl Watch {
    /// Watches until the server has stopped.
    pub(crate) async fn run(self) {
        let mut written = HashMap::new();
        let mut next_audit = tokio::time::Instant::now() + self.audit_interval;
        loop {
            let now = tokio::time::Instant::now();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.claims.doubtful.notified() => next_audit = now,
                () = tokio::time::sleep(self.pause()) => {}
            }
            self.enforce_deadlines();
            self.replace_dead();
            let mut done = self.look_after_long_jobs(&mut written).await;
            if tokio::time::Instant::now() >= next_audit {
                next_audit = tokio::time::Instant::now() + self.audit_interval;
                let audited = self.audit().await;
                done &= report("look for lost claims", &audited);
                if audited.is_err() {
                    next_audit = tokio::time::Instant::now();
                }
            }
            if done {
                self.pulse.completed();
            }
        }
    }

    /// Until the next look, or the next deadline of a job.
    fn pause(&self) -> Duration {
        let deadlines = self.crew.performing().into_iter().filter_map(|(_, job)| {
            let end = match job.told {
                Some(told) => told + self.cancel_grace,
                None => job.since + job.context.definition().timeout?,
            };
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            // One that is past is seen to at every look.
            (left > Duration::ZERO).then_some(left)
        });
        deadlines.fold(INTERVAL, Duration::min)
    }

    /// Tells jobs that are past their timeout to stop, and gives up on those that were told and do
    /// not.
    fn enforce_deadlines(&self) {
        for (number, performing) in self.crew.performing() {
            let context = &performing.context;
            let (id, kind) = (context.id(), context.kind());
            match performing.told {
                None => {
                    let timeout = context.definition().timeout;
                    if timeout.is_some_and(|timeout| performing.since.elapsed() >= timeout) {
                        tracing::warn!(%id, kind, ?timeout, "takes longer than its timeout: telling it to stop");
                        self.crew.tell(number, id, Cancelled::TimedOut);
                    }
                }
                Some(told) if told.elapsed() >= self.cancel_grace => {
                    if performing.given_up.is_cancelled() {
                        self.replace_stuck(number, &performing);
                    } else {
                        // Where the code awaits something, it ends here.
                        performing.given_up.cancel();
                    }
                }
                Some(_) => {}
            }
        }
    }

    fn replace_stuck(&self, number: usize, performing: &Performing) {
        // A job whose claim is gone harms nobody but its thread, and may end yet.
        if performing.context.cancelled_for() != Some(Cancelled::TimedOut) {
            return;
        }
        let context = &performing.context;
        match self.crew.replace_stuck(number, context.id()) {
            Ok(true) => {
                tracing::error!(
                    id = %context.id(),
                    kind = context.kind(),
                    worker = number,
                    "stuck: it does not stop, its job is failed and the worker replaced"
                );
                let error = JobError::stopped(Cancelled::TimedOut);
                self.settle(context, error);
            }
            Ok(false) => {}
            Err(error) => tracing::error!(error = error.chain(), "cannot replace a worker"),
        }
        let stuck = self.crew.stuck();
        if stuck > self.max_stuck {
            self.ending
                .recycle(format!("{stuck} threads are stuck in jobs"));
        }
    }

    fn replace_dead(&self) {
        match self.crew.replace_dead() {
            Ok(left) => {
                for performing in left {
                    let failure = JobFailure {
                        class_name: PANIC.into(),
                        ..JobFailure::message("the worker's thread died")
                    };
                    let error = JobError::new(rocketjob_core::Wish::Usual, failure);
                    self.settle(&performing.context, error);
                }
            }
            Err(error) => tracing::error!(error = error.chain(), "cannot replace a worker"),
        }
    }

    /// Settles a job over the head of its worker.
    fn settle(&self, context: &JobContext, error: JobError) {
        let Some(claim) = context.document().claim() else {
            return;
        };
        let performed = Performed {
            result: Err(error),
            change: Change::new(),
        };
        self.crew.settle(Item {
            settling: performed.settle(context, claim, self.store.now()),
            context: context.clone(),
        });
    }

    async fn look_after_long_jobs(&self, written: &mut HashMap<ObjectId, u8>) -> bool {
        let long: Vec<(usize, JobContext)> = self
            .crew
            .performing()
            .into_iter()
            .filter(|(_, performing)| performing.since.elapsed() >= INTERVAL)
            .map(|(number, performing)| (number, performing.context))
            .collect();
        if long.is_empty() || self.post.mode() == Mode::Fenced {
            written.clear();
            return true;
        }
        let looked = self.look(&long, written).await;
        report("look after running jobs", &looked)
    }

    async fn look(
        &self,
        long: &[(usize, JobContext)],
        written: &mut HashMap<ObjectId, u8>,
    ) -> Result<()> {
        let mut claims = HashMap::new();
        self.for_each_page(|page| {
            claims.extend(page.iter().filter_map(|job| Some((job.id(), job.claim()?))));
        })
        .await?;
        written.retain(|id, _| long.iter().any(|(_, context)| context.id() == *id));
        let mut patches = Vec::new();
        let mut writers = Vec::new();
        for (number, context) in long {
            let Some(claim) = context.document().claim() else {
                continue;
            };
            if claims.get(&context.id()) != Some(&claim) {
                self.tell_lost(*number, context);
                continue;
            }
            let percent = context.percent_complete();
            let before = written.insert(context.id(), percent);
            if before.map_or(
                i64::from(percent) != context.document().percent_complete(),
                |before| before != percent,
            ) {
                let change = Change::new().set(name::PERCENT_COMPLETE, i32::from(percent));
                patches.push(Patch {
                    id: context.id(),
                    guard: Guard::claimed(claim),
                    change,
                });
                writers.push((*number, context));
            }
        }
        if patches.is_empty() {
            return Ok(());
        }
        let settled = self.store.settle(patches).await?;
        for ((number, context), outcome) in writers.into_iter().zip(settled) {
            if matches!(outcome, Settled::Refused(_)) {
                self.tell_lost(number, context);
            }
        }
        Ok(())
    }

    fn tell_lost(&self, number: usize, context: &JobContext) {
        if context.cancelled_for().is_none() {
            tracing::warn!(id = %context.id(), kind = context.kind(), "the claim is gone: telling the job");
        }
        self.crew.tell(number, context.id(), Cancelled::ClaimLost);
    }

    /// Hands back claims that the store has made for this server and of which it knows nothing,
    /// since the answer was lost.
    async fn audit(&self) -> Result<()> {
        #[cfg(feature = "simulation")]
        if self.planted == Some(Planted::LostReplyIsFailure) {
            return Ok(());
        }
        // Read first: a claim that is still to be answered is none of these.
        let answered = self.claims.answered.load(Ordering::Acquire);
        let mut unknown: Vec<(JobDocument, Claim)> = Vec::new();
        self.for_each_page(|page| {
            let lost = page.into_iter().filter_map(|job| {
                let claim = job.claim()?;
                let (_, sequence) = claim.token.split_once(':')?;
                let is_answered = sequence
                    .parse::<u64>()
                    .is_ok_and(|number| number < answered);
                let is_unknown = is_answered && !self.crew.holds(job.id(), &claim.token);
                is_unknown.then_some((job, claim))
            });
            unknown.extend(lost);
        })
        .await?;
        if unknown.is_empty() {
            return Ok(());
        }
        let now = self.store.now();
        let patches = unknown
            .iter()
            .map(|(job, claim)| Settlement::hand_back(job, claim.clone(), now).patch)
            .collect();
        let settled = self.store.settle(patches).await?;
        // The others were settled between the look at the store and that at what is held.
        let jobs = settled
            .iter()
            .filter(|settled| matches!(settled, Settled::Accepted))
            .count();
        if jobs > 0 {
            tracing::warn!(jobs, "handed back jobs of a claim without answer");
        }
        Ok(())
    }

    async fn for_each_page(&self, mut each: impl FnMut(Vec<JobDocument>)) -> Result<()> {
        let server = self.post.id();
        let mut after = None;
        loop {
            let page = self.store.claims_of(server, after, PAGE).await?;
            let full = page.len() == PAGE;
            after = page.last().map(JobDocument::id);
            each(page);
            if !full {
                return Ok(());
            }
        }
    }
}
