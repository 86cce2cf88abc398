//! What a store should do, as simply as it can be said: a list of documents, read from end to end.

use bson::{Bson, Document, oid::ObjectId};
use jiff::Timestamp;
use rocketjob_core::{
    Change, Filter, JobDocument, Limit, Patch, Query, Refusal, State, date, name,
};

use super::operation::LIMITS;

/// A document of the model as the core reads it.
fn job(document: &Document) -> JobDocument {
    JobDocument::new(document.clone()).expect("the model holds valid documents")
}

/// What a write may answer: where two jobs hold keys, a store may tell either.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    Done,
    Refused(Refusal),
    Existing(Vec<ObjectId>),
}

pub(super) struct Claiming<'a> {
    pub(super) token: String,
    pub(super) workers: &'a [String],
    pub(super) count: usize,
    pub(super) kinds: &'a [String],
    pub(super) filter: Option<&'a Filter>,
    pub(super) skip: usize,
    pub(super) observes_limits: bool,
}

/// A store that does one thing after the other, on a clock that stands still.
#[derive(Debug)]
pub(super) struct Reference {
    pub(super) now: Timestamp,
    pub(super) jobs: Vec<Document>,
}

impl Reference {
    fn position(&self, id: ObjectId) -> Option<usize> {
        self.jobs
            .iter()
            .position(|document| job(document).id() == id)
    }

    pub(super) fn get(&self, id: ObjectId) -> Option<JobDocument> {
        self.position(id).map(|position| job(&self.jobs[position]))
    }

    /// The jobs other than itself that hold a key which `candidate` would hold.
    fn rivals(&self, candidate: &JobDocument) -> Vec<ObjectId> {
        let keys = |job: &JobDocument| {
            let active = matches!(job.state(), State::Queued | State::Running);
            let unfinished = !job.state().is_end();
            let key = |field: &str, counts: bool| job.get(field).cloned().filter(|_| counts);
            [
                key(name::UNIQUE_KEY, active),
                key(name::UNFINISHED_KEY, unfinished),
            ]
        };
        let wanted = keys(candidate);
        self.jobs
            .iter()
            .map(job)
            .filter(|other| other.id() != candidate.id())
            .filter(|other| {
                let held = keys(other);
                (0..2).any(|index| wanted[index].is_some() && wanted[index] == held[index])
            })
            .map(|other| other.id())
            .collect()
    }

    pub(super) fn insert(&mut self, new: &JobDocument) -> Answer {
        if self.position(new.id()).is_some() {
            return Answer::Existing(vec![new.id()]);
        }
        let rivals = self.rivals(new);
        if !rivals.is_empty() {
            return Answer::Existing(rivals);
        }
        self.jobs.push(new.as_document().clone());
        Answer::Done
    }

    pub(super) fn claim(&mut self, claiming: &Claiming<'_>) -> Vec<ObjectId> {
        let mut candidates: Vec<JobDocument> = self
            .jobs
            .iter()
            .map(job)
            .filter(|job| {
                job.state() == State::Queued
                    && job.is_ready()
                    && job.run_at().is_none_or(|run_at| run_at <= self.now)
                    && claiming.kinds.iter().any(|kind| kind == job.kind())
                    && claiming
                        .filter
                        .is_none_or(|filter| filter.matches(job.as_document()))
            })
            .collect();
        candidates.sort_by_key(|job| (job.priority(), job.id()));
        if claiming.skip < candidates.len() {
            candidates.drain(..claiming.skip);
        }
        let mut claimed = Vec::new();
        for candidate in candidates {
            if claimed.len() == claiming.count {
                break;
            }
            let mut change = Change::new();
            match limit(&candidate).filter(|_| claiming.observes_limits) {
                Some((key, max)) if self.running_under(key) >= max as usize => {
                    change.put(name::HOLD, Limit::hold(key));
                    change.take(name::READY);
                    self.write(candidate.id(), &change);
                    continue;
                }
                Some((key, _)) => change.put(name::SLOTS, vec![key]),
                None => change.take(name::SLOTS),
            }
            let worker = &claiming.workers[claimed.len() % claiming.workers.len()];
            change.put(name::STATE, State::Running.as_str());
            change.put(name::CLAIM, claiming.token.clone());
            change.put(name::WORKER_NAME, worker);
            change.put(name::STARTED_AT, date(self.now));
            change.take(name::READY);
            change.take(name::HOLD);
            self.write(candidate.id(), &change);
            claimed.push(candidate.id());
        }
        claimed
    }

    fn running_under(&self, key: &str) -> usize {
        self.jobs
            .iter()
            .map(job)
            .filter(|job| {
                job.state() == State::Running
                    && job.get(name::SLOTS) == Some(&Bson::from(vec![key.to_owned()]))
            })
            .count()
    }

    /// Makes a change without any condition.
    pub(super) fn write(&mut self, id: ObjectId, change: &Change) {
        if let Some(position) = self.position(id) {
            change.apply(&mut self.jobs[position]);
        }
    }

    pub(super) fn update(&mut self, patch: &Patch) -> Answer {
        let Some(position) = self.position(patch.id) else {
            return Answer::Refused(Refusal::NotFound);
        };
        let before = job(&self.jobs[position]);
        if !patch.guard.holds(before.as_document()) {
            return Answer::Refused(patch.guard.refusal(before.as_document()));
        }
        if patch.change.delete {
            self.jobs.remove(position);
            return Answer::Done;
        }
        let mut after = before.into_document();
        patch.change.apply(&mut after);
        let rivals = self.rivals(&job(&after));
        if !rivals.is_empty() {
            return Answer::Existing(rivals);
        }
        self.jobs[position] = after;
        Answer::Done
    }

    pub(super) fn settle(&mut self, patch: &Patch) -> Answer {
        let stored = self.get(patch.id);
        match self.update(patch) {
            Answer::Refused(refusal) => {
                let mark = patch.change.set.get(name::RETRIED_CLAIM);
                let settled = stored.is_some_and(|stored| {
                    if mark.is_some() {
                        return stored.get(name::RETRIED_CLAIM) == mark;
                    }
                    let token = stored.get(name::CLAIM).and_then(Bson::as_str);
                    let own = patch.guard.claim.as_ref().map(|claim| claim.token.as_str());
                    own.is_some()
                        && token == own
                        && stored.state() != State::Running
                        && patch.change.state() == Some(stored.state())
                });
                if settled {
                    Answer::Done
                } else {
                    Answer::Refused(refusal)
                }
            }
            answer => answer,
        }
    }

    pub(super) fn promote(&mut self) -> u64 {
        let mut promoted = 0;
        for position in 0..self.jobs.len() {
            let job = job(&self.jobs[position]);
            if job.state() != State::Queued {
                continue;
            }
            let is_due = job.run_at().is_none_or(|run_at| run_at <= self.now);
            let change = match job.hold() {
                Some(name::HOLD_SCHEDULED) if is_due => ready(),
                None if !job.is_ready() && is_due => ready(),
                None if !job.is_ready() => Change::new().set(name::HOLD, name::HOLD_SCHEDULED),
                _ => continue,
            };
            change.apply(&mut self.jobs[position]);
            promoted += 1;
        }
        promoted
    }

    pub(super) fn release(&mut self, hold: &str, count: usize) -> u64 {
        let mut held: Vec<JobDocument> = self
            .jobs
            .iter()
            .map(job)
            .filter(|job| job.state() == State::Queued && job.hold() == Some(hold))
            .collect();
        held.sort_by_key(|job| (job.priority(), job.id()));
        held.truncate(count);
        for job in &held {
            self.write(job.id(), &ready());
        }
        held.len() as u64
    }

    pub(super) fn delete(&mut self, filter: &Filter) -> u64 {
        let before = self.jobs.len();
        self.jobs.retain(|document| {
            job(document).state() == State::Running || !filter.matches(document)
        });
        (before - self.jobs.len()) as u64
    }

    /// Lists by priority, which every job of the model has.
    pub(super) fn find(&self, query: &Query) -> Vec<ObjectId> {
        let mut found: Vec<JobDocument> = self
            .jobs
            .iter()
            .filter(|document| query.filter.matches(document))
            .map(job)
            .collect();
        found.sort_by_key(|job| (job.priority(), job.id()));
        if query.descending {
            found.reverse();
        }
        found.truncate(query.limit);
        found.iter().map(JobDocument::id).collect()
    }

    pub(super) fn claims_of(&self, server: ObjectId) -> Vec<ObjectId> {
        let prefix = format!("{}:", server.to_hex());
        let mut claims: Vec<ObjectId> = self
            .jobs
            .iter()
            .map(job)
            .filter(|job| {
                let claim = job.get(name::CLAIM).and_then(Bson::as_str);
                job.state() == State::Running
                    && claim.is_some_and(|claim| claim.starts_with(&prefix))
            })
            .map(|job| job.id())
            .collect();
        claims.sort_unstable();
        claims
    }
}

/// The limit that a job names, and how many may run under it.
fn limit(job: &JobDocument) -> Option<(&'static str, u32)> {
    let key = job.get("limit")?.as_str()?;
    LIMITS.into_iter().find(|(name, _)| *name == key)
}

fn ready() -> Change {
    Change::new().set(name::READY, true).unset(name::HOLD)
}
