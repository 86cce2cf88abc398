//! Transitions and deletions that an operator asks for, of many jobs in one command.
//!
//! A statement for each job, fenced by its state. Who else has just made the same transition of the
//! same job cannot be told from this command by the document; how many were met tells that nobody
//! has.

use std::collections::{HashMap, HashSet};

use bson::{Document, oid::ObjectId};
use rocketjob_core::{Patch, Refusal, Result, Settled, name};

use crate::{
    command::{self, Durability, Verb, Written},
    filter,
    settle::encoded,
    store::MongoStore,
};

/// Whether each patch leads a job of its own from one state to another, under no claim, and takes
/// no new unique key; or each deletes one.
pub(crate) fn are_steered(patches: &[Patch]) -> bool {
    let mut jobs = HashSet::new();
    let are_deletions = patches.first().is_some_and(|patch| patch.change.delete);
    patches.iter().all(|patch| {
        let (guard, change) = (&patch.guard, &patch.change);
        let leads_on = change.delete
            || change
                .state()
                .is_some_and(|target| !guard.states.contains(&target));
        let takes_key = [name::UNIQUE_KEY, name::UNFINISHED_KEY]
            .iter()
            .any(|key| change.set.contains_key(key));
        jobs.insert(patch.id)
            && guard.claim.is_none()
            && guard.matching.is_none()
            && !guard.states.is_empty()
            && change.delete == are_deletions
            && leads_on
            && !takes_key
    })
}

impl MongoStore {
    /// Settles patches that [`are_steered`].
    pub(crate) async fn settle_steered(&self, patches: &[Patch]) -> Result<Vec<Settled>> {
        let ids = || patches.iter().map(|patch| patch.id).collect();
        // What is in another state already is told apart from what this command changes.
        let before = self.settled_documents(ids()).await?;
        let mut settled: Vec<Settled> = patches
            .iter()
            .map(|patch| standing(patch, &before))
            .collect();
        let open: Vec<usize> = (0..patches.len())
            .filter(|at| settled.get(*at) == Some(&Settled::Accepted))
            .collect();
        let mut statements = Vec::with_capacity(open.len());
        let mut verb = Verb::Update;
        for patch in open.iter().filter_map(|at| patches.get(*at)) {
            let condition = filter::guarded(patch.id, &patch.guard)?;
            statements.push(if patch.change.delete {
                verb = Verb::Delete;
                command::delete(condition)?
            } else {
                command::update(condition, &encoded(&patch.change)?)?
            });
        }
        let written = self.write(verb, &statements, Durability::Majority).await?;
        let failed = self.keys_in_use(&written).await?;
        let all_met = written.met == (open.len() - failed.len()) as u64;
        let after = if written.repeated || !all_met {
            self.settled_documents(ids()).await?
        } else {
            HashMap::new()
        };
        for (number, at) in open.iter().enumerate() {
            let (Some(place), Some(patch)) = (settled.get_mut(*at), patches.get(*at)) else {
                continue;
            };
            if let Some(holder) = failed.get(&number) {
                *place = Settled::Refused(Refusal::Existing(*holder));
            } else if written.repeated || !all_met {
                *place = led(patch, &after);
            }
        }
        Ok(settled)
    }

    /// The holders of the unique keys that statements would have taken, by the statement's number.
    async fn keys_in_use(&self, written: &Written) -> Result<HashMap<usize, ObjectId>> {
        let mut holders = HashMap::new();
        for failure in &written.failures {
            let holder = match &failure.key {
                Some(key) if failure.is_duplicate() => self.holder(key).await?,
                _ => None,
            };
            holders.insert(failure.statement, holder.ok_or_else(|| failure.to_error())?);
        }
        Ok(holders)
    }
}

/// Whether the patch may be made.
fn standing(patch: &Patch, found: &HashMap<ObjectId, Document>) -> Settled {
    match found.get(&patch.id) {
        None => Settled::Refused(Refusal::NotFound),
        Some(document) if patch.guard.holds(document) => Settled::Accepted,
        Some(document) => Settled::Refused(patch.guard.refusal(document)),
    }
}

/// Whether the job is where the patch leads.
fn led(patch: &Patch, found: &HashMap<ObjectId, Document>) -> Settled {
    let Some(document) = found.get(&patch.id) else {
        // It was there before this command.
        return if patch.change.delete {
            Settled::Accepted
        } else {
            Settled::Refused(Refusal::NotFound)
        };
    };
    if patch.change.delete {
        return Settled::Refused(patch.guard.refusal(document));
    }
    let state = document.get_str(name::STATE).ok();
    if state == patch.change.state().map(rocketjob_core::State::as_str) {
        Settled::Accepted
    } else {
        Settled::Refused(patch.guard.refusal(document))
    }
}
