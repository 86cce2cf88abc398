//! Letting held jobs go on: who gives places in limits to those that wait for them.
//!
//! Who frees a place gives it on at once. What depends on time stands in the stored limits, and
//! servers look at it when it falls due ([`release_due`]). What a crash left behind is found by a
//! sweep over all that is held ([`release_free_places`]).

use std::collections::BTreeMap;

use bson::{Bson, oid::ObjectId};

use crate::{
    clock::later,
    document::JobDocument,
    error::Result,
    filter::{Filter, ReadFrom},
    limit::{Limit, LimitRule, Limits},
    name,
    state::State,
    storage::Storage,
    store::AsStore,
    stored_limit::{StoredLimit, change_limit},
};

/// How many limits one sweep looks at.
const KEYS_PER_SWEEP: usize = 100;
/// How many jobs that wait for the same are let go on in one step.
const GROUP: usize = 1000;

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

/// What a sweep over the jobs that wait for limits has seen so far.
#[derive(Debug, Default)]
pub struct Waiting {
    /// The job that waited first for each limit at the last look.
    first: BTreeMap<String, ObjectId>,
    /// Where the last look ended, if there was more.
    last: Option<String>,
}

/// Makes as many held jobs ready as their limits have room, where the same job has waited first since
/// the last look, and says how many. With `at_once` also where that is not known.
///
/// Servers give a place on as soon as they free it, and while they do, others wait first at each
/// look; this finds the places that a crash left behind. It may make more jobs ready than there is
/// room for: the claim holds what is too much. Where jobs wait for very many limits, each look goes on
/// where the last one ended.
///
/// # Errors
/// Those of the store.
pub async fn release_free_places(
    store: &dyn Storage,
    limits: &dyn Limits,
    waiting: &mut Waiting,
    at_once: bool,
) -> Result<u64> {
    let begin = waiting.last.take().unwrap_or_else(|| Limit::hold(""));
    let mut seen = BTreeMap::new();
    let (mut released, mut last, mut is_end) = (0, begin.clone(), false);
    for _ in 0..KEYS_PER_SWEEP {
        let next = store.next_held(&last).await?;
        let held = next.and_then(|job| Some((job.hold()?.to_owned(), job)));
        let held = held.filter(|(hold, _)| hold.starts_with(&Limit::hold("")));
        let Some((hold, job)) = held else {
            is_end = true;
            break;
        };
        if at_once || waiting.first.get(&hold) == Some(&job.id()) {
            let room = room(store, limits, &job, &hold).await?.unwrap_or(0);
            if room > 0 {
                released += store.release(&hold, room).await?;
            }
        }
        seen.insert(hold.clone(), job.id());
        last = hold;
    }
    let is_looked_at = |hold: &String| *hold > begin && (is_end || *hold <= last);
    waiting.first.retain(|hold, _| !is_looked_at(hold));
    waiting.first.append(&mut seen);
    waiting.last = (!is_end).then_some(last);
    Ok(released)
}

/// Makes held jobs ready whose time has come, as their stored limits say, and says how much there was
/// to do: how many limits had fallen due, and how many jobs go on.
///
/// # Errors
/// Those of the store.
pub async fn release_due(store: &dyn Storage, limits: &dyn Limits) -> Result<u64> {
    let mut released = 0;
    for limit in store.due_limits(KEYS_PER_SWEEP).await? {
        released += look_at(store, limits, &limit).await?;
    }
    Ok(released)
}

/// Lets jobs go on that wait for a limit which has fallen due, and says how much was done.
///
/// What is decided is written first, and only one server can: otherwise each of them would let as
/// many go on. Who dies in between leaves them to the sweep.
async fn look_at(store: &dyn Storage, limits: &dyn Limits, due: &StoredLimit) -> Result<u64> {
    let hold = Limit::hold(&due.key);
    let first = store.next_held(&before_hold(&hold)).await?;
    let room = match first.filter(|job| job.hold() == Some(&hold)) {
        // Nobody waits any more, unless a claim is just about to hold a job: then it says so.
        None => return forget(store, due).await,
        // It tells itself.
        Some(_) if due.is_rate() => None,
        Some(job) => room(store, limits, &job, &hold).await?,
    };
    let now = store.now();
    let decided = change_limit(store, &due.key, |limit| {
        if limit.next.is_none_or(|next| next > now) {
            // Another server was faster.
            return None;
        }
        if limit.is_rate() {
            let wanted = limit.promise(limit.free(now).min(GROUP), now);
            limit.next = Some(limit.next_look(now));
            return Some(wanted);
        }
        // Who performs the kind can tell: where this server does not, one of its jobs asks there.
        let room = room.unwrap_or(usize::from(limit.again.is_some()));
        limit.next = match limit.again {
            _ if room > GROUP => Some(now),
            Some(again) => Some(later(now, again)),
            // Whoever ends a job gives its place on.
            None => None,
        };
        Some(room.min(GROUP))
    });
    match decided.await?.flatten() {
        Some(wanted) if wanted > 0 => Ok(1 + store.release(&hold, wanted).await?),
        decided => Ok(u64::from(decided.is_some())),
    }
}

/// Nobody waits for a limit: it is not looked at again, if it is as it was.
async fn forget(store: &dyn Storage, due: &StoredLimit) -> Result<u64> {
    let mut limit = due.clone();
    (limit.next, limit.version) = (None, store.next_id());
    let done = store.swap_limit(Some(due.version), &limit).await?;
    Ok(u64::from(done))
}

/// How many jobs that are held for `hold` may go on, as far as `job`, the first of them, tells.
/// `None` where only others can tell.
async fn room(
    store: &dyn Storage,
    limits: &dyn Limits,
    job: &JobDocument,
    hold: &str,
) -> Result<Option<usize>> {
    if !limits.knows(job.kind()) {
        return Ok(None);
    }
    let Ok(limits) = limits.limits(job, store.now()) else {
        // The claim fails it.
        return Ok(Some(1));
    };
    let limit = limits
        .into_iter()
        .find(|limit| Limit::hold(&limit.key) == hold);
    let Some(limit) = limit else {
        // A job without the limit it waits for: the limit was taken away.
        return Ok(Some(usize::MAX));
    };
    let room = match &limit.rule {
        LimitRule::Running { max } => {
            let stored = store.limit(&limit.key).await?;
            let most = stored.map_or(*max, |stored| stored.most(*max));
            let running = Filter::state(State::Running)
                .and(Filter::prefix(name::SLOTS, Limit::slot_prefix(&limit.key)));
            let running = store.count(&running, ReadFrom::Primary).await?;
            usize::try_from(u64::from(most).saturating_sub(running)).unwrap_or(usize::MAX)
        }
        LimitRule::Starts { max, .. } => {
            let stored = store.limit(&limit.key).await?;
            let most = usize::try_from(*max).unwrap_or(usize::MAX);
            stored.map_or(most, |stored| stored.free(store.now()))
        }
        LimitRule::NoneRuns { kind } if store.any_running(kind).await? => 0,
        LimitRule::Closed { .. } | LimitRule::LaterVersion => 0,
        LimitRule::NoneRuns { .. } | LimitRule::NotBefore { .. } => usize::MAX,
    };
    Ok(Some(room))
}

/// A text before `hold`, and behind all texts before it that anybody holds jobs for: where
/// [`next_held`](crate::JobStore::next_held) begins to find the first job that is held for it.
pub fn before_hold(hold: &str) -> String {
    let mut text = hold.to_owned();
    if let Some(last) = text.pop() {
        let lower = (0..u32::from(last)).rev().find_map(char::from_u32);
        text.extend(lower.map(|lower| [lower, char::MAX]).into_iter().flatten());
    }
    text
}

/// Lets jobs go on that wait for `kind` to run no more, if that is so. For who ended a job of it.
///
/// # Errors
/// Those of the store.
pub async fn release_dependents(store: &dyn Storage, kind: &str) -> Result<()> {
    if store.any_running(kind).await? {
        return Ok(());
    }
    let limit = Limit::while_none_runs(kind);
    store.release(&Limit::hold(&limit.key), GROUP).await?;
    Ok(())
}

/// Sets the number of a limit for all jobs at once, whatever they say themselves; 0 is no limit, and
/// `None` leaves it to the jobs again.
///
/// Claims that begin afterwards go by it, on all servers. Jobs that run already go on.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) also when others changed the limit at the same
/// time again and again.
///
/// # Examples
/// ```
/// use rocketjob_core::{LimitStore, MemoryStore, Store, set_limit, throttle_key};
///
/// # pollster::block_on(async {
/// let store = Store::new(MemoryStore::new());
/// set_limit(&store, &throttle_key("ReportJob"), Some(3)).await?;
/// let limit = store.limit("throttle:ReportJob").await?;
/// assert_eq!(limit.and_then(|limit| limit.max), Some(3));
/// # Ok::<_, rocketjob_core::Error>(())
/// # }).unwrap();
/// ```
pub async fn set_limit(store: &impl AsStore, key: &str, max: Option<u32>) -> Result<()> {
    let store = store.as_store();
    let now = store.now();
    let changed = change_limit(&*store, key, |limit| {
        limit.max = max;
        // Whoever waits for it is looked at.
        limit.next = Some(now);
    });
    if changed.await?.is_none() {
        return Err(crate::error::Error::Unavailable {
            address: store.address(),
            source: format!("others keep changing the limit `{key}`").into(),
        });
    }
    // So that idle servers look, too: a bell rings for what becomes ready.
    store.release(&Limit::hold(key), 1).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_a_hold_lies_nothing_that_begins_otherwise() {
        for hold in ["limit:a", "limit:a\u{e000}", "limit:\0"] {
            let before = before_hold(hold);
            assert!(before.as_str() < hold, "{before:?}");
        }
        assert!(before_hold("limit:b").as_str() > "limit:a:zzz");
    }
}
