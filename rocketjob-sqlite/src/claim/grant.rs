//! What limits let a job do, decided in the transaction that takes it.

use std::collections::{BTreeSet, HashMap};

use bson::oid::ObjectId;
use jiff::Timestamp;
use rocketjob_core::{Limit, LimitRule, Rate, StoredLimit};

use super::Mint;
use crate::{error::Failure, limit, session::Session, sql};

/// What a job gets that may start.
#[derive(Debug, Default)]
pub(super) struct Granted {
    pub(super) slots: Vec<String>,
    /// When it starts, if that is not now.
    pub(super) start: Option<Timestamp>,
}

/// What is kept of a limit, before and after.
#[derive(Debug)]
struct Kept {
    previous: Option<ObjectId>,
    before: StoredLimit,
    after: StoredLimit,
}

/// What is left of limits, counted in the transaction that takes of them.
#[derive(Debug)]
pub(super) struct Grants<'s> {
    session: &'s Session<'s>,
    now: Timestamp,
    mint: &'s Mint,
    taken: HashMap<String, BTreeSet<u32>>,
    kept: HashMap<String, Kept>,
    running: HashMap<String, bool>,
}

impl<'s> Grants<'s> {
    pub(super) fn new(session: &'s Session<'s>, now: Timestamp, mint: &'s Mint) -> Self {
        Self {
            session,
            now,
            mint,
            taken: HashMap::new(),
            kept: HashMap::new(),
            running: HashMap::new(),
        }
    }

    /// What `limits` grant a job of `kind`, or the first that grants nothing: then nothing is taken.
    pub(super) fn find<'l>(
        &mut self,
        kind: &str,
        limits: &'l [Limit],
    ) -> Result<Result<Granted, &'l Limit>, Failure> {
        let mut places: Vec<(&str, u32)> = Vec::new();
        for limit in limits {
            let may = match &limit.rule {
                LimitRule::Running { max } => {
                    let free = self.place(limit, *max, &places)?;
                    places.extend(free.map(|number| (limit.key.as_str(), number)));
                    free.is_some()
                }
                LimitRule::NoneRuns { kind } => !self.runs(kind)?,
                LimitRule::Starts { .. } => true,
                _ => false,
            };
            if !may {
                return Ok(Err(limit));
            }
        }
        let start = match self.book(limits)? {
            Ok(start) => start,
            Err(limit) => return Ok(Err(limit)),
        };
        for (key, number) in &places {
            if let Some(taken) = self.taken.get_mut(*key) {
                taken.insert(*number);
            }
        }
        self.running.insert(kind.to_owned(), true);
        let slots = places.iter().map(|(key, number)| Limit::slot(key, *number));
        let slots = slots.collect();
        Ok(Ok(Granted { slots, start }))
    }

    /// A job waits for `limit`: where time lets it go on, the stored limit says when.
    pub(super) fn note_waiting(&mut self, limit: &Limit) -> Result<(), Failure> {
        if limit.again().is_some() || limit.rate().is_some() {
            let now = self.now;
            self.kept(&limit.key)?.after.wait(now, limit.again());
        }
        Ok(())
    }

    /// Writes what has become of the limits.
    pub(super) fn finish(self) -> Result<(), Failure> {
        for mut kept in self.kept.into_values() {
            if kept.before == kept.after {
                continue;
            }
            kept.after.version = self.mint.next();
            limit::swap(self.session, kept.previous, &kept.after)?;
        }
        Ok(())
    }

    fn place(
        &mut self,
        limit: &Limit,
        stated: u32,
        mine: &[(&str, u32)],
    ) -> Result<Option<u32>, Failure> {
        let most = self.kept(&limit.key)?.after.most(stated);
        let taken = self.taken(&limit.key)?;
        let is_mine = |number: &u32| mine.contains(&(limit.key.as_str(), *number));
        let own = mine.iter().filter(|(key, _)| *key == limit.key).count();
        let is_full = taken.len() + own >= usize::try_from(most).unwrap_or(usize::MAX);
        let free = (0..most).find(|number| !taken.contains(number) && !is_mine(number));
        Ok(free.filter(|_| !is_full))
    }

    /// Books a start in each rate among `limits`, or in none.
    fn book<'l>(
        &mut self,
        limits: &'l [Limit],
    ) -> Result<Result<Option<Timestamp>, &'l Limit>, Failure> {
        let now = self.now;
        let rates: Vec<(&Limit, Rate)> = limits
            .iter()
            .filter_map(|limit| Some((limit, limit.rate()?)))
            .collect();
        // Several must begin at the same time.
        let alone = rates.len() == 1;
        let mut booked = Vec::new();
        for (limit, rate) in rates {
            let stored = &mut self.kept(&limit.key)?.after;
            if let Some(start) = stored.book(rate, now, 1, alone).pop() {
                booked.push((limit, rate, start));
                continue;
            }
            for (limit, rate, start) in booked {
                self.kept(&limit.key)?.after.give_back(rate, &[start]);
            }
            return Ok(Err(limit));
        }
        Ok(Ok(booked.last().map(|(_, _, start)| *start)))
    }

    fn kept(&mut self, key: &str) -> Result<&mut Kept, Failure> {
        if !self.kept.contains_key(key) {
            let before = limit::limit(self.session, key)?;
            let new = || StoredLimit::new(key, self.mint.next());
            let after = before.clone().unwrap_or_else(new);
            let untouched = before.clone().unwrap_or_else(|| after.clone());
            let kept = Kept {
                previous: before.map(|before| before.version),
                before: untouched,
                after,
            };
            self.kept.insert(key.to_owned(), kept);
        }
        self.kept
            .get_mut(key)
            .ok_or_else(|| Failure::Unexpected("a limit vanished".into()))
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

    fn runs(&mut self, kind: &str) -> Result<bool, Failure> {
        if let Some(runs) = self.running.get(kind) {
            return Ok(*runs);
        }
        let runs = limit::any_running(self.session, kind)?;
        self.running.insert(kind.to_owned(), runs);
        Ok(runs)
    }
}
