//! Claims: find the next jobs, take them all with one command, patch them in memory.
//!
//! One command takes the jobs without limits, one statement per worker, or two at a time where there
//! are many; one more those that need places in limits or have a unique key, one statement per job.
//! Only when fewer were met than named is it read back which they are. What was lost to another server, held or set aside has left the index, so the
//! next round finds what lies behind it; what stays in it (batches) is skipped.

use std::collections::HashSet;

use bson::{Bson, RawDocumentBuf, doc, oid::ObjectId};
use futures_util::{
    FutureExt as _, StreamExt as _, TryFutureExt as _, TryStreamExt as _,
    future::{BoxFuture, join},
    stream,
};
use jiff::Timestamp;
use mongodb::options::Hint;
use rocketjob_core::{
    Change, Claim, ClaimRequest, Claimed, JobDocument, JobStore, Limit, Result, SetAside, State,
    StoredLimit, change_limit, name,
};

use crate::{
    candidate::{Candidate, Search},
    command::{self, Durability, Verb, WriteFailure},
    error,
    place::{AT_ONCE, Granted, Places, read_free},
    query::limited,
    store::MongoStore,
    update::operators,
};

/// How many documents one round looks at, at most.
const ROUND: usize = 1000;
/// After this many rounds what was claimed is handed out, so that it need not wait for the rest.
const ROUNDS: usize = 8;
/// After this many rounds without any effect others are left to fight for what there is.
const BARREN_ROUNDS: usize = 5;
/// So many jobs are taken with two commands at a time: the store works on both at once.
const WORTH_TWO: usize = 200;

/// A job that is about to be claimed for a worker, with the places in limits that it takes.
struct Planned {
    job: JobDocument,
    worker: usize,
    granted: Granted,
    limits: Vec<Limit>,
}

impl Planned {
    /// Whether it takes nothing of any limit.
    fn is_free(&self) -> bool {
        self.granted == Granted::default()
    }

    /// Whether another job may take its place between the look and the claim: it must be claimed as
    /// the one that was read, or what is performed is not what is stored.
    fn may_be_replaced(&self) -> bool {
        let has = |field| self.job.get(field).is_some();
        has(name::UNIQUE_KEY) || has(name::UNFINISHED_KEY)
    }
}

/// What one round found and planned.
#[derive(Default)]
struct Round {
    planned: Vec<Planned>,
    /// Jobs without a free place, with the limit that has none.
    full: Vec<(ObjectId, Limit)>,
    undecodable: Vec<(Option<Bson>, SetAside)>,
    batches: Vec<JobDocument>,
    places: Places,
}

/// One claim under way.
struct Claiming<'c> {
    store: &'c MongoStore,
    request: &'c ClaimRequest<'c>,
    token: String,
    now: Timestamp,
    search: Search<'c>,
    claimed: Claimed,
    /// Documents at the head that stay in the index.
    passed: usize,
}

impl MongoStore {
    pub(crate) async fn claim_jobs(&self, request: &ClaimRequest<'_>) -> Result<Claimed> {
        let now = self.now();
        let mut claiming = Claiming {
            store: self,
            request,
            token: request.token.to_string(),
            now,
            search: Search::new(self, request, now),
            claimed: Claimed::default(),
            passed: request.skip,
        };
        if request.count == 0 || request.workers.is_empty() {
            return Ok(claiming.claimed);
        }
        let saw_all = claiming.run().await?;
        let wants_more = claiming.wanted() > 0;
        let mut claimed = claiming.claimed;
        if wants_more {
            // Where others were in the way, more may be had at once.
            claimed.next_due = if saw_all {
                self.next_due_job().await?
            } else {
                Some(claiming.now)
            };
        }
        Ok(claimed)
    }
}

impl Claiming<'_> {
    /// Claims until enough is found, and says whether all that there is was looked at.
    async fn run(&mut self) -> Result<bool> {
        let mut limit = self.wanted();
        let mut barren = 0;
        for round in 0.. {
            let wanted = self.wanted();
            let suffices = round >= ROUNDS && !self.claimed.jobs.is_empty();
            if wanted == 0 || suffices || barren >= BARREN_ROUNDS {
                break;
            }
            let candidates = self.search.next(self.passed, limit).await?;
            let is_last = candidates.len() < limit;
            if candidates.is_empty() && round == 0 && self.request.skip > 0 {
                self.passed = 0;
                continue;
            }
            let (plan, left) = self.plan(candidates, wanted).await?;
            let before = (self.claimed.jobs.len(), self.passed);
            let in_the_way = plan.full.len() + plan.undecodable.len();
            let mut places = plan.places;
            let lost = self.take(plan.planned, &mut places).await?;
            places.give_back(self.store, self.now).await?;
            let released = self.hold(plan.full).await?;
            self.set_aside(plan.undecodable).await?;
            self.passed += plan.batches.len();
            self.claimed.batches.extend(plan.batches);
            if left {
                self.claimed.left = true;
                return Ok(false);
            }
            if is_last && released == 0 && lost == 0 {
                return Ok(true);
            }
            if lost > 0 && self.claimed.jobs.len() >= lost {
                // Others are at work here: more of what they leave costs more than it brings.
                return Ok(false);
            }
            let effect = in_the_way > 0 || before != (self.claimed.jobs.len(), self.passed);
            if is_last || !effect {
                barren += 1;
            }
            // Many that are in the way are put out of it in few rounds.
            let more = if in_the_way > 0 {
                limit.saturating_mul(2)
            } else {
                0
            };
            limit = more.min(ROUND).max(self.wanted());
        }
        Ok(false)
    }

    fn wanted(&self) -> usize {
        let found = self.claimed.jobs.len() + self.claimed.batches.len();
        self.request.count.saturating_sub(found)
    }

    /// Decides what becomes of the candidates, until `wanted` jobs and batches are found, and says
    /// whether any was left since no more can begin at once.
    async fn plan(&self, candidates: Vec<Candidate>, wanted: usize) -> Result<(Round, bool)> {
        let mut limits: Vec<Vec<Limit>> = Vec::with_capacity(candidates.len());
        let candidates = candidates.into_iter().map(|candidate| {
            let (candidate, of_job) = self.limited(candidate);
            limits.push(of_job);
            candidate
        });
        let mut candidates: Vec<_> = candidates.collect();
        let left = self.first_left(&limits);
        if let Some(left) = left {
            candidates.truncate(left);
            limits.truncate(left);
        }
        let mut round = Round {
            places: Places::read(self.store, &limits, &self.token, wanted).await?,
            ..Round::default()
        };
        for (candidate, limits) in candidates.into_iter().zip(limits) {
            if round.planned.len() + round.batches.len() == wanted {
                break;
            }
            match candidate {
                Candidate::Undecodable { id, aside } => round.undecodable.push((id, aside)),
                Candidate::Batch(batch) => round.batches.push(batch),
                Candidate::Job(job) => match round.places.take(job.kind(), &limits) {
                    Err(full) => round.full.push((job.id(), full)),
                    Ok(granted) => {
                        let number = self.claimed.jobs.len() + round.planned.len();
                        let worker = number % self.request.workers.len();
                        round.planned.push(Planned {
                            job,
                            worker,
                            granted,
                            limits,
                        });
                    }
                },
            }
        }
        Ok((round, left.is_some()))
    }

    /// The first of the candidates with these limits that is one more with a rate than can begin at
    /// once.
    fn first_left(&self, limits: &[Vec<Limit>]) -> Option<usize> {
        let is_booked = |job: &&JobDocument| job.started_at().is_some_and(|start| start > self.now);
        let mut rated = self.claimed.jobs.iter().filter(is_booked).count();
        limits.iter().position(|limits| {
            let has_rate = limits.iter().any(|limit| limit.rate().is_some());
            rated += usize::from(has_rate);
            has_rate && rated > self.request.at_once
        })
    }

    /// A candidate with its limits; one whose limits cannot be told is set aside.
    fn limited(&self, candidate: Candidate) -> (Candidate, Vec<Limit>) {
        let Candidate::Job(job) = candidate else {
            return (candidate, Vec::new());
        };
        match self.request.limits.limits(&job, self.now) {
            Ok(limits) => (Candidate::Job(job), limits),
            Err(failure) => {
                let id = Some(job.id().into());
                let aside = SetAside::failed(&job, failure);
                (Candidate::Undecodable { id, aside }, Vec::new())
            }
        }
    }

    /// Claims what is planned, and says how much was lost to others.
    async fn take(&mut self, planned: Vec<Planned>, places: &mut Places) -> Result<usize> {
        let (limited, free): (Vec<_>, Vec<_>) =
            planned.iter().partition(|planned| !planned.is_free());
        let (single, free): (Vec<_>, Vec<_>) = free
            .into_iter()
            .partition(|planned| planned.may_be_replaced());
        let mut met = self.write_free(&free).await?;
        met = self.write_each(&single, Durability::Primary).await? && met;
        // A claim that a failover took back would free a place in use.
        met = self.write_each(&limited, Durability::Majority).await? && met;
        let ours = if met {
            None
        } else {
            Some(self.ours(&planned).await?)
        };
        let before = self.claimed.jobs.len();
        let count = planned.len();
        let workers = 0..self.request.workers.len();
        let without_slots: Vec<_> = workers
            .map(|worker| self.change(worker, &Granted::default()))
            .collect();
        for planned in planned {
            if ours
                .as_ref()
                .is_none_or(|ours| ours.contains(&planned.job.id()))
            {
                let is_free = planned.is_free();
                let mut document = planned.job.into_document();
                match without_slots.get(planned.worker) {
                    Some(change) if is_free => change.apply(&mut document),
                    _ => self
                        .change(planned.worker, &planned.granted)
                        .apply(&mut document),
                }
                self.claimed.jobs.push(JobDocument::new(document)?);
            } else if let Some(start) = planned.granted.start {
                let rates = planned.limits.iter().filter(|limit| limit.rate().is_some());
                rates.for_each(|limit| places.return_start(limit, start));
            }
        }
        let lost = count - (self.claimed.jobs.len() - before);
        self.claimed.lost += lost;
        Ok(lost)
    }

    /// Claims jobs without limits; true when all are ours for sure.
    async fn write_free(&self, planned: &[&Planned]) -> Result<bool> {
        let at_once = if planned.len() < WORTH_TWO { 1 } else { 2 };
        let mut statements = Vec::new();
        for worker in 0..self.request.workers.len() {
            let mine = planned.iter().filter(|planned| planned.worker == worker);
            let ids: Vec<_> = mine.map(|planned| planned.job.id()).collect();
            if ids.is_empty() {
                continue;
            }
            let mut change = self.change(worker, &Granted::default());
            // What no job has need not go: each operator costs time for each job.
            let has = |field: &str| {
                planned
                    .iter()
                    .any(|planned| planned.job.get(field).is_some())
            };
            change.unset.retain(|field| has(field));
            for ids in ids.chunks(ids.len().div_ceil(at_once)) {
                statements.push(self.statement(doc! { "$in": ids.to_vec() }.into(), &change)?);
            }
        }
        let (some, others) = statements.split_at(statements.len() / at_once);
        let write = |statements| self.write(statements, Durability::Primary);
        let (some, others) = join(write(some), write(others)).await;
        Ok(some?.zip(others?).map(|(some, others)| some + others) == Some(planned.len() as u64))
    }

    /// Claims jobs one by one, with their places; true when all are ours for sure.
    async fn write_each(&self, planned: &[&Planned], durability: Durability) -> Result<bool> {
        let statements: Result<Vec<_>> = planned
            .iter()
            .map(|planned| {
                let change = operators(&self.change(planned.worker, &planned.granted));
                let change = RawDocumentBuf::try_from(change).map_err(error::unusable)?;
                let mut still = self.search.still(planned.job.id())?;
                if planned.may_be_replaced() {
                    let replacement = planned.job.get(name::REPLACEMENT);
                    still.insert(
                        name::REPLACEMENT,
                        replacement.cloned().unwrap_or(Bson::Null),
                    );
                }
                command::update(still, &change)
            })
            .collect();
        let met = self.write(&statements?, durability).await?;
        Ok(met == Some(planned.len() as u64))
    }

    /// How many jobs met the statements, if that can be told.
    async fn write(
        &self,
        statements: &[RawDocumentBuf],
        durability: Durability,
    ) -> Result<Option<u64>> {
        if statements.is_empty() {
            return Ok(Some(0));
        }
        let written = self
            .store
            .write(Verb::Update, statements, durability)
            .await?;
        for failure in &written.failures {
            // A place that another claim was faster to take; the next round looks again.
            if !failure.is_duplicate() {
                warn(failure);
            }
        }
        Ok((!written.repeated).then_some(written.met))
    }

    fn statement(&self, ids: Bson, change: &Change) -> Result<RawDocumentBuf> {
        let change = RawDocumentBuf::try_from(operators(change)).map_err(error::unusable)?;
        command::update(self.search.still(ids)?, &change)
    }

    fn change(&self, worker: usize, granted: &Granted) -> Change {
        let worker_name = self.request.workers.get(worker).cloned();
        let claim = Claim {
            token: self.token.clone(),
            worker_name: worker_name.unwrap_or_default(),
        };
        claim.start(granted.start.unwrap_or(self.now), granted.slots.clone())
    }

    /// Which of the planned jobs stand under our token.
    async fn ours(&self, planned: &[Planned]) -> Result<HashSet<ObjectId>> {
        let ids: Vec<_> = planned.iter().map(|planned| planned.job.id()).collect();
        let condition = doc! {
            name::ID: { "$in": ids },
            name::STATE: State::Running.as_str(),
            name::CLAIM: &self.token,
        };
        let mut options = limited(0);
        options.hint = Some(Hint::Keys(doc! { name::ID: 1 }));
        let found = self
            .store
            .read_fields(condition, options, doc! { name::ID: 1 })
            .await?;
        Ok(found
            .iter()
            .filter_map(|found| found.get_object_id(name::ID).ok())
            .collect())
    }

    /// Holds jobs that a limit does not let run, and says how many were released again at once.
    async fn hold(&self, full: Vec<(ObjectId, Limit)>) -> Result<u64> {
        if full.is_empty() {
            return Ok(0);
        }
        let mut waiting: Vec<(&Limit, Vec<ObjectId>)> = Vec::new();
        for (id, limit) in &full {
            match waiting.iter_mut().find(|(known, _)| *known == limit) {
                Some((_, ids)) => ids.push(*id),
                None => waiting.push((limit, vec![*id])),
            }
        }
        let mut statements = Vec::new();
        for (limit, ids) in &waiting {
            statements.push(self.statement(doc! { "$in": ids }.into(), &limit.wait())?);
        }
        self.store
            .write(Verb::Update, &statements, Durability::Majority)
            .await?;
        // Only now: who looks before the hold can be seen finds nobody that waits.
        let mut noting: Vec<BoxFuture<'_, Result<()>>> = Vec::new();
        for (limit, _) in &waiting {
            let (now, again) = (self.now, limit.again());
            if again.is_some() || limit.rate().is_some() {
                let wait = move |stored: &mut StoredLimit| stored.wait(now, again);
                let noted = change_limit(self.store, &limit.key, wait);
                noting.push(noted.map_ok(drop).boxed());
            }
        }
        let noting = stream::iter(noting).buffer_unordered(AT_ONCE);
        noting.try_collect::<()>().await?;
        // A place may have become free before the hold could be seen; then nobody else gives it on.
        let limits = full.iter().map(|(_, limit)| limit);
        let free = read_free(self.store, limits, &self.token).await?;
        let mut released = 0;
        for (key, free) in free.iter().filter(|(_, free)| !free.is_empty()) {
            released += self
                .store
                .release_jobs(&Limit::hold(key), free.len())
                .await?;
        }
        Ok(released)
    }

    /// Fails documents that cannot be read.
    async fn set_aside(&mut self, undecodable: Vec<(Option<Bson>, SetAside)>) -> Result<()> {
        let mut statements = Vec::new();
        for (id, aside) in undecodable {
            let Some(id) = id else {
                // Not even the id can be read: it stays, and is passed by.
                self.passed += 1;
                continue;
            };
            let condition = doc! {
                name::ID: { "$eq": id },
                name::STATE: { "$gte": State::Queued.as_str() },
                name::READY: true,
            };
            let change = RawDocumentBuf::try_from(operators(&aside.fail(self.now)))
                .map_err(error::unusable)?;
            statements.push(command::update(condition, &change)?);
            tracing::warn!(
                id = aside.id,
                reason = aside.reason,
                "an undecodable document is set aside"
            );
            self.claimed.set_aside.push(aside);
        }
        if !statements.is_empty() {
            let written = self
                .store
                .write(Verb::Update, &statements, Durability::Majority)
                .await?;
            self.passed += written.failures.len();
            written.failures.iter().for_each(warn);
        }
        Ok(())
    }
}

fn warn(failure: &WriteFailure) {
    let error = failure.to_error();
    tracing::warn!(error = %error.chain(), "a job cannot be claimed");
}
