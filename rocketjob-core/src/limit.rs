//! Giving free places in limits to the jobs that wait for them.

use std::collections::BTreeMap;

use bson::Bson;

use crate::{
    claim::{Limit, Limits},
    document::JobDocument,
    error::Result,
    filter::{Filter, ReadFrom},
    name,
    state::State,
    storage::Storage,
};

/// How many limits one sweep looks at.
const KEYS_PER_SWEEP: usize = 100;

/// How many places of each limit `jobs`, as they were claimed, take.
pub fn places<'a>(jobs: impl IntoIterator<Item = &'a JobDocument>) -> BTreeMap<String, usize> {
    let mut places = BTreeMap::new();
    for job in jobs {
        let Some(Bson::Array(slots)) = job.get(name::SLOTS) else {
            continue;
        };
        for key in slots
            .iter()
            .filter_map(|slot| slot.as_str()?.rsplit_once(':'))
            .map(|(key, _)| key)
        {
            *places.entry(key.to_owned()).or_insert(0) += 1;
        }
    }
    places
}

/// Makes as many held jobs ready as their limits have free places, and says how many.
///
/// Servers give a place on as soon as they free it; this finds those that a crash left behind. It
/// may make more jobs ready than there is room for: the claim holds what is too much.
pub async fn release_free_places(store: &dyn Storage, limits: &dyn Limits) -> Result<u64> {
    let mut released = 0;
    let mut last = Limit::hold("");
    for _ in 0..KEYS_PER_SWEEP {
        let Some(job) = store.next_held(&last).await? else {
            break;
        };
        let Some(hold) = job.hold().map(ToOwned::to_owned) else {
            break;
        };
        if !hold.starts_with(&Limit::hold("")) {
            break;
        }
        let limit = limits
            .limits(&job)
            .into_iter()
            .find(|limit| Limit::hold(&limit.key) == hold);
        let free = match limit {
            // A job without the limit it waits for: the limit was taken away.
            None => usize::MAX,
            Some(limit) => {
                let running = Filter::state(State::Running)
                    .and(Filter::prefix(name::SLOTS, Limit::slot_prefix(&limit.key)));
                let running = store.count(&running, ReadFrom::Primary).await?;
                usize::try_from(u64::from(limit.max).saturating_sub(running)).unwrap_or(usize::MAX)
            }
        };
        if free > 0 {
            released += store.release(&hold, free).await?;
        }
        last = hold;
    }
    Ok(released)
}
