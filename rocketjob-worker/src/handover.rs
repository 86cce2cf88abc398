//! A place in a limit goes from a job that ends straight to the next one that waits for it.
//!
//! Otherwise there lie between the two a write that makes the next job ready, a bell, and a claim by
//! whoever is fastest, and a limit on short jobs is used to a part only. So the server whose job has
//! ended claims the next one itself, with the same place, for an idle worker of its own. What decides
//! is what decides for any claim: the job still waits, and the index lets no two running jobs have one
//! place.
//!
//! It is done only where that is all there is to decide: the job waits for this limit alone, under the
//! number that the other job had too, no operator has set another one, and the server has more than
//! one idle worker, so that whatever else is ready finds one too. All else takes the way through the
//! queue.

use std::sync::Arc;

use futures_util::future::try_join;
use rocketjob_core::{
    Filter, Guard, JobDocument, Limit, LimitRule, Limits, Patch, Refusal, Result, State, Store,
    before_hold, is_suspect, name,
};

use crate::{
    opening::{Desk, Started},
    settler::Item,
};

/// How often another waiting job is tried where others were faster to take one.
const TRIES: usize = 3;

/// A place that a job is about to leave.
#[derive(Debug)]
pub(crate) struct Vacancy {
    /// Which outcome of the group leaves it.
    item: usize,
    limit: Limit,
    slot: String,
}

impl Vacancy {
    pub(crate) fn key(&self) -> &str {
        &self.limit.key
    }

    pub(crate) fn item(&self) -> usize {
        self.item
    }
}

/// What became of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Given {
    /// The next job has it.
    On,
    /// Somebody has it still, or again.
    Taken,
    /// There is nobody here to give it to.
    Not,
}

/// The places that can be given on when `group` is settled, one of each limit.
pub(crate) fn vacancies(desk: &Desk, group: &[Item]) -> Vec<Vacancy> {
    let mut found: Vec<Vacancy> = Vec::new();
    for (item, Item { context, .. }) in group.iter().enumerate() {
        if let Some((limit, slot)) = only_place(desk, context.document())
            && !found.iter().any(|vacancy| vacancy.limit.key == limit.key)
        {
            found.push(Vacancy { item, limit, slot });
        }
    }
    found
}

/// Gives the place on.
///
/// It is not waited for that the outcome of the job which leaves it is durable: the index lets the
/// next job have it only when the outcome stands before it in the store's log, and so is durable
/// when this claim is.
pub(crate) async fn give_on(desk: &Arc<Desk>, vacancy: &Vacancy) -> Result<Given> {
    let (stored, mut first) = try_join(
        desk.store.limit(vacancy.key()),
        next_waiting(&desk.store, &vacancy.limit),
    )
    .await?;
    if stored.is_some_and(|stored| stored.max.is_some()) {
        return Ok(Given::Not);
    }
    for number in 0..TRIES {
        let next = match first.take() {
            None if number > 0 => next_waiting(&desk.store, &vacancy.limit).await?,
            first => first,
        };
        let Some(next) = next else {
            return Ok(Given::Not);
        };
        if !waits_for_it_alone(desk, &next, &vacancy.limit) {
            return Ok(Given::Not);
        }
        let slots = vec![vacancy.slot.clone()];
        let Some(started) = desk.take_waiting(&next, slots)? else {
            return Ok(Given::Not);
        };
        let claimed = desk.store.update(claim(&started, &vacancy.limit)).await;
        match claimed? {
            Ok(job) => {
                started.begin_with(job);
                return Ok(Given::On);
            }
            Err(refusal) => {
                started.withdraw();
                if matches!(refusal, Refusal::Existing(_)) {
                    return Ok(Given::Taken);
                }
            }
        }
    }
    Ok(Given::Not)
}

/// The limit and the place of a job that has one of one limit only.
fn only_place(desk: &Desk, job: &JobDocument) -> Option<(Limit, String)> {
    let slots = job.get(name::SLOTS)?.as_array()?;
    let [slot] = &slots[..] else { return None };
    let slot = slot.as_str()?;
    let limits = desk.registry.limits(job, desk.store.now()).ok()?;
    let [limit] = &limits[..] else { return None };
    let number = slot.strip_prefix(&Limit::slot_prefix(&limit.key))?;
    match limit.rule {
        LimitRule::Running { max } if number.parse::<u32>().ok()? < max => {
            Some((limit.clone(), slot.to_owned()))
        }
        _ => None,
    }
}

async fn next_waiting(store: &Store, limit: &Limit) -> Result<Option<JobDocument>> {
    let hold = Limit::hold(&limit.key);
    let next = store.next_held(&before_hold(&hold)).await?;
    Ok(next.filter(|job| job.hold() == Some(&hold)))
}

fn waits_for_it_alone(desk: &Desk, job: &JobDocument, limit: &Limit) -> bool {
    let limits = desk.registry.limits(job, desk.store.now());
    !is_suspect(job) && limits.is_ok_and(|limits| limits == std::slice::from_ref(limit))
}

fn claim(started: &Started, limit: &Limit) -> Patch {
    let waits = Filter::eq(name::HOLD, Limit::hold(&limit.key));
    Patch {
        id: started.job().id(),
        guard: Guard::states([State::Queued]).matching(waits),
        change: started.claiming().clone(),
    }
}
