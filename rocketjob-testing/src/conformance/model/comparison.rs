//! When the store and the model say the same.

use std::collections::BTreeMap;

use bson::{Bson, Document};
use jiff::Timestamp;
use rocketjob_core::{JobDocument, JobFailure, Limit, Limits, Refusal, State, name};

use super::{operation::LIMITS, reference::Answer};

/// `Ok`, or in what they differ.
pub(super) type Compared = Result<(), String>;

pub(super) fn same<T: PartialEq + std::fmt::Debug>(what: &str, store: &T, model: &T) -> Compared {
    if store == model {
        Ok(())
    } else {
        Err(format!(
            "{what}: the store says {store:?}, the model {model:?}"
        ))
    }
}

pub(super) fn answers(store: Option<Refusal>, model: &Answer) -> Compared {
    let agree = match (store, model) {
        (None, Answer::Done) => true,
        (Some(Refusal::Existing(id)), Answer::Existing(rivals)) => rivals.contains(&id),
        (Some(refusal), Answer::Refused(expected)) => refusal == *expected,
        _ => false,
    };
    if agree {
        Ok(())
    } else {
        Err(format!("the store refuses {store:?}, the model {model:?}"))
    }
}

/// The places that a document takes.
pub(super) fn running_slots(document: &Document) -> Vec<String> {
    let running = document.get_str(name::STATE).ok() == Some(State::Running.as_str());
    let slots = document.get_array(name::SLOTS).ok().filter(|_| running);
    slots
        .into_iter()
        .flatten()
        .filter_map(|slot| slot.as_str().map(ToOwned::to_owned))
        .collect()
}

/// What a document says: absent is null, a store's own time is any, a place is any of its limit,
/// and what a job that does not run took of limits says nothing.
pub(super) fn meaning(document: &Document) -> BTreeMap<String, Bson> {
    let mut meaning: BTreeMap<String, Bson> = document
        .iter()
        .filter(|(field, value)| **value != Bson::Null && *field != name::SLOTS)
        .map(|(field, value)| (field.clone(), value.clone()))
        .collect();
    if let Some(time) = meaning.get_mut(name::STARTED_AT) {
        *time = Bson::Boolean(true);
    }
    for slot in running_slots(document) {
        let key = slot.rsplit_once(':').map_or(slot.as_str(), |(key, _)| key);
        meaning.insert(format!("slot of {key}"), Bson::Boolean(true));
    }
    meaning
}

/// Each job is limited by the key that it names.
#[derive(Debug)]
pub(super) struct OwnLimits;

impl Limits for OwnLimits {
    fn limits(&self, job: &JobDocument, _now: Timestamp) -> Result<Vec<Limit>, JobFailure> {
        let limits = LIMITS
            .into_iter()
            .filter(|(key, _)| job.get("limit").and_then(Bson::as_str) == Some(key))
            .map(|(key, max)| Limit::running(key, max));
        Ok(limits.collect())
    }
}
