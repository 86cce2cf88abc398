//! A worker: a thread that performs one job after the other, and knows nothing but a queue.

use std::sync::Arc;

use futures_util::future::{Either, select};
use jiff::Timestamp;
use rocketjob_core::{
    Beginning, Cancelled, Change, ClaimToken, JobContext, JobError, Outcome, PerformSpan,
    Performed, Result, Settled, Settlement, Starts, Store, Turn, is_marked, mark_begun,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{
    crew::{Bench, Crew},
    queue::Assignment,
    settler::{Item, hand_back},
    thread::Thread,
};

/// How often a job with a rate tries to begin in time before it is handed back.
const STARTS: usize = 10;

/// One worker and what it shares with its server.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) crew: Arc<Crew>,
    pub(crate) number: usize,
    pub(crate) bench: Arc<Bench>,
}

/// A job in a worker's hands.
#[derive(Debug, Clone)]
pub(crate) struct Performing {
    pub(crate) context: JobContext,
    pub(crate) since: Instant,
    /// When the code was told to stop.
    pub(crate) told: Option<Instant>,
    /// Cancelled when the code ignores that for too long: it is dropped where it awaits something.
    pub(crate) given_up: CancellationToken,
}

impl Worker {
    /// Works on this thread until there is nothing to do any more.
    pub(crate) fn run(&self) {
        self.bench.sit_down(Thread::current());
        let mut after_long = false;
        while let Some(assignment) = self.crew.queue.next(self.number, after_long) {
            match pollster::block_on(self.step(assignment)) {
                Some(long) => after_long = long,
                None => break,
            }
        }
    }

    /// As [`run`](Self::run), in a simulation.
    #[cfg(feature = "simulation")]
    pub(crate) async fn run_as_task(self: Arc<Self>) {
        let mut after_long = false;
        while let Some(assignment) = self.crew.queue.next_for_task(self.number, after_long).await {
            match self.step(assignment).await {
                Some(long) => after_long = long,
                None => break,
            }
        }
    }

    /// Performs one job, and says whether it was a long one; `None` when the worker is not wanted
    /// any more.
    async fn step(&self, assignment: Assignment) -> Option<bool> {
        let since = Instant::now();
        let performing = Performing {
            context: assignment.context.clone(),
            since,
            told: None,
            given_up: CancellationToken::new(),
        };
        let given_up = performing.given_up.clone();
        self.bench.begin(performing);
        let item = self.perform(assignment, &given_up).await;
        let wanted = self.bench.end();
        let took = since.elapsed();
        self.crew.pace.note(took);
        if let Some(item) = item {
            self.crew.settler.send(item);
        }
        wanted.then(|| self.crew.pace.is_long(took))
    }

    /// What came of the job; `None` when the claim was lost before it began.
    async fn perform(&self, assignment: Assignment, given_up: &CancellationToken) -> Option<Item> {
        let store = &self.crew.store;
        if !self.may_begin(&assignment) {
            return Some(hand_back(assignment, store));
        }
        if assignment.context.document().is_expired(store.now()) {
            return Some(expire(assignment, store));
        }
        if is_marked(
            assignment.context.document(),
            assignment.handler.definition(),
        ) {
            match self.mark(&assignment).await {
                Ok(true) if self.may_begin(&assignment) => {}
                Ok(true) => return Some(hand_back(assignment, store)),
                Ok(false) => {
                    self.crew.forget(&assignment.context);
                    return None;
                }
                Err(error) => {
                    let id = assignment.context.id();
                    tracing::warn!(%id, error = error.chain(), "cannot note that the job begins: handing it back");
                    return Some(hand_back(assignment, store));
                }
            }
        }
        if !self.begins_in_time(&assignment).await {
            return Some(hand_back(assignment, store));
        }
        let Assignment {
            context,
            handler,
            claim,
            ..
        } = assignment;
        let tally = self.crew.tally.of(context.definition());
        if let Some(tally) = tally {
            tally.begin(context.document(), store.now());
        }
        let began = Instant::now();
        let span = PerformSpan::begin(&context);
        let performing = handler.perform(&context).instrument(span.span().clone());
        let left = std::pin::pin!(given_up.cancelled());
        let performed = match select(performing, left).await {
            Either::Left((performed, _)) => performed,
            Either::Right(((), unfinished)) => {
                drop(unfinished);
                given_up_on(&context)
            }
        };
        if let Some(tally) = tally {
            tally.perform.note(began.elapsed());
        }
        span.span().in_scope(|| match &performed.result {
            Ok(()) => tracing::debug!("performed"),
            Err(error) => tracing::warn!(%error, wish = ?error.wish(), "ended with an error"),
        });
        drop(span);
        let settling = performed.settle(&context, claim, store.now());
        Some(Item { context, settling })
    }

    fn may_begin(&self, assignment: &Assignment) -> bool {
        let incarnation = ClaimToken::server_of(&assignment.claim.token);
        incarnation.is_some_and(|id| self.crew.post.may_begin(id))
    }

    /// Waits until the windows of the job's rates let it begin, and says whether they do. They are
    /// asked again when its code comes next.
    async fn begins_in_time(&self, assignment: &Assignment) -> bool {
        let definition = assignment.handler.definition();
        if definition.concerns.is_empty() {
            return true;
        }
        let job = assignment.context.document();
        let Some(mut booked) = job.started_at() else {
            return true;
        };
        let starts = &self.crew.starts;
        for _ in 0..STARTS {
            match starts
                .begin(&*self.crew.store, definition, job, &mut booked)
                .await
            {
                Ok(Turn::Unlimited) => return true,
                Ok(Turn::Now) => {
                    let (crew, context) = (Arc::clone(&self.crew), assignment.context.clone());
                    let last_look = move || looks(&crew, &context, booked);
                    assignment.context.ask_before_code(last_look);
                    return true;
                }
                Ok(Turn::After(wait)) => tokio::time::sleep(wait).await,
                Ok(Turn::Lost) => return false,
                Err(error) => {
                    let (id, error) = (job.id(), error.chain());
                    tracing::warn!(%id, error, "cannot tell whether its rate lets the job begin: handing it back");
                    return false;
                }
            }
        }
        false
    }

    /// Notes that the job begins, and says whether its claim still stands.
    async fn mark(&self, assignment: &Assignment) -> Result<bool> {
        let mark = mark_begun(assignment.context.document(), assignment.claim.clone());
        let settled = self.crew.store.settle(vec![mark]).await?;
        Ok(settled.first() == Some(&Settled::Accepted))
    }
}

/// Looks at the clock right before the job begins, and says whether it still may.
fn looks(crew: &Arc<Crew>, context: &JobContext, booked: Timestamp) -> bool {
    let job = context.document();
    match Starts::look(&*crew.store, context.definition(), job, booked) {
        Beginning::InTime => true,
        Beginning::Missed => false,
        Beginning::Late(start) => {
            let (id, crew) = (job.id(), Arc::clone(crew));
            crew.clone().place.spawn(async move {
                if let Err(error) = crew.starts.correct(&*crew.store, &start).await {
                    let error = error.chain();
                    tracing::warn!(%id, error, "cannot note that a start was late");
                }
            });
            true
        }
    }
}

/// The outcome of a job whose time is over.
fn expire(assignment: Assignment, store: &Store) -> Item {
    let Assignment { context, claim, .. } = assignment;
    tracing::info!(id = %context.id(), kind = context.kind(), "expired: discarded");
    let job = context.document();
    let settlement = Settlement::new(job, store.now(), Outcome::Expire, true, Change::new());
    let settling = settlement.render(claim);
    Item { context, settling }
}

/// What counts as the result of code that was dropped since it did not stop.
fn given_up_on(context: &JobContext) -> Performed {
    let reason = context.cancelled_for().unwrap_or(Cancelled::Shutdown);
    Performed::failed(JobError::stopped(reason), context)
}
