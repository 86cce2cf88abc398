//! [`LimitStore`] in memory, and what limits let a job do.

use async_trait::async_trait;
use bson::oid::ObjectId;
use jiff::Timestamp;

use super::{MemoryStore, index, jobs::Jobs};
use crate::{
    error::Result,
    limit::{Limit, LimitRule},
    name,
    state::State,
    storage::LimitStore,
    stored_limit::StoredLimit,
};

#[async_trait]
impl LimitStore for MemoryStore {
    async fn limit(&self, key: &str) -> Result<Option<StoredLimit>> {
        Ok(self.data().jobs.limits.get(key).cloned())
    }

    async fn swap_limit(&self, previous: Option<ObjectId>, limit: &StoredLimit) -> Result<bool> {
        let mut data = self.data();
        let limits = &mut data.jobs.limits;
        let stands = limits.get(&limit.key).map(|stored| stored.version) == previous;
        if stands {
            limits.insert(limit.key.clone(), limit.clone());
        }
        Ok(stands)
    }

    async fn due_limits(&self, limit: usize) -> Result<Vec<StoredLimit>> {
        let now = self.time();
        let data = self.data();
        let limits = data.jobs.limits.values();
        let mut due: Vec<_> = limits
            .filter(|limit| limit.next.is_some_and(|next| next <= now))
            .cloned()
            .collect();
        due.sort_by_key(|limit| limit.next);
        due.truncate(limit);
        Ok(due)
    }

    async fn any_running(&self, kind: &str) -> Result<bool> {
        Ok(self.data().jobs.any_running(kind))
    }
}

/// What a job gets that may start.
#[derive(Debug, Default)]
pub(super) struct Granted {
    /// Its places.
    pub(super) slots: Vec<String>,
    /// When it starts, if that is not now.
    pub(super) start: Option<Timestamp>,
}

impl Jobs {
    pub(super) fn next_limit(&self) -> Option<Timestamp> {
        self.limits.values().filter_map(|limit| limit.next).min()
    }

    pub(super) fn forget_limits(&mut self, now: Timestamp) {
        self.limits
            .retain(|_, limit| limit.expires_at().is_none_or(|time| time > now));
    }

    fn any_running(&self, kind: &str) -> bool {
        let running = self.index.running.iter(kind).next();
        running.is_some()
    }

    /// What `limits` grant a job, or the first that grants nothing: then nothing is taken.
    pub(super) fn grant<'l>(
        &mut self,
        limits: &'l [Limit],
        now: Timestamp,
        mint: &dyn Fn() -> ObjectId,
    ) -> std::result::Result<Granted, &'l Limit> {
        let mut granted = Granted::default();
        for limit in limits {
            let may = match &limit.rule {
                LimitRule::Running { max } => {
                    let most = self.most(limit, *max);
                    let free = self.free_slot(limit, most, &granted.slots);
                    free.map(|slot| granted.slots.push(slot)).is_some()
                }
                LimitRule::NoneRuns { kind } => !self.any_running(kind),
                LimitRule::Starts { .. } => true,
                LimitRule::LaterVersion
                | LimitRule::Closed { .. }
                | LimitRule::NotBefore { .. } => false,
            };
            if !may {
                return Err(limit);
            }
        }
        granted.start = self.book(limits, now, mint)?;
        Ok(granted)
    }

    fn most(&self, limit: &Limit, stated: u32) -> u32 {
        let stored = self.limits.get(&limit.key);
        stored.map_or(stated, |stored| stored.most(stated))
    }

    /// A free place. Those of a limit that was larger once still count.
    fn free_slot(&self, limit: &Limit, most: u32, taken: &[String]) -> Option<String> {
        let slots = &self.index.slots;
        let prefix = Limit::slot_prefix(&limit.key);
        let used = slots
            .names_from(&prefix)
            .map_while(|slot| slot.strip_prefix(&prefix));
        let used: Vec<u32> = used.filter_map(|number| number.parse().ok()).collect();
        let end = Limit::usable(most, &used);
        let mut all = (0..end).map(|number| Limit::slot(&limit.key, number));
        all.find(|slot| slots.is_empty(slot) && !taken.contains(slot))
    }

    /// Books a start in each rate among `limits`, or in none.
    fn book<'l>(
        &mut self,
        limits: &'l [Limit],
        now: Timestamp,
        mint: &dyn Fn() -> ObjectId,
    ) -> std::result::Result<Option<Timestamp>, &'l Limit> {
        let rates: Vec<_> = limits
            .iter()
            .filter_map(|limit| Some((limit, limit.rate()?)))
            .collect();
        // Several must begin at the same time.
        let alone = rates.len() == 1;
        let mut booked = Vec::new();
        for (limit, rate) in rates {
            let stored = self.limits.entry(limit.key.clone());
            let stored = stored.or_insert_with(|| StoredLimit::new(&limit.key, mint()));
            let Some(start) = stored.book(rate, now, 1, alone).pop() else {
                for (limit, rate, start) in booked {
                    self.change_limit(limit, mint, |stored| {
                        stored.give_back(rate, &[start]);
                    });
                }
                return Err(limit);
            };
            stored.version = mint();
            booked.push((limit, rate, start));
        }
        Ok(booked.last().map(|(_, _, start)| *start))
    }

    fn change_limit(
        &mut self,
        limit: &Limit,
        mint: &dyn Fn() -> ObjectId,
        change: impl FnOnce(&mut StoredLimit),
    ) {
        let stored = self.limits.entry(limit.key.clone());
        let stored = stored.or_insert_with(|| StoredLimit::new(&limit.key, mint()));
        change(stored);
        stored.version = mint();
    }

    /// A job waits for `limit`: where time lets it go on, the stored limit says when.
    pub(super) fn note_waiting(
        &mut self,
        limit: &Limit,
        now: Timestamp,
        mint: &dyn Fn() -> ObjectId,
    ) {
        if limit.again().is_some() || limit.rate().is_some() {
            self.change_limit(limit, mint, |stored| stored.wait(now, limit.again()));
        }
    }
}

/// Whether a document is one of a running job.
pub(super) fn running_kind(document: &bson::Document) -> Option<&str> {
    let is_running = index::state(document) == Some(State::Running);
    index::text(document, name::KIND).filter(|_| is_running)
}
