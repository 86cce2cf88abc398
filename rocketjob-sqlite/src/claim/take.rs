//! Takes candidates: each is set to running together with its slots, or held, or set aside.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use rocketjob_core::{Change, Claim, Claimed, JobDocument, Limit, Result, name};
use rusqlite::Statement;

use super::{Candidate, Plan};
use crate::{
    error::Failure,
    row::Row,
    session::{Session, Stored},
    sql,
    store::SqliteStore,
};

/// What is taken, by whom.
#[derive(Debug)]
pub(super) struct Take {
    /// In the order of claims.
    pub(super) candidates: Vec<Candidate>,
    /// How many are wanted.
    pub(super) missing: usize,
    pub(super) token: String,
    /// They get the jobs in turn, beginning with number `turn`.
    pub(super) workers: Vec<String>,
    pub(super) turn: usize,
    pub(super) now: Timestamp,
}

/// What became of a candidate.
#[derive(Debug)]
enum Fate {
    /// Somebody was faster, or it has to wait.
    Left,
    /// As it was planned, without a claim.
    Done,
    /// It runs, with the worker of this number and in these places.
    Begun { worker: usize, slots: Vec<String> },
}

impl Take {
    /// Takes as many as are wanted and adds them to `claimed`.
    pub(super) async fn run(self, store: &SqliteStore, claimed: &mut Claimed) -> Result<()> {
        let writes = |candidate: &Candidate| !matches!(candidate.plan, Plan::Join(_));
        let (take, fates) = if self.candidates.iter().any(writes) {
            // What only this process sees of it is done after the transaction: others wait.
            store
                .write(move |session| {
                    let fates = self.write(session)?;
                    Ok((self, fates))
                })
                .await?
        } else {
            let joined = self.candidates.iter().take(self.missing);
            let fates = joined.map(|_| Fate::Done).collect();
            (self, fates)
        };
        take.tell(fates, claimed);
        Ok(())
    }

    /// What becomes of each candidate, until there are as many as are wanted.
    fn write(&self, session: &Session<'_>) -> Result<Vec<Fate>, Failure> {
        let mut fates = Vec::with_capacity(self.candidates.len());
        let mut places = Places::new(session);
        let mut start = session.prepare(sql::START)?;
        let (mut begun, mut joined) = (0, 0);
        for candidate in &self.candidates {
            if begun + joined == self.missing {
                break;
            }
            let worker = (self.turn + begun) % self.workers.len();
            let fate = self.write_one(session, &mut start, &mut places, candidate, worker)?;
            begun += usize::from(matches!(fate, Fate::Begun { .. }));
            joined += usize::from(matches!(candidate.plan, Plan::Join(_)));
            fates.push(fate);
        }
        Ok(fates)
    }

    fn write_one(
        &self,
        session: &Session<'_>,
        start: &mut Statement<'_>,
        places: &mut Places<'_>,
        Candidate { row, plan }: &Candidate,
        worker: usize,
    ) -> Result<Fate, Failure> {
        // Another claim, or an operator, may have been faster: what the limits said may be wrong
        // then, too.
        let is_as_it_was = || Ok::<_, Failure>(session.row(&row.id)?.as_ref() == Some(row));
        match plan {
            Plan::Join(_) => Ok(Fate::Done),
            Plan::Start(job, limits) if limits.is_empty() && is_plain(row, job) => {
                let worker_name = &self.workers[worker];
                let begun = Session::start(start, row, &self.token, worker_name, self.now)?;
                let slots = Vec::new();
                Ok(if begun {
                    Fate::Begun { worker, slots }
                } else {
                    Fate::Left
                })
            }
            _ if !is_as_it_was()? => Ok(Fate::Left),
            Plan::SetAside(aside) => {
                session.mark(&Stored::new(row.clone()), &aside.fail(self.now))?;
                Ok(Fate::Done)
            }
            Plan::Start(job, limits) => {
                let stored = Stored {
                    row: row.clone(),
                    document: job.as_document().clone(),
                };
                match places.find(limits)? {
                    Err(full) => {
                        session.mark(&stored, &Limit::wait(full))?;
                        Ok(Fate::Left)
                    }
                    Ok(slots) => {
                        session.mark(&stored, &self.start(worker, slots.clone()))?;
                        Ok(Fate::Begun { worker, slots })
                    }
                }
            }
        }
    }

    /// What is written to a job that begins.
    fn start(&self, worker: usize, slots: Vec<String>) -> Change {
        let claim = Claim {
            token: self.token.clone(),
            worker_name: self.workers[worker].clone(),
        };
        claim.start(self.now, slots)
    }

    fn tell(mut self, fates: Vec<Fate>, claimed: &mut Claimed) {
        let candidates = std::mem::take(&mut self.candidates);
        // Many jobs have one worker when they are read ahead.
        let mut starts = vec![None; self.workers.len()];
        for (candidate, fate) in candidates.into_iter().zip(fates) {
            match (candidate.plan, fate) {
                (Plan::Start(job, _), Fate::Begun { worker, slots }) => {
                    let mut document = job.into_document();
                    if slots.is_empty() {
                        let start = || self.start(worker, Vec::new());
                        starts[worker]
                            .get_or_insert_with(start)
                            .apply(&mut document);
                    } else {
                        self.start(worker, slots).apply(&mut document);
                    }
                    claimed.jobs.extend(JobDocument::new(document));
                }
                (Plan::Join(batch), Fate::Done) => claimed.batches.push(batch),
                (Plan::SetAside(aside), Fate::Done) => claimed.set_aside.push(aside),
                _ => {}
            }
        }
    }
}

/// Whether only columns change when the job begins.
fn is_plain(row: &Row, job: &JobDocument) -> bool {
    !row.is_misfit() && !job.as_document().contains_key(name::SLOTS)
}

/// The free places of limits, counted in the transaction that takes them.
#[derive(Debug)]
struct Places<'s> {
    session: &'s Session<'s>,
    taken: HashMap<String, BTreeSet<u32>>,
}

impl<'s> Places<'s> {
    fn new(session: &'s Session<'s>) -> Self {
        Self {
            session,
            taken: HashMap::new(),
        }
    }

    /// Takes a place in each of `limits`, or in none: then says the key of the one that is full.
    fn find<'l>(&mut self, limits: &'l [Limit]) -> Result<Result<Vec<String>, &'l str>, Failure> {
        let mut found: Vec<(&str, u32)> = Vec::new();
        for limit in limits {
            let taken = self.taken(&limit.key)?;
            let mine: BTreeSet<u32> = found
                .iter()
                .filter(|(key, _)| *key == limit.key)
                .map(|(_, number)| *number)
                .collect();
            let is_full =
                taken.len() + mine.len() >= usize::try_from(limit.max).unwrap_or(usize::MAX);
            let free =
                (0..limit.max).find(|number| !taken.contains(number) && !mine.contains(number));
            match free {
                Some(number) if !is_full => found.push((&limit.key, number)),
                _ => return Ok(Err(&limit.key)),
            }
        }
        for (key, number) in &found {
            if let Some(taken) = self.taken.get_mut(*key) {
                taken.insert(*number);
            }
        }
        let slots = found.iter().map(|(key, number)| Limit::slot(key, *number));
        Ok(Ok(slots.collect()))
    }

    fn taken(&mut self, key: &str) -> Result<&BTreeSet<u32>, Failure> {
        if !self.taken.contains_key(key) {
            let mut statement = self.session.prepare(sql::SLOTS)?;
            let numbers = statement.query_map([key], |row| row.get(0))?;
            let numbers = numbers.collect::<Result<_, _>>()?;
            self.taken.insert(key.to_owned(), numbers);
        }
        Ok(self.taken.entry(key.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests;
