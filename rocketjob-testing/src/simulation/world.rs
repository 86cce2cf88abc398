//! The world in which servers are simulated: one store, and an eye on everything that happens to it.
//!
//! Each operation is checked as it happens against the invariants of the design: nothing is lost, at
//! most one valid claim, one accepted outcome for each, limits and unique keys exact, nobody
//! declared dead who lives.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write as _,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use bson::{Document, oid::ObjectId};
use jiff::SignedDuration;
use parking_lot::Mutex;
use rocketjob_core::{
    ClaimRequest, ClaimToken, Claimed, Guard, IdSource, Insertion, JobDocument, JobStore,
    MemoryStore, Patch, Refusal, Result, ServerDocument, ServerStore, Settled, State, name,
};
use rocketjob_worker::simulation::{Planted, Process};

use super::{
    clock::VirtualClock,
    jobs::{INDEX, LIMIT},
};

/// How many of the last steps are shown with a violation.
const SHOWN: usize = 60;

/// The store and what is known about it from outside. Cloning it gives another handle.
#[derive(Debug, Clone)]
pub(super) struct World(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: MemoryStore,
    clock: VirtualClock,
    planted: Option<Planted>,
    random: Mutex<fastrand::Rng>,
    ledger: Mutex<Ledger>,
}

/// What has happened so far.
#[derive(Debug, Default)]
struct Ledger {
    /// Jobs that must exist.
    jobs: BTreeSet<ObjectId>,
    /// Jobs that went on purpose.
    gone: BTreeSet<ObjectId>,
    /// How each job stood after the last step.
    states: BTreeMap<ObjectId, (State, Option<String>)>,
    /// The outcome that was accepted for each claim, and by which process.
    outcomes: BTreeMap<(ObjectId, String), (Option<State>, usize)>,
    completed: BTreeSet<ObjectId>,
    /// The claims under which a job was begun, and by which process.
    begun: BTreeMap<ObjectId, Vec<(String, usize)>>,
    servers: BTreeMap<ObjectId, Life>,
    /// Numbers of links that exist.
    links: BTreeMap<i64, ObjectId>,
    steps: u64,
    trace: VecDeque<String>,
    hash: u64,
    violation: Option<String>,
}

#[derive(Debug)]
struct Life {
    last_beat: Duration,
    lease: Duration,
    removed_by_hand: bool,
}

impl World {
    pub(super) fn new(seed: u64, planted: Option<Planted>) -> Self {
        let clock = VirtualClock::start();
        Self(Arc::new(Inner {
            store: MemoryStore::with_ids(clock.clone(), IdSource::of(*b"world")),
            clock,
            planted,
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            ledger: Mutex::default(),
        }))
    }

    /// The store itself, without any network in between.
    pub(super) fn store(&self) -> &MemoryStore {
        &self.0.store
    }

    pub(super) fn planted(&self) -> Option<Planted> {
        self.0.planted
    }

    pub(super) fn set_clock(&self, offset: SignedDuration) {
        self.0.clock.jump_to(offset);
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.0.clock.elapsed()
    }

    /// A number in `range`, the next of the seed's.
    pub(super) fn number(&self, range: std::ops::Range<u64>) -> u64 {
        self.0.random.lock().u64(range)
    }

    /// Whether what has a chance of `percent` in a hundred comes true.
    pub(super) fn chance(&self, percent: u64) -> bool {
        self.number(0..100) < percent
    }

    /// What was broken first, if anything.
    pub(super) fn violation(&self) -> Option<String> {
        self.0.ledger.lock().violation.clone()
    }

    /// The last steps, for people.
    pub(super) fn last_steps(&self) -> String {
        self.0
            .ledger
            .lock()
            .trace
            .iter()
            .fold(String::new(), |mut text, line| {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "  {line}");
                text
            })
    }

    /// How many steps there were, and a number that tells one course of events from another.
    pub(super) fn course(&self) -> (u64, u64) {
        let ledger = self.0.ledger.lock();
        (ledger.steps, ledger.hash)
    }

    /// Notes a step.
    pub(super) fn note(&self, line: impl FnOnce() -> String) {
        let line = format!("{:>9.3} {}", self.elapsed().as_secs_f64(), line());
        let mut ledger = self.0.ledger.lock();
        let mut hasher = DefaultHasher::new();
        (ledger.hash, &line).hash(&mut hasher);
        ledger.hash = hasher.finish();
        ledger.steps += 1;
        if ledger.violation.is_some() {
            // What comes after it only hides what led to it.
            return;
        }
        ledger.trace.push_back(line);
        if ledger.trace.len() > SHOWN {
            ledger.trace.pop_front();
        }
    }

    /// An invariant is broken; only the first counts.
    pub(super) fn broken(&self, what: impl Into<String>) {
        let mut ledger = self.0.ledger.lock();
        if ledger.violation.is_none() {
            ledger.violation = Some(what.into());
        }
    }

    /// `create` returned Ok: the job must not be lost from now on.
    pub(super) fn created(&self, id: ObjectId) {
        self.0.ledger.lock().jobs.insert(id);
        self.look();
    }

    /// A process begins to perform a job.
    fn begins(&self, process: usize, job: &JobDocument) {
        let Some(claim) = job.claim() else {
            return self.broken("a job was begun without any claim");
        };
        let id = job.id();
        self.note(|| format!("server {process} begins {} {id}", job.kind()));
        let mut wrong = None;
        {
            let mut ledger = self.0.ledger.lock();
            let by_hand = ClaimToken::server_of(&claim.token)
                .and_then(|server| ledger.servers.get(&server))
                .is_some_and(|life| life.removed_by_hand);
            if ledger.completed.contains(&id) && !by_hand {
                wrong = Some(format!(
                    "{} {id} was begun after it had completed",
                    job.kind()
                ));
            }
            if job.kind() == "Once" {
                // Whoever had begun it must have handed it back itself.
                let before = ledger.begun.get(&id).into_iter().flatten();
                for (token, by) in before {
                    let outcome = ledger.outcomes.get(&(id, token.clone()));
                    if outcome != Some(&(Some(State::Queued), *by)) {
                        wrong = Some(format!("Once {id} was begun again under {}", claim.token));
                    }
                }
            }
            let begun = ledger.begun.entry(id).or_default();
            begun.push((claim.token, process));
        }
        if let Some(wrong) = wrong {
            self.broken(wrong);
        }
    }

    pub(super) async fn insert(&self, jobs: Vec<JobDocument>) -> Result<Vec<Insertion>> {
        let inserted = self.0.store.insert(jobs.clone()).await?;
        self.inserted(&jobs, &inserted);
        self.look();
        Ok(inserted)
    }

    fn inserted(&self, jobs: &[JobDocument], insertions: &[Insertion]) {
        for (job, insertion) in jobs.iter().zip(insertions) {
            if *insertion == Insertion::Inserted {
                if self.0.ledger.lock().gone.contains(&job.id()) {
                    self.broken(format!("{} was inserted again after it had gone", job.id()));
                }
                self.link(job.as_document());
            }
        }
    }

    /// A link of a chain exists: there is only one of each number.
    fn link(&self, document: &Document) {
        let (Ok(id), Ok(index)) = (document.get_object_id(name::ID), document.get_i64(INDEX))
        else {
            return;
        };
        let before = self.0.ledger.lock().links.insert(index, id);
        if before.is_some_and(|before| before != id) {
            self.broken(format!("the chain forks: link {index} exists twice"));
        }
    }

    pub(super) async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claimed> {
        let mut claimed = self.0.store.claim(request).await?;
        if self.0.planted == Some(Planted::ClaimTwice) && self.chance(20) {
            claimed.jobs.extend(self.claim_again(request));
        }
        let token = request.token.to_string();
        for job in &claimed.jobs {
            let before = self.0.ledger.lock().states.get(&job.id()).cloned();
            if let Some((State::Running, Some(other))) = before {
                self.broken(format!(
                    "{} {} is claimed under {token} while it is claimed under {other}",
                    job.kind(),
                    job.id()
                ));
            }
            if !request.kinds.iter().any(|kind| kind == job.kind()) {
                self.broken(format!(
                    "a {} was claimed that nobody asked for",
                    job.kind()
                ));
            }
            let stored = self.0.store.raw(job.id());
            let runs = stored.is_some_and(|stored| {
                stored.get_str(name::STATE).ok() == Some(State::Running.as_str())
                    && stored.get_str(name::CLAIM).ok() == Some(token.as_str())
            });
            if !runs {
                self.broken(format!("{} was handed out and does not run", job.id()));
            }
            if job
                .run_at()
                .is_some_and(|run_at| run_at > self.0.store.now())
            {
                self.broken(format!("{} was claimed before its time", job.id()));
            }
        }
        self.look();
        Ok(claimed)
    }

    /// [`Planted::ClaimTwice`].
    fn claim_again(&self, request: &ClaimRequest<'_>) -> Option<JobDocument> {
        let id = {
            let ledger = self.0.ledger.lock();
            let mut running = ledger.states.iter();
            *running.find(|(_, (state, _))| *state == State::Running)?.0
        };
        let change = rocketjob_core::Change::new()
            .set(name::CLAIM, request.token.to_string())
            .set(name::WORKER_NAME, request.workers.first()?.clone());
        self.0.store.change_raw(id, &change);
        JobDocument::new(self.0.store.raw(id)?).ok()
    }

    pub(super) async fn settle(&self, process: usize, patches: Vec<Patch>) -> Result<Vec<Settled>> {
        let before: Vec<_> = patches
            .iter()
            .map(|patch| self.0.store.raw(patch.id))
            .collect();
        let mut written = patches.clone();
        if self.0.planted == Some(Planted::UnfencedSettle) {
            for patch in &mut written {
                patch.guard = Guard::default();
            }
        }
        let settled = self.0.store.settle(written).await?;
        for ((patch, before), outcome) in patches.iter().zip(before).zip(&settled) {
            if *outcome == Settled::Accepted {
                self.accepted(process, patch, before.as_ref());
            }
        }
        self.look();
        Ok(settled)
    }

    /// A write of a claim's holder was accepted.
    fn accepted(&self, process: usize, patch: &Patch, before: Option<&Document>) {
        let Some(claim) = &patch.guard.claim else {
            return self.broken("a claim's holder wrote without saying which claim");
        };
        let id = patch.id;
        let held = before.is_some_and(|before| patch.guard.holds(before));
        let repeated = match before {
            Some(before) => patch.was_made(before),
            None => patch.change.delete,
        };
        if !held && !repeated {
            let before = before.map(|before| {
                let text = |field| before.get_str(field).unwrap_or_default().to_owned();
                (text(name::STATE), text(name::CLAIM))
            });
            return self.broken(format!(
                "a write under {} was accepted for {id}, which stands as {before:?}",
                claim.token
            ));
        }
        let state = patch.change.state();
        let ends = patch.change.delete || state.is_some_and(|state| state != State::Running);
        if !held || !ends {
            return;
        }
        let mut twice = false;
        {
            let mut ledger = self.0.ledger.lock();
            let key = (id, claim.token.clone());
            twice |= ledger.outcomes.insert(key, (state, process)).is_some();
            if patch.change.delete || state == Some(State::Completed) {
                twice |= !ledger.completed.insert(id);
            }
            if patch.change.delete {
                ledger.gone.insert(id);
            }
        }
        if twice {
            self.broken(format!(
                "two outcomes of {id} were accepted for {}",
                claim.token
            ));
        }
    }

    pub(super) async fn update(&self, patch: Patch) -> Result<Result<JobDocument, Refusal>> {
        let updated = self.0.store.update(patch.clone()).await?;
        if updated.is_ok() && patch.change.delete {
            self.0.ledger.lock().gone.insert(patch.id);
        }
        self.look();
        Ok(updated)
    }

    pub(super) async fn update_and_insert(
        &self,
        patch: Patch,
        jobs: Vec<JobDocument>,
    ) -> Result<Result<Vec<Insertion>, Refusal>> {
        let (id, delete) = (patch.id, patch.change.delete);
        let written = self.0.store.update_and_insert(patch, jobs.clone()).await?;
        if let Ok(insertions) = &written {
            if delete {
                self.0.ledger.lock().gone.insert(id);
            }
            self.inserted(&jobs, insertions);
        }
        self.look();
        Ok(written)
    }

    pub(super) async fn insert_server(&self, server: &ServerDocument) -> Result<()> {
        self.0.store.insert_server(server).await?;
        let life = Life {
            last_beat: self.elapsed(),
            lease: server.lease(),
            removed_by_hand: false,
        };
        self.0
            .ledger
            .lock()
            .servers
            .entry(server.id)
            .or_insert(life);
        Ok(())
    }

    pub(super) async fn heartbeat(
        &self,
        id: ObjectId,
        workers: u32,
    ) -> Result<Option<ServerDocument>> {
        let beat = self.0.store.heartbeat(id, workers).await?;
        if beat.is_some()
            && let Some(life) = self.0.ledger.lock().servers.get_mut(&id)
        {
            life.last_beat = self.0.clock.elapsed();
        }
        Ok(beat)
    }

    pub(super) async fn declare_dead(&self, id: ObjectId, counter: u64) -> Result<bool> {
        let dead = self.0.store.declare_dead(id, counter).await?;
        let now = self.elapsed();
        let alive = {
            let ledger = self.0.ledger.lock();
            let life = ledger.servers.get(&id);
            life.filter(|life| now.saturating_sub(life.last_beat) < life.lease)
                .map(|life| now.saturating_sub(life.last_beat))
        };
        if dead && let Some(since) = alive {
            self.broken(format!(
                "server {id} was declared dead {since:?} after a sign of life"
            ));
        }
        Ok(dead)
    }

    /// Somebody removes a server's document.
    pub(super) async fn remove_by_hand(&self, id: ObjectId) -> Result<()> {
        if let Some(life) = self.0.ledger.lock().servers.get_mut(&id) {
            life.removed_by_hand = true;
        }
        self.0.store.remove_server(id).await.map(drop)
    }

    /// Looks whether all that holds at every moment holds now.
    pub(super) fn look(&self) {
        let mut states = BTreeMap::new();
        let mut slots = BTreeSet::new();
        let (mut limited, mut singles) = (0, 0);
        let mut wrong = None;
        self.0.store.visit(|document| {
            let (Ok(id), Some(state)) = (
                document.get_object_id(name::ID),
                document
                    .get_str(name::STATE)
                    .ok()
                    .and_then(State::from_name),
            ) else {
                wrong = Some("a document without id or state".to_owned());
                return;
            };
            let claim = document.get_str(name::CLAIM).ok().map(ToOwned::to_owned);
            let kind = document.get_str(name::KIND).unwrap_or_default();
            if state == State::Running {
                limited += u32::from(kind == "Limited");
                for slot in document.get_array(name::SLOTS).into_iter().flatten() {
                    if !slots.insert(slot.to_string()) {
                        wrong = Some(format!("two running jobs have the place {slot}"));
                    }
                }
            }
            if kind == "Single" && matches!(state, State::Queued | State::Running) {
                singles += 1;
            }
            states.insert(id, (state, claim));
        });
        if limited > LIMIT {
            wrong = Some(format!("{limited} limited jobs run, and {LIMIT} may"));
        }
        if singles > 1 {
            wrong = Some(format!("{singles} singletons are active"));
        }
        {
            let mut ledger = self.0.ledger.lock();
            let lost = ledger
                .jobs
                .iter()
                .find(|id| !states.contains_key(id) && !ledger.gone.contains(id));
            if let Some(lost) = lost {
                wrong = Some(format!("{lost} is lost"));
            }
            for id in &ledger.completed {
                let state = states.get(id).map(|(state, _)| *state);
                if state.is_some_and(|state| state != State::Completed) {
                    wrong = Some(format!("{id} had completed and is {state:?} now"));
                }
            }
            ledger.states = states;
        }
        if let Some(wrong) = wrong {
            self.broken(wrong);
        }
    }

    /// All documents as they stand.
    pub(super) fn documents(&self) -> Vec<JobDocument> {
        let mut documents = Vec::new();
        self.0.store.visit(|document| {
            documents.extend(JobDocument::new(document.clone()).ok());
        });
        documents
    }
}

/// What the jobs of one process see of the world: their application's state.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) world: World,
    pub(super) number: usize,
    pub(super) process: Process,
}

impl Local {
    pub(super) fn begins(&self, job: &JobDocument) {
        self.world.begins(self.number, job);
    }

    pub(super) fn pause(&self) -> Duration {
        Duration::from_millis(self.world.number(10..500))
    }

    /// Ends the process at once.
    pub(super) fn die(&self) {
        self.world
            .note(|| format!("server {} dies of poison", self.number));
        self.process.kill();
    }
}
