//! Takes candidates: each is set to running together with its slots, or held, or set aside.

use jiff::Timestamp;
use rocketjob_core::{Change, Claim, Claimed, JobDocument, Result, name};
use rusqlite::Statement;

use super::{
    Candidate, Mint, Plan,
    grant::{Granted, Grants},
};
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
    pub(super) mint: Mint,
}

/// What became of a candidate.
#[derive(Debug)]
enum Fate {
    /// Somebody was faster, or it has to wait.
    Left,
    /// As it was planned, without a claim.
    Done,
    /// It runs, with the worker of this number and in these places.
    Begun { worker: usize, granted: Granted },
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
        let mut grants = Grants::new(session, self.now, &self.mint);
        let mut start = session.prepare(sql::START)?;
        let (mut begun, mut joined) = (0, 0);
        for candidate in &self.candidates {
            if begun + joined == self.missing {
                break;
            }
            let worker = (self.turn + begun) % self.workers.len();
            let fate = self.write_one(session, &mut start, &mut grants, candidate, worker)?;
            begun += usize::from(matches!(fate, Fate::Begun { .. }));
            joined += usize::from(matches!(candidate.plan, Plan::Join(_)));
            fates.push(fate);
        }
        grants.finish()?;
        Ok(fates)
    }

    fn write_one(
        &self,
        session: &Session<'_>,
        start: &mut Statement<'_>,
        grants: &mut Grants<'_>,
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
                let granted = Granted::default();
                Ok(if begun {
                    Fate::Begun { worker, granted }
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
                match grants.find(job.kind(), limits)? {
                    Err(full) => {
                        grants.note_waiting(full)?;
                        session.mark(&stored, &full.wait())?;
                        Ok(Fate::Left)
                    }
                    Ok(granted) => {
                        session.mark(&stored, &self.start(worker, &granted))?;
                        Ok(Fate::Begun { worker, granted })
                    }
                }
            }
        }
    }

    /// What is written to a job that begins.
    fn start(&self, worker: usize, granted: &Granted) -> Change {
        let claim = Claim {
            token: self.token.clone(),
            worker_name: self.workers[worker].clone(),
        };
        claim.start(granted.start.unwrap_or(self.now), granted.slots.clone())
    }

    fn tell(mut self, fates: Vec<Fate>, claimed: &mut Claimed) {
        let candidates = std::mem::take(&mut self.candidates);
        // Many jobs have one worker when they are read ahead.
        let mut starts = vec![None; self.workers.len()];
        for (candidate, fate) in candidates.into_iter().zip(fates) {
            match (candidate.plan, fate) {
                (Plan::Start(job, _), Fate::Begun { worker, granted }) => {
                    let mut document = job.into_document();
                    if granted.slots.is_empty() && granted.start.is_none() {
                        let start = || self.start(worker, &Granted::default());
                        starts[worker]
                            .get_or_insert_with(start)
                            .apply(&mut document);
                    } else {
                        self.start(worker, &granted).apply(&mut document);
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

#[cfg(test)]
mod tests;
