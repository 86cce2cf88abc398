//! Each job by itself: it ended as planned, each outcome was accepted once, and nothing of it was
//! begun that had been accepted already.

use std::collections::BTreeSet;

use bson::Bson;
use rocketjob::{JobDocument, State, name};

use crate::mix::{
    note::{Event, Note},
    plan::{Kind, Plan},
};

/// What no job has that has ended. (Places and unique keys stay to be read, and count only together
/// with the state: whether they are free is tried.)
const GONE: [&str; 4] = [name::READY, name::HOLD, name::WORKER_NAME, name::SUCCESSORS];

/// The claims whose outcomes were accepted, in their order: a job adds its claim to a field that is
/// stored together with the outcome, or not at all.
pub(crate) fn accepted(document: &JobDocument) -> Vec<&str> {
    texts(document, "accepted")
}

fn texts<'d>(document: &'d JobDocument, field: &str) -> Vec<&'d str> {
    match document.get(field) {
        Some(Bson::Array(texts)) => texts.iter().filter_map(Bson::as_str).collect(),
        _ => Vec::new(),
    }
}

/// What the document alone tells of a job.
pub(crate) fn check_document(
    kind: Kind,
    plan: Plan,
    document: &JobDocument,
    violation: &mut impl FnMut(String),
) {
    if document.state() != plan.ends {
        violation(format!("is {}, not {}", document.state(), plan.ends));
    }
    let outcomes = accepted(document).len();
    if outcomes != plan.outcomes() {
        violation(format!(
            "has {outcomes} accepted outcomes, not {}",
            plan.outcomes()
        ));
    }
    if document.failure_count() != plan.failures {
        let count = document.failure_count();
        violation(format!("has failed {count} times, not {}", plan.failures));
    }
    let history = texts(document, "history");
    let noted = matches!(kind, Kind::Retry | Kind::Return);
    if noted && history != plan.history() {
        violation(format!(
            "has the history {history:?}, not {:?}",
            plan.history()
        ));
    }
    for field in GONE {
        if let Some(value) = document.get(field) {
            violation(format!("still has `{field}`: {value}"));
        }
    }
}

/// What the ledger tells of a job whose document stayed.
pub(crate) fn check_claims(
    plan: Plan,
    document: &JobDocument,
    notes: &[&Note],
    violation: &mut impl FnMut(String),
) {
    let mut begun = BTreeSet::new();
    for note in notes.iter().filter(|note| note.event == Event::Begun) {
        if note.accepted >= plan.outcomes() {
            violation(format!(
                "was claimed again after it had ended, and begun by process {} under claim {}",
                note.process, note.claim
            ));
        } else if usize::try_from(note.attempt) != Ok(note.accepted + 1) {
            violation(format!(
                "was begun as attempt {} after {} accepted outcomes",
                note.attempt, note.accepted
            ));
        }
        if !begun.insert(&note.claim) {
            violation(format!("was begun twice under claim {}", note.claim));
        }
    }
    for (before, claim) in accepted(document).into_iter().enumerate() {
        let completes = plan.ends == State::Completed && before + 1 == plan.outcomes();
        let event = if completes { Event::Done } else { Event::Again };
        check_outcome(before, claim, event, notes, violation);
    }
}

/// The outcome that was accepted after `before` others: it is in the ledger, and no other claim on
/// the same attempt was begun after it.
fn check_outcome(
    before: usize,
    claim: &str,
    event: Event,
    notes: &[&Note],
    violation: &mut impl FnMut(String),
) {
    let of_claim = |note: &&&Note| note.claim == claim && note.event != Event::Begun;
    let ends: Vec<_> = notes.iter().filter(of_claim).collect();
    let [end] = ends[..] else {
        let count = ends.len();
        return violation(format!(
            "has an accepted outcome under claim {claim}, under which the ledger has {count} ends and not one"
        ));
    };
    if end.event != event {
        violation(format!(
            "ended with {:?} under claim {claim}, not with {event:?}",
            end.event
        ));
    }
    let again = notes.iter().filter(|note| {
        note.event == Event::Begun && note.accepted <= before && note.claim != claim
    });
    for note in again.filter(|note| note.at >= end.at) {
        violation(format!(
            "was begun under claim {}, {} µs after it had ended under claim {claim}",
            note.claim,
            note.at - end.at
        ));
    }
}
