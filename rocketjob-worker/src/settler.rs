//! Writes the outcomes of claims, in groups that form while a write is under way.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bson::Bson;
use futures_util::future::{join, join_all};
use rocketjob_core::{
    Change, Error, JobContext, JobDocument, JobFailure, Limit, Outcome, Patch, Refusal, Result,
    Settled, Settlement, Settling, State, Store, create_successors, is_suspect, name, places,
    release_dependents, target,
};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use tracing::Instrument as _;

#[cfg(feature = "simulation")]
use crate::simulation::Planted;
use crate::{
    crew::Crew,
    handover::{Given, Vacancy, give_on, vacancies},
    health::Pulse,
    opening::Desk,
    place::Place,
    queue::Assignment,
    tally::add,
};

/// How many outcomes go into one write.
const GROUP: usize = 1000;
/// Between the beginnings of two writes there is a time in this range, so that the outcomes of slower
/// jobs form groups as well: a durable write costs the store far more than an outcome in it does. No
/// worker waits for it.
const GAP: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(50));
/// How many times longer than a write the time between two is: the busier the store, the larger the
/// groups.
const WRITES: u32 = 4;
/// So many outcomes are worth a write of their own at any time.
const WORTH: usize = 100;
/// How long the writer waits after the first error of the store, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// An outcome on its way into the store.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) context: JobContext,
    pub(crate) settling: Settling,
}

impl Item {
    /// Whether other jobs wait until it is written: for its places in limits, or for their turn as
    /// suspects.
    fn is_awaited(&self) -> bool {
        let job = self.context.document();
        job.get(name::SLOTS).is_some() || is_suspect(job)
    }
}

/// Hands a job back that nobody has begun.
pub(crate) fn hand_back(assignment: Assignment, store: &Store) -> Item {
    let Assignment { context, claim, .. } = assignment;
    let settling = Settlement::hand_back(context.document(), claim, store.now());
    Item { context, settling }
}

/// Where outcomes are given to the settler.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    items: mpsc::UnboundedSender<Item>,
    unsettled: Arc<Unsettled>,
}

/// How many outcomes are on their way.
#[derive(Debug, Default)]
struct Unsettled {
    count: AtomicUsize,
    none: Notify,
    /// Rung when it is time to write although others may come. So the settler, while it waits for
    /// them, is not woken for each: to wake a thread costs more than all else about an outcome.
    enough: Notify,
}

/// Where the settler takes them from.
#[derive(Debug)]
pub(crate) struct Inbox {
    items: mpsc::UnboundedReceiver<Item>,
    unsettled: Arc<Unsettled>,
}

pub(crate) fn channel() -> (Outbox, Inbox) {
    let (sender, items) = mpsc::unbounded_channel();
    let unsettled = Arc::new(Unsettled::default());
    let outbox = Outbox {
        items: sender,
        unsettled: Arc::clone(&unsettled),
    };
    (outbox, Inbox { items, unsettled })
}

impl Outbox {
    pub(crate) fn send(&self, item: Item) {
        let others = self.unsettled.count.fetch_add(1, Ordering::AcqRel);
        let is_enough = others + 1 >= WORTH || item.is_awaited();
        if self.items.send(item).is_err() {
            // The server has stopped: whoever finds its claims ends them.
            self.unsettled.done(1);
        }
        if is_enough {
            self.unsettled.enough.notify_one();
        }
    }

    /// Returns when all outcomes that were sent are settled.
    pub(crate) async fn settled(&self) {
        loop {
            let none = self.unsettled.none.notified();
            if self.unsettled.count.load(Ordering::Acquire) == 0 {
                return;
            }
            none.await;
        }
    }
}

impl Unsettled {
    fn done(&self, count: usize) {
        if self.count.fetch_sub(count, Ordering::AcqRel) == count {
            self.none.notify_waiters();
        }
    }
}

/// What became of the outcomes of a server.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) settled: AtomicUsize,
    pub(crate) refused: AtomicUsize,
}

/// What writing outcomes takes.
#[derive(Debug)]
pub(crate) struct Settler {
    pub(crate) store: Store,
    pub(crate) desk: Arc<Desk>,
    pub(crate) crew: Arc<Crew>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) place: Place,
    /// The kinds that jobs of other kinds wait for.
    pub(crate) awaited: BTreeSet<String>,
    pub(crate) pulse: Arc<Pulse>,
    #[cfg(feature = "simulation")]
    pub(crate) planted: Option<Planted>,
}

impl Settler {
    /// Settles what comes until it is dropped.
    pub(crate) async fn run(self, mut inbox: Inbox) {
        let mut group = Vec::new();
        let mut next = Instant::now();
        self.pulse.rests();
        while inbox.items.recv_many(&mut group, GROUP).await > 0 {
            self.pulse.completed();
            gather(&mut inbox, &mut group, next).await;
            let began = Instant::now();
            let count = group.len();
            let span = tracing::debug_span!("settle", outcomes = count);
            let settling = self.settle(std::mem::take(&mut group));
            settling.instrument(span).await;
            next = began + (began.elapsed() * WRITES).clamp(GAP.0, GAP.1);
            inbox.unsettled.done(count);
            self.pulse.rests();
        }
    }

    async fn settle(&self, mut group: Vec<Item>) {
        #[cfg(feature = "simulation")]
        if self.planted == Some(Planted::SuccessorBeforeSettle) {
            crate::simulation::create_early(&self.store, &group).await;
        }
        let patches = group
            .iter()
            .map(|item| item.settling.patch.clone())
            .collect();
        let vacancies = vacancies(&self.desk, &group);
        let (outcomes, given) = join(self.insist(patches), self.give_on(vacancies)).await;
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            #[cfg(feature = "simulation")]
            Err(error) if error.is_transient() => {
                return self.crew.forget_all(group.iter().map(|item| &item.context));
            }
            // One outcome that the store will never take must not keep the others from it.
            Err(error) => self.settle_apart(&mut group, &error).await,
        };
        self.crew.forget_all(group.iter().map(|item| &item.context));
        let given = self.give_on_late(given, &outcomes).await;
        let mut accepted = Vec::with_capacity(group.len());
        for (item, outcome) in group.into_iter().zip(outcomes) {
            let tally = self.crew.tally.of(item.context.definition());
            match outcome {
                Settled::Accepted => {
                    self.counts.settled.fetch_add(1, Ordering::Relaxed);
                    settled(&item);
                    if let Some(tally) = tally {
                        tally.settled(item.settling.transition);
                    }
                    accepted.push(item);
                }
                Settled::Refused(refusal) => {
                    self.counts.refused.fetch_add(1, Ordering::Relaxed);
                    if let Some(tally) = tally {
                        add(&tally.refused);
                    }
                    refused(&item, refusal);
                }
            }
        }
        follow_up(&self.store, &self.place, &accepted, &given).await;
        self.release_dependents(&accepted).await;
    }

    /// Gives places straight on.
    async fn give_on(&self, vacancies: Vec<Vacancy>) -> Vec<(Vacancy, Given)> {
        let given = vacancies.into_iter().map(|vacancy| async {
            let given = give_on(&self.desk, &vacancy).await.unwrap_or_else(|error| {
                let (key, error) = (vacancy.key(), error.chain());
                tracing::warn!(key, error, "cannot give a place straight on");
                Given::Not
            });
            (vacancy, given)
        });
        join_all(given).await
    }

    /// Gives those on that were still in use when it was tried, now that the outcomes stand, and
    /// returns the limits of which a place was given on.
    async fn give_on_late(
        &self,
        given: Vec<(Vacancy, Given)>,
        outcomes: &[Settled],
    ) -> HashSet<String> {
        let (early, others): (Vec<_>, Vec<_>) = given
            .into_iter()
            .partition(|(_, given)| *given == Given::On);
        let is_left = |(vacancy, given): &(Vacancy, Given)| {
            *given == Given::Taken && outcomes.get(vacancy.item()) == Some(&Settled::Accepted)
        };
        let late = others.into_iter().filter(is_left);
        let late = self
            .give_on(late.map(|(vacancy, _)| vacancy).collect())
            .await;
        let late = late.into_iter().filter(|(_, given)| *given == Given::On);
        let all = early.into_iter().chain(late);
        all.map(|(vacancy, _)| vacancy.key().to_owned()).collect()
    }

    /// Lets jobs go on that wait for the kinds of those that have ended.
    async fn release_dependents(&self, accepted: &[Item]) {
        let kinds = accepted.iter().map(|item| item.context.kind());
        let awaited: BTreeSet<&str> = kinds.filter(|kind| self.awaited.contains(*kind)).collect();
        for kind in awaited {
            if let Err(error) = release_dependents(&*self.store, kind).await {
                let error = error.chain();
                tracing::warn!(
                    kind,
                    error,
                    "cannot let dependent jobs go on: they will be looked at"
                );
            }
        }
    }

    /// Settles in spite of a store that is away for a while.
    async fn insist(&self, patches: Vec<Patch>) -> Result<Vec<Settled>> {
        let mut back_off = BACK_OFF.0;
        loop {
            match self.store.settle(patches.clone()).await {
                #[cfg(feature = "simulation")]
                Err(error) if self.planted == Some(Planted::LostReplyIsFailure) => {
                    return Err(error);
                }
                Err(error) if error.is_transient() => {
                    tracing::warn!(
                        error = error.chain(),
                        outcomes = patches.len(),
                        "cannot settle now: trying again"
                    );
                    tokio::time::sleep(back_off).await;
                    back_off = (back_off * 2).min(BACK_OFF.1);
                }
                outcome => return outcome,
            }
        }
    }

    /// Settles each outcome for itself. One that cannot be stored fails its job with the reason.
    async fn settle_apart(&self, group: &mut [Item], cause: &Error) -> Vec<Settled> {
        tracing::warn!(
            error = cause.chain(),
            outcomes = group.len(),
            "cannot settle the group: settling one by one"
        );
        let mut outcomes = Vec::with_capacity(group.len());
        for item in group {
            let mut outcome = self.insist(vec![item.settling.patch.clone()]).await;
            if let Err(error) = &outcome {
                let reason = format!("the outcome cannot be stored: {}", error.chain());
                tracing::error!(id = %item.context.id(), kind = item.context.kind(), reason, "failing the job");
                if let Some(settling) = self.failure(item, reason) {
                    outcome = self.insist(vec![settling.patch.clone()]).await;
                    item.settling = settling;
                }
            }
            let settled = outcome.ok().and_then(|outcomes| outcomes.first().copied());
            outcomes.push(settled.unwrap_or(Settled::Refused(Refusal::ClaimLost)));
        }
        outcomes
    }

    /// The write that fails the job of `item`.
    fn failure(&self, item: &Item, reason: String) -> Option<Settling> {
        let claim = item.settling.patch.guard.claim.clone()?;
        let outcome = Outcome::Fail(JobFailure::message(reason));
        let job = item.context.document();
        let settlement = Settlement::new(job, self.store.now(), outcome, true, Change::new());
        Some(settlement.render(claim))
    }
}

/// Adds what comes until `end`, unless it is enough by then or other jobs wait for one of them.
async fn gather(inbox: &mut Inbox, group: &mut Vec<Item>, end: Instant) {
    let mut seen = 0;
    while group.len() < WORTH && !group[seen..].iter().any(Item::is_awaited) {
        seen = group.len();
        let is_over = tokio::select! {
            biased;
            () = inbox.unsettled.enough.notified() => false,
            () = tokio::time::sleep_until(end) => true,
        };
        while group.len() < GROUP
            && let Ok(item) = inbox.items.try_recv()
        {
            group.push(item);
        }
        if is_over {
            return;
        }
    }
}

fn settled(item: &Item) {
    let Item { context, settling } = item;
    let (id, kind, attempt) = (context.id(), context.kind(), context.attempt());
    tracing::debug!(%id, kind, attempt, transition = %settling.transition, "settled");
}

fn refused(item: &Item, refusal: Refusal) {
    let Item { context, settling } = item;
    let (id, kind, attempt) = (context.id(), context.kind(), context.attempt());
    tracing::warn!(%id, kind, attempt, transition = %settling.transition, ?refusal, "outcome refused: the claim was lost");
}

/// What an accepted outcome entails: places given on, successors created, concerns told.
async fn follow_up(store: &Store, place: &Place, accepted: &[Item], given: &HashSet<String>) {
    for (key, count) in places(accepted.iter().map(|item| item.context.document())) {
        let count = count - usize::from(given.contains(&key));
        if count == 0 {
            continue;
        }
        if let Err(error) = store.release(&Limit::hold(&key), count).await {
            tracing::warn!(
                key,
                error = error.chain(),
                "cannot give places on: the sweep will"
            );
        }
    }
    for item in accepted {
        let change = &item.settling.patch.change;
        if change.set.contains_key(name::SUCCESSORS)
            && let Err(error) = create_successors(&**store, item.context.id()).await
        {
            tracing::warn!(id = %item.context.id(), error = error.chain(), "cannot create successors: the sweep will");
        }
        let transition = item.settling.transition;
        let concerns = item.context.definition().concerns;
        if !concerns.iter().any(|concern| concern.observes(transition)) {
            continue;
        }
        let mut document = item.context.document().as_document().clone();
        change.apply(&mut document);
        if change.delete
            && let Some(state) = target(State::Running, transition, true)
        {
            // The document is gone; observers see it as it would stand there.
            document.insert(name::STATE, state.as_str());
            document.insert(name::WORKER_NAME, Bson::Null);
        }
        let Ok(after) = JobDocument::new(document) else {
            continue;
        };
        place.spawn(async move {
            for concern in concerns
                .iter()
                .filter(|concern| concern.observes(transition))
            {
                concern.after_transition(transition, &after).await;
            }
        });
    }
}
