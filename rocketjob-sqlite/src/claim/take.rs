//! Takes candidates: each is set to running together with its slots, or held, or set aside.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use rocketjob_core::{Change, Claim, Claimed, JobDocument, Limit, Result};

use super::{Candidate, Plan};
use crate::{
    error::Failure,
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

impl Take {
    /// Takes as many as are wanted and adds them to `claimed`.
    pub(super) async fn run(self, store: &SqliteStore, claimed: &mut Claimed) -> Result<()> {
        let writes = |candidate: &Candidate| !matches!(candidate.plan, Plan::Join(_));
        if !self.candidates.iter().any(writes) {
            let batches =
                self.candidates
                    .into_iter()
                    .filter_map(|candidate| match candidate.plan {
                        Plan::Join(batch) => Some(batch),
                        _ => None,
                    });
            claimed.batches.extend(batches.take(self.missing));
            return Ok(());
        }
        let taken = store.write(move |session| self.write(session)).await?;
        claimed.jobs.extend(taken.jobs);
        claimed.batches.extend(taken.batches);
        claimed.set_aside.extend(taken.set_aside);
        Ok(())
    }

    fn write(self, session: &Session<'_>) -> Result<Claimed, Failure> {
        let mut taken = Claimed::default();
        let mut places = Places::new(session);
        for Candidate { stored, plan } in self.candidates {
            if taken.jobs.len() + taken.batches.len() == self.missing {
                break;
            }
            let plan = match plan {
                Plan::Join(batch) => {
                    taken.batches.push(batch);
                    continue;
                }
                plan => plan,
            };
            // Another claim, or an operator, was faster: what the limits said may be wrong, too.
            if session.row(&stored.row.id)?.as_ref() != Some(&stored.row) {
                continue;
            }
            match plan {
                Plan::Join(_) => {}
                Plan::SetAside(aside) => {
                    session.mark(&stored, &aside.fail(self.now))?;
                    taken.set_aside.push(aside);
                }
                Plan::Start(limits) => match places.find(&limits)? {
                    Err(full) => {
                        session.mark(&stored, &Limit::wait(full))?;
                    }
                    Ok(slots) => {
                        let turn = (self.turn + taken.jobs.len()) % self.workers.len();
                        let claim = Claim {
                            token: self.token.clone(),
                            worker_name: self.workers[turn].clone(),
                        };
                        let change = claim.start(self.now, slots);
                        taken.jobs.extend(start(session, &stored, &change)?);
                    }
                },
            }
        }
        Ok(taken)
    }
}

fn start(
    session: &Session<'_>,
    stored: &Stored,
    change: &Change,
) -> Result<Option<JobDocument>, Failure> {
    let after = session.mark(stored, change)?;
    Ok(JobDocument::new(after.document).ok())
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
