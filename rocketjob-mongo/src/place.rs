//! Places in limits: which are free, and who gets them.
//!
//! A place is a text `<key>:<number>` in the job's own document, unique among running jobs. So the
//! index alone decides, and what is read here is only a good guess of what will succeed.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};

use bson::{Document, doc};
use futures_util::{
    FutureExt as _, StreamExt as _, TryStreamExt as _,
    future::{BoxFuture, try_join},
    stream,
};
use jiff::Timestamp;
use mongodb::options::Hint;
use rocketjob_core::{
    JobStore as _, Limit, LimitRule, LimitStore, Rate, Result, State, StoredLimit, change_limit,
    name,
};

use crate::{
    query::{behind_prefix, limited},
    schema,
    store::MongoStore,
};

/// How many limits are changed at the same time.
pub(crate) const AT_ONCE: usize = 16;
/// How many limits are looked up in one query.
const KEYS: usize = 100;

/// What some limits grant, as far as it is known: the free places of those of running jobs, the
/// starts that were booked in rates, and the kinds that run.
#[derive(Debug, Default)]
pub(crate) struct Places {
    free: HashMap<String, VecDeque<u32>>,
    starts: HashMap<String, (Rate, VecDeque<Timestamp>)>,
    running: HashSet<String>,
}

/// The starts that were booked in a rate, under its key.
type Booked = (String, (Rate, VecDeque<Timestamp>));

/// What a job gets that may start.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) slots: Vec<String>,
    /// When it starts, if that is not now.
    pub(crate) start: Option<Timestamp>,
}

impl Places {
    /// Looks up what each of `jobs` needs, by their limits, and books up to `wanted` starts in each
    /// rate. `claim` makes several claimers begin in different places.
    pub(crate) async fn read(
        store: &MongoStore,
        jobs: &[Vec<Limit>],
        claim: &str,
        wanted: usize,
    ) -> Result<Self> {
        let mut places = Self {
            free: read_free(store, jobs.iter().flatten(), claim).await?,
            ..Self::default()
        };
        places.book(store, jobs, wanted).await?;
        let kinds = jobs.iter().flatten().filter_map(|limit| match &limit.rule {
            LimitRule::NoneRuns { kind } => Some(kind),
            _ => None,
        });
        for kind in kinds.collect::<HashSet<_>>() {
            if store.any_running(kind).await? {
                places.running.insert(kind.clone());
            }
        }
        Ok(places)
    }

    async fn book(&mut self, store: &MongoStore, jobs: &[Vec<Limit>], wanted: usize) -> Result<()> {
        // Not when the claim began: until here it took its time.
        let now = store.now();
        let mut asked: BTreeMap<&str, (Rate, usize, bool)> = BTreeMap::new();
        for limits in jobs {
            let rates = limits
                .iter()
                .filter_map(|limit| Some((limit, limit.rate()?)));
            // Several must begin at the same time.
            let alone = rates.clone().count() == 1;
            for (limit, rate) in rates {
                let (_, jobs, all_alone) = asked.entry(&limit.key).or_insert((rate, 0, true));
                *jobs += 1;
                *all_alone &= alone;
            }
        }
        let mut booking: Vec<BoxFuture<'_, Result<Booked>>> = Vec::with_capacity(asked.len());
        for (key, (rate, jobs, alone)) in asked {
            let wanted = jobs.min(wanted);
            let booked = async move {
                let book = move |limit: &mut StoredLimit| limit.book(rate, now, wanted, alone);
                let starts = change_limit(store, key, book).await?.unwrap_or_default();
                Ok((key.to_owned(), (rate, starts.into())))
            };
            booking.push(booked.boxed());
        }
        let booked = stream::iter(booking).buffer_unordered(AT_ONCE);
        self.starts = booked.try_collect().await?;
        Ok(())
    }

    /// What the limits of a job of `kind` grant it, or the first that grants nothing.
    pub(crate) fn take(
        &mut self,
        kind: &str,
        limits: &[Limit],
    ) -> std::result::Result<Granted, Limit> {
        let grants = |limit: &&Limit| match &limit.rule {
            LimitRule::Running { .. } => self
                .free
                .get(&limit.key)
                .is_some_and(|free| !free.is_empty()),
            LimitRule::Starts { .. } => {
                let starts = self.starts.get(&limit.key);
                starts.is_some_and(|(_, starts)| !starts.is_empty())
            }
            LimitRule::NoneRuns { kind } => !self.running.contains(kind),
            _ => false,
        };
        if let Some(full) = limits.iter().find(|limit| !grants(limit)) {
            return Err(full.clone());
        }
        let mut granted = Granted::default();
        let mut keys = HashSet::new();
        for limit in limits.iter().filter(|limit| keys.insert(&limit.key)) {
            if let Some(free) = self.free.get_mut(&limit.key) {
                let number = free.pop_front();
                granted
                    .slots
                    .extend(number.map(|number| Limit::slot(&limit.key, number)));
            } else if let Some((_, starts)) = self.starts.get_mut(&limit.key) {
                granted.start = granted.start.max(starts.pop_front());
            }
        }
        self.running.insert(kind.to_owned());
        Ok(granted)
    }

    /// A start that was booked for `limit` was not used.
    pub(crate) fn return_start(&mut self, limit: &Limit, start: Timestamp) {
        if let Some((_, starts)) = self.starts.get_mut(&limit.key) {
            starts.push_back(start);
        }
    }

    /// Gives back what was booked and not used.
    pub(crate) async fn give_back(self, store: &MongoStore, now: Timestamp) -> Result<()> {
        for (key, (rate, starts)) in self.starts {
            if starts.is_empty() {
                continue;
            }
            let starts: Vec<_> = starts.into();
            let given = change_limit(store, &key, |limit| {
                limit.give_back(rate, &starts);
                if limit.next.is_some() {
                    limit.wait(now, None);
                }
            });
            given.await?;
        }
        Ok(())
    }
}

/// The free places of those of `limits` that are of running jobs, as many of each as it stands in
/// them.
pub(crate) async fn read_free<'l>(
    store: &MongoStore,
    limits: impl Iterator<Item = &'l Limit>,
    claim: &str,
) -> Result<HashMap<String, VecDeque<u32>>> {
    let mut asked: BTreeMap<&str, (u32, usize)> = BTreeMap::new();
    for limit in limits {
        if let LimitRule::Running { max } = limit.rule {
            let (_, jobs) = asked.entry(&limit.key).or_insert((max, 0));
            *jobs += 1;
        }
    }
    let keys: Vec<&str> = asked.keys().copied().collect();
    let mut used: HashMap<&str, HashSet<u32>> = HashMap::new();
    let mut stored: HashMap<String, StoredLimit> = HashMap::new();
    for keys in keys.chunks(KEYS) {
        let (documents, limits) = try_join(store.slots(keys), store.limits_of(keys)).await?;
        for slot in documents.iter().flat_map(slots) {
            if let Some((key, number)) = place(slot)
                && let Some((key, _)) = asked.get_key_value(key)
            {
                used.entry(key).or_default().insert(number);
            }
        }
        stored.extend(limits.into_iter().map(|limit| (limit.key.clone(), limit)));
    }
    let free = asked.into_iter().map(|(key, (max, jobs))| {
        let used = used.remove(key).unwrap_or_default();
        let most = stored.get(key).map_or(max, |stored| stored.most(max));
        (key.to_owned(), free(most, &used, jobs, start(claim, key)))
    });
    Ok(free.collect())
}

impl MongoStore {
    /// The places that running jobs take of the limits `keys`.
    async fn slots(&self, keys: &[&str]) -> Result<Vec<Document>> {
        let of_key = |key: &&str| {
            let prefix = Limit::slot_prefix(key);
            // One element within both bounds: only so is it one range of the index.
            let range = doc! { "$gte": &prefix, "$lt": behind_prefix(&prefix) };
            doc! { name::STATE: State::Running.as_str(), name::SLOTS: { "$elemMatch": range } }
        };
        let condition = match keys {
            [] => return Ok(Vec::new()),
            [key] => of_key(key),
            keys => doc! { "$or": keys.iter().map(of_key).collect::<Vec<_>>() },
        };
        let mut options = limited(0);
        options.hint = Some(Hint::Name(schema::SLOTS.into()));
        self.read_fields(condition, options, doc! { name::ID: 0, name::SLOTS: 1 })
            .await
    }
}

fn slots(document: &Document) -> impl Iterator<Item = &str> {
    let slots = document.get_array(name::SLOTS).into_iter().flatten();
    slots.filter_map(|slot| slot.as_str())
}

fn place(slot: &str) -> Option<(&str, u32)> {
    let (key, number) = slot.rsplit_once(':')?;
    Some((key, number.parse().ok()?))
}

/// Up to `wanted` numbers below `max` that are not used, from `start` around.
///
/// Numbers of a limit that was larger once are still in use and count ([`Limit::usable`]).
fn free(max: u32, used: &HashSet<u32>, wanted: usize, start: u64) -> VecDeque<u32> {
    let numbers: Vec<u32> = used.iter().copied().collect();
    let end = Limit::usable(max, &numbers);
    let Some(start) = start.checked_rem(u64::from(end)) else {
        return VecDeque::new();
    };
    let start = u32::try_from(start).unwrap_or(0);
    (start..end)
        .chain(0..start)
        .filter(|number| !used.contains(number))
        .take(wanted)
        .collect()
}

fn start(claim: &str, key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (claim, key).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_numbers_are_those_below_the_limit_that_nobody_uses() {
        let used = HashSet::from([1, 3]);
        assert_eq!(free(5, &used, 9, 0), [0, 2, 4]);
        assert_eq!(free(5, &used, 9, 4), [4, 0, 2]);
        assert_eq!(free(5, &used, 1, 2), [2]);
        assert!(free(0, &used, 9, 4).is_empty());
    }

    #[test]
    fn numbers_of_a_limit_that_was_larger_still_count() {
        let used = HashSet::from([7, 8, 0]);
        let full = free(3, &used, 9, 0);
        assert!(
            full.is_empty(),
            "two above the limit and number 0 are all three"
        );
        assert_eq!(free(4, &used, 9, 0), [1]);
        assert!(free(2, &HashSet::from([1, 3]), 9, 0).is_empty());
    }

    #[test]
    fn a_limit_without_end_costs_nothing() {
        assert_eq!(free(u32::MAX, &HashSet::new(), 2, 0), [0, 1]);
    }

    #[test]
    fn a_job_needs_a_place_in_each_limit() {
        let mut places = Places {
            free: HashMap::from([
                ("a".to_owned(), VecDeque::from([0, 1])),
                ("b".to_owned(), VecDeque::from([5])),
            ]),
            ..Places::default()
        };
        let limits = [Limit::running("a", 9), Limit::running("b", 9)];
        let granted = Granted {
            slots: vec!["a:0".into(), "b:5".into()],
            start: None,
        };
        assert_eq!(places.take("Kind", &limits), Ok(granted));
        assert_eq!(places.take("Kind", &limits), Err(limits[1].clone()));
        assert_eq!(
            places.free["a"].len(),
            1,
            "a job that is held takes nothing"
        );
        let after = [Limit::while_none_runs("Kind")];
        assert_eq!(places.take("Other", &after), Err(after[0].clone()));
    }
}
