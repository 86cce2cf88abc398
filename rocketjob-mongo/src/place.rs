//! Places in limits: which are free, and who gets them.
//!
//! A place is a text `<key>:<number>` in the job's own document, unique among running jobs. So the
//! index alone decides, and what is read here is only a good guess of what will succeed.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};

use bson::{Document, doc};
use mongodb::options::Hint;
use rocketjob_core::{Limit, Result, State, name};

use crate::{
    query::{behind_prefix, limited},
    schema,
    store::MongoStore,
};

/// How many limits are looked up in one query.
const KEYS: usize = 100;

/// The free places of some limits, as far as they are known.
#[derive(Debug, Default)]
pub(crate) struct Places(HashMap<String, VecDeque<u32>>);

impl Places {
    /// Looks up the free places of `limits`, as many of each as it stands in them. `claim` makes
    /// several claimers begin in different places.
    pub(crate) async fn read<'l>(
        store: &MongoStore,
        limits: impl Iterator<Item = &'l Limit>,
        claim: &str,
    ) -> Result<Self> {
        let mut asked: BTreeMap<&str, (u32, usize)> = BTreeMap::new();
        for limit in limits {
            let (_, jobs) = asked.entry(&limit.key).or_insert((limit.max, 0));
            *jobs += 1;
        }
        let keys: Vec<&str> = asked.keys().copied().collect();
        let mut used: HashMap<&str, HashSet<u32>> = HashMap::new();
        for keys in keys.chunks(KEYS) {
            for document in store.slots(keys).await? {
                for slot in slots(&document) {
                    let Some((key, number)) = place(slot) else {
                        continue;
                    };
                    if let Some((key, _)) = asked.get_key_value(key) {
                        used.entry(key).or_default().insert(number);
                    }
                }
            }
        }
        let free = asked.into_iter().map(|(key, (max, jobs))| {
            let used = used.remove(key).unwrap_or_default();
            (key.to_owned(), free(max, &used, jobs, start(claim, key)))
        });
        Ok(Self(free.collect()))
    }

    /// How many places of `key` are free, as far as they were looked up.
    pub(crate) fn free(&self, key: &str) -> usize {
        self.0.get(key).map_or(0, VecDeque::len)
    }

    /// A place in each of `limits`, or the first that has none.
    pub(crate) fn take(&mut self, limits: &[Limit]) -> Result<Vec<String>, Limit> {
        if let Some(full) = limits.iter().find(|limit| self.free(&limit.key) == 0) {
            return Err(full.clone());
        }
        let mut keys = HashSet::new();
        let wanted = limits.iter().filter(|limit| keys.insert(&limit.key));
        let slots = wanted.filter_map(|limit| {
            let number = self.0.get_mut(&limit.key)?.pop_front()?;
            Some(Limit::slot(&limit.key, number))
        });
        Ok(slots.collect())
    }
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
/// Numbers of a limit that was larger once are still in use and count: as many of the upper numbers
/// are given up for them, so that two claims that do not see each other cannot exceed it together.
fn free(max: u32, used: &HashSet<u32>, wanted: usize, start: u64) -> VecDeque<u32> {
    let above = used.iter().filter(|number| **number >= max).count();
    let end = max.saturating_sub(u32::try_from(above).unwrap_or(u32::MAX));
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
    }

    #[test]
    fn a_limit_without_end_costs_nothing() {
        assert_eq!(free(u32::MAX, &HashSet::new(), 2, 0), [0, 1]);
    }

    #[test]
    fn a_job_needs_a_place_in_each_limit() {
        let mut places = Places(HashMap::from([
            ("a".to_owned(), VecDeque::from([0, 1])),
            ("b".to_owned(), VecDeque::from([5])),
        ]));
        let limit = |key: &str| Limit {
            key: key.into(),
            max: 9,
        };
        assert_eq!(
            places.take(&[limit("a"), limit("b")]),
            Ok(vec!["a:0".into(), "b:5".into()])
        );
        assert_eq!(places.take(&[limit("a"), limit("b")]), Err(limit("b")));
        assert_eq!(places.free("a"), 1, "a job that is held takes nothing");
    }
}
