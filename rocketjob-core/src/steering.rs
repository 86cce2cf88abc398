//! Steering many jobs at once: all that meet a condition, in bounded batches.

use std::ops::ControlFlow;

use bson::oid::ObjectId;
use futures_util::{StreamExt, stream};

use crate::{
    change::{Change, Guard, Patch, Refusal, Settled},
    document::JobDocument,
    edit::{EDITABLE, Edits, edit},
    error::{Error, Result},
    failure::JobFailure,
    filter::{Cursor, Filter, Query},
    handle::{follow, run_now, steer, steered},
    kinds::Kinds,
    name,
    new_job::unique_reason,
    state::{State, Transition, sources, target},
    store::Store,
};

/// How many jobs are read and written together. An interruption waits for no more.
const BATCH: usize = 1_000;
/// How many single writes are under way at once, where a group of them has no command.
const AT_ONCE: usize = 16;
/// How many refusals are kept with their reasons.
const KEPT: usize = 20;

/// What is done to jobs.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// A transition; a failure goes with [`Transition::Fail`].
    Transition(Transition, Option<JobFailure>),
    /// Scheduled jobs may start now.
    RunNow,
    /// Jobs that are not running go.
    Delete,
    /// Fields are changed.
    Edit(Edits),
}

impl Act {
    /// The jobs of `filter` to which it can be done at all.
    pub fn applicable(&self, filter: Filter) -> Filter {
        let states = match self {
            Self::Transition(transition, _) => sources(*transition, true),
            Self::RunNow => {
                let scheduled = Filter::eq(name::HOLD, name::HOLD_SCHEDULED);
                return Filter::And(vec![Filter::state(State::Queued), scheduled, filter]);
            }
            Self::Delete => State::ALL
                .into_iter()
                .filter(|state| *state != State::Running)
                .collect(),
            Self::Edit(_) => EDITABLE.into(),
        };
        let states = match states.as_slice() {
            [state] => Filter::state(*state),
            _ => Filter::states(states),
        };
        Filter::And(vec![states, filter])
    }
}

/// What has been done to many jobs so far.
#[derive(Debug, Default)]
pub struct Steered {
    /// Jobs to which it was done.
    pub done: u64,
    /// Jobs to which it could not be done.
    pub refused: u64,
    /// The first of those, with the reason.
    pub refusals: Vec<(ObjectId, Error)>,
}

impl Steered {
    fn refuse(&mut self, id: ObjectId, error: Error) {
        self.refused += 1;
        if self.refusals.len() < KEPT {
            self.refusals.push((id, error));
        }
    }

    fn note(&mut self, id: ObjectId, outcome: Result<JobDocument>) -> Result<()> {
        match outcome {
            Ok(_) => self.done += 1,
            // Somebody else was faster: there is nothing left to do.
            Err(Error::NotFound { .. }) => {}
            Err(error @ (Error::Unavailable { .. } | Error::Storage(_))) => return Err(error),
            Err(error) => self.refuse(id, error),
        }
        Ok(())
    }
}

/// How steering many jobs ended.
#[derive(Debug)]
pub enum Ended {
    /// All were seen.
    Completely,
    /// Somebody asked to stop; what was done stays done.
    Interrupted,
    /// The store failed; what was done stays done.
    Failed(Error),
}

/// Does one thing to a job, and returns the job after it (before it, for a deletion).
///
/// # Errors
/// [`Error::NotFound`], [`Error::WrongState`], [`Error::Existing`], and what [`edit`] says.
pub async fn steer_one(
    store: &Store,
    kinds: &Kinds,
    id: ObjectId,
    act: &Act,
) -> Result<JobDocument> {
    match act {
        Act::Transition(transition, failure) => {
            let definition = match store.get(id).await? {
                Some(job) => kinds.definition(job.kind()),
                None => None,
            };
            let outcome = steer(store, definition, id, *transition, failure.clone()).await;
            match outcome {
                // A running job of a pausable kind that is not compiled in.
                Err(Error::WrongState {
                    from: State::Running,
                    transition: Transition::Pause,
                    ..
                }) if definition.is_none() => pause_running(store, kinds, id).await,
                outcome => outcome,
            }
        }
        Act::RunNow => run_now(store, id).await,
        Act::Delete => delete(store, id).await,
        Act::Edit(edits) => edit(store, kinds, id, edits).await,
    }
}

async fn pause_running(store: &Store, kinds: &Kinds, id: ObjectId) -> Result<JobDocument> {
    let job = store.get(id).await?.ok_or(Error::NotFound { id })?;
    let patch = transition_patch(store, kinds, &job, Transition::Pause, None)?;
    let wrong = |from| Error::WrongState {
        id,
        from,
        transition: Transition::Pause,
    };
    store.update(patch).await?.map_err(|refusal| match refusal {
        Refusal::State(from) => wrong(from),
        _ => Error::NotFound { id },
    })
}

async fn delete(store: &Store, id: ObjectId) -> Result<JobDocument> {
    let at_rest = State::ALL.into_iter().filter(|s| *s != State::Running);
    let patch = Patch {
        id,
        guard: Guard::states(at_rest),
        change: Change::delete(),
    };
    store.update(patch).await?.map_err(|refusal| match refusal {
        Refusal::State(state) => Error::configuration(format!(
            "job {id} is {state} and may not be deleted: abort it first"
        )),
        _ => Error::NotFound { id },
    })
}

/// Does one thing to all jobs that meet `filter`, a batch at a time in the order of arrival, and
/// goes through the store once. Jobs that come to meet it meanwhile may be left out.
///
/// `progress` is told after each batch, and may end it there. However it ends, what was done is
/// done, and is told.
pub async fn steer_all(
    store: &Store,
    kinds: &Kinds,
    filter: Filter,
    act: &Act,
    mut progress: impl FnMut(&Steered) -> ControlFlow<()>,
) -> (Steered, Ended) {
    let mut steered = Steered::default();
    let mut query = Query {
        limit: BATCH,
        walk: true,
        ..Query::new(act.applicable(filter))
    };
    loop {
        let jobs = match store.find(&query).await {
            Ok(jobs) => jobs,
            Err(error) => return (steered, Ended::Failed(error)),
        };
        let last = jobs.last().map(JobDocument::id);
        let is_last = jobs.len() < BATCH;
        if let Err(error) = batch(store, kinds, jobs, act, &mut steered).await {
            return (steered, Ended::Failed(error));
        }
        let goes_on = progress(&steered).is_continue();
        let Some(id) = last.filter(|_| !is_last) else {
            return (steered, Ended::Completely);
        };
        if !goes_on {
            return (steered, Ended::Interrupted);
        }
        query.after = Some(Cursor {
            value: id.into(),
            id,
        });
    }
}

async fn batch(
    store: &Store,
    kinds: &Kinds,
    jobs: Vec<JobDocument>,
    act: &Act,
    steered: &mut Steered,
) -> Result<()> {
    match act {
        Act::Transition(transition, failure) => {
            let mut patches = Vec::with_capacity(jobs.len());
            for job in jobs {
                let patch = transition_patch(store, kinds, &job, *transition, failure.as_ref());
                match patch {
                    Ok(patch) => patches.push((job, patch)),
                    Err(error) => steered.refuse(job.id(), error),
                }
            }
            settle(store, kinds, patches, act, steered).await
        }
        Act::Delete => {
            let patch = |job: JobDocument| {
                let patch = Patch {
                    id: job.id(),
                    guard: Guard::states([job.state()]),
                    change: Change::delete(),
                };
                (job, patch)
            };
            let patches = jobs.into_iter().map(patch).collect();
            settle(store, kinds, patches, act, steered).await
        }
        Act::RunNow | Act::Edit(_) => one_by_one(store, kinds, jobs, act, steered).await,
    }
}

fn transition_patch(
    store: &Store,
    kinds: &Kinds,
    job: &JobDocument,
    transition: Transition,
    failure: Option<&JobFailure>,
) -> Result<Patch> {
    let (id, from) = (job.id(), job.state());
    if target(from, transition, kinds.is_pausable(job.kind())).is_none() {
        return Err(Error::WrongState {
            id,
            from,
            transition,
        });
    }
    let definition = kinds.definition(job.kind());
    let change = self::steered(definition, job, transition, failure, store.now())?;
    let guard = Guard::states([from]);
    Ok(Patch { id, guard, change })
}

/// Writes the patches as one group; whose job has changed meanwhile is looked at again.
async fn settle(
    store: &Store,
    kinds: &Kinds,
    patches: Vec<(JobDocument, Patch)>,
    act: &Act,
    steered: &mut Steered,
) -> Result<()> {
    let group = patches.iter().map(|(_, patch)| patch.clone()).collect();
    let settled = store.settle(group).await?;
    let mut changed = Vec::new();
    for ((job, patch), settled) in patches.into_iter().zip(settled) {
        match settled {
            Settled::Accepted => {
                steered.done += 1;
                if patch.change.set.contains_key(name::SUCCESSORS) {
                    follow(store, patch.id).await;
                }
                tell(kinds, job, &patch.change, act).await;
            }
            Settled::Refused(Refusal::NotFound) => {}
            Settled::Refused(Refusal::State(_) | Refusal::ClaimLost) => changed.push(job),
            Settled::Refused(Refusal::Existing(existing)) => {
                let reason = unique_reason(&job);
                steered.refuse(job.id(), Error::Existing { reason, existing });
            }
        }
    }
    one_by_one(store, kinds, changed, act, steered).await
}

/// Tells the concerns that observe a transition.
async fn tell(kinds: &Kinds, job: JobDocument, change: &Change, act: &Act) {
    let (Act::Transition(transition, _), Some(definition)) = (act, kinds.definition(job.kind()))
    else {
        return;
    };
    let observers = definition.concerns.iter();
    let mut observers = observers
        .filter(|concern| concern.observes(*transition))
        .peekable();
    if observers.peek().is_none() {
        return;
    }
    let mut after = job.into_document();
    change.apply(&mut after);
    if let Ok(after) = JobDocument::new(after) {
        for concern in observers {
            concern.after_transition(*transition, &after).await;
        }
    }
}

async fn one_by_one(
    store: &Store,
    kinds: &Kinds,
    jobs: Vec<JobDocument>,
    act: &Act,
    steered: &mut Steered,
) -> Result<()> {
    let each = jobs
        .into_iter()
        .map(async |job: JobDocument| (job.id(), steer_one(store, kinds, job.id(), act).await));
    let mut outcomes = stream::iter(each).buffer_unordered(AT_ONCE);
    while let Some((id, outcome)) = outcomes.next().await {
        steered.note(id, outcome)?;
    }
    Ok(())
}
