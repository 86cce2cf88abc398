//! Inserts and conditional changes.

use bson::Document;
use rocketjob_core::{Insertion, JobDocument, Patch, Refusal, Settled};

use crate::{
    ending::{Ending, Endings},
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

/// Settles each patch, with the ending that was made of it, if there is one.
pub(crate) fn settle(
    session: &Session<'_>,
    patches: &[Patch],
    endings: &[Option<Ending>],
) -> Result<Vec<Settled>, Failure> {
    let mut direct = Endings::new(session);
    patches
        .iter()
        .zip(endings)
        .map(|(patch, ending)| {
            if let Some(ending) = ending
                && direct.run(ending, patch)?
            {
                return Ok(Settled::Accepted);
            }
            let Some(stored) = find(session, patch)? else {
                return Ok(Settled::Refused(Refusal::NotFound));
            };
            Ok(match write(session, patch, &stored)? {
                Ok(_) => Settled::Accepted,
                Err(_) if patch.was_made(&stored.document) => Settled::Accepted,
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
    if !patch.guard.holds(&stored.document) {
        return Ok(Err(patch.guard.refusal(&stored.document)));
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
