//! Inserts and conditional changes.

use bson::Document;
use rocketjob_core::{Guard, Insertion, JobDocument, Patch, Refusal, Settled, State, name};

use crate::{
    error::Failure,
    row::object_id,
    session::{Session, Stored, existing},
};

pub(crate) fn insert(
    session: &Session<'_>,
    jobs: Vec<JobDocument>,
) -> Result<Vec<Insertion>, Failure> {
    jobs.into_iter()
        .map(|job| match session.insert(job.into_document())? {
            Ok(()) => Ok(Insertion::Inserted),
            Err(rival) => match object_id(&rival) {
                Some(rival) => Ok(Insertion::Existing(rival)),
                None => Err(existing(&rival)),
            },
        })
        .collect()
}

pub(crate) fn settle(session: &Session<'_>, patches: &[Patch]) -> Result<Vec<Settled>, Failure> {
    patches
        .iter()
        .map(|patch| {
            let Some(stored) = find(session, patch)? else {
                return Ok(Settled::Refused(Refusal::NotFound));
            };
            Ok(match write(session, patch, &stored)? {
                Ok(_) => Settled::Accepted,
                Err(_) if is_settled(patch, &stored.document) => Settled::Accepted,
                Err(refusal) => Settled::Refused(refusal),
            })
        })
        .collect()
}

/// The document after the change, or before a deletion.
pub(crate) fn update(
    session: &Session<'_>,
    patch: &Patch,
) -> Result<Result<Document, Refusal>, Failure> {
    match find(session, patch)? {
        None => Ok(Err(Refusal::NotFound)),
        Some(stored) => write(session, patch, &stored),
    }
}

fn find(session: &Session<'_>, patch: &Patch) -> Result<Option<Stored>, Failure> {
    Ok(session.row(&patch.id.bytes())?.map(Stored::new))
}

fn write(
    session: &Session<'_>,
    patch: &Patch,
    stored: &Stored,
) -> Result<Result<Document, Refusal>, Failure> {
    if !holds(&patch.guard, &stored.document) {
        return Ok(Err(refusal(&patch.guard, &stored.document)));
    }
    if patch.change.delete {
        session.delete(stored)?;
        return Ok(Ok(stored.document.clone()));
    }
    match session.change(stored, &patch.change)? {
        Ok(after) => Ok(Ok(after.document)),
        Err(rival) => match object_id(&rival) {
            Some(rival) => Ok(Err(Refusal::Existing(rival))),
            None => Err(existing(&rival)),
        },
    }
}

/// Whether an earlier try, whose answer was lost, has written what `patch` asks for.
fn is_settled(patch: &Patch, document: &Document) -> bool {
    let (Some(claim), Some(target)) = (&patch.guard.claim, patch.change.state()) else {
        return false;
    };
    target != State::Running
        && state(document) == Some(target)
        && text(document, name::CLAIM) == Some(&claim.token)
}

/// As [`Guard::holds`], also for a document whose envelope another program has broken.
fn holds(guard: &Guard, document: &Document) -> bool {
    (guard.states.is_empty() || state(document).is_some_and(|state| guard.states.contains(&state)))
        && guard.claim.as_ref().is_none_or(|claim| {
            text(document, name::CLAIM) == Some(&claim.token)
                && text(document, name::WORKER_NAME) == Some(&claim.worker_name)
        })
        && guard
            .matching
            .as_ref()
            .is_none_or(|filter| filter.matches(document))
}

fn refusal(guard: &Guard, document: &Document) -> Refusal {
    match JobDocument::new(document.clone()) {
        Ok(job) => guard.refusal(&job),
        Err(_) => Refusal::State(state(document).unwrap_or(State::Failed)),
    }
}

fn state(document: &Document) -> Option<State> {
    text(document, name::STATE).and_then(State::from_name)
}

fn text<'d>(document: &'d Document, field: &str) -> Option<&'d str> {
    document.get_str(field).ok()
}
