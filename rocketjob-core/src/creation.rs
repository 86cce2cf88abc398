//! What becomes of a new job: it is inserted, or another job with its unique key stands for it, or
//! gives it its place.
//!
//! A place is taken by one write: the document of the job that waits gets all that the new one has,
//! and keeps its id. So at no moment are there two, and at none is there none.

use bson::oid::ObjectId;

use crate::{
    change::{Change, Guard, Insertion, Patch, Refusal},
    definition::Definition,
    document::JobDocument,
    error::{Error, Result},
    filter::Filter,
    handle::JobHandle,
    job::Job,
    name,
    new_job::unique_reason,
    state::State,
    store::Store,
    unique::{Mark, OnConflict},
};

/// How often a key's holder may have ended by the time it is looked at.
const TRIES: usize = 100;

/// What a job keeps whose place is taken: it stays the same job to those that wait for it, and to a
/// worker that repeats a write whose answer was lost.
const KEPT: [&str; 4] = [name::ID, name::CLAIM, name::SUCCESSORS, name::FOLLOWS];

/// What became of a job that was to be created.
#[derive(Debug, Clone)]
#[must_use]
pub enum Created<T> {
    /// It was stored.
    Inserted(JobHandle<T>),
    /// Nothing was stored: this job, with the same unique key, stands for it.
    Existing(JobHandle<T>),
    /// It took the place of a job with the same unique key that was queued, and has its id.
    Replaced(JobHandle<T>),
}

impl<T> Created<T> {
    /// The job that holds the unique key now.
    pub fn job(&self) -> &JobHandle<T> {
        match self {
            Self::Inserted(job) | Self::Existing(job) | Self::Replaced(job) => job,
        }
    }

    /// The job that holds the unique key now, given away.
    pub fn into_job(self) -> JobHandle<T> {
        match self {
            Self::Inserted(job) | Self::Existing(job) | Self::Replaced(job) => job,
        }
    }
}

/// What became of a document that was to be inserted.
#[derive(Debug)]
pub(crate) enum Placed {
    Inserted(JobDocument),
    Existing(JobDocument),
    Replaced(JobDocument),
}

impl Placed {
    pub(crate) fn into_document(self) -> JobDocument {
        match self {
            Self::Inserted(job) | Self::Existing(job) | Self::Replaced(job) => job,
        }
    }

    /// With the struct from which the document was made.
    pub(crate) fn typed<T: Job>(self, store: Store, job: T) -> Result<Created<T>> {
        Ok(match self {
            Self::Inserted(document) => Created::Inserted(JobHandle::new(store, document, job)),
            Self::Replaced(document) => Created::Replaced(JobHandle::new(store, document, job)),
            Self::Existing(document) => Created::Existing(JobHandle::decode(store, document)?),
        })
    }
}

/// Goes on from what the store said of the insertion of `document`.
///
/// # Errors
/// [`Error::Existing`] when another job holds its unique key, and the concern that the key belongs
/// to says that it is to be refused, or that job is not in a state in which its place can be taken.
pub(crate) async fn place(
    store: &Store,
    definition: &Definition,
    document: JobDocument,
    mut insertion: Insertion,
) -> Result<Placed> {
    for _ in 0..TRIES {
        let existing = match insertion {
            // The job itself, from an earlier try whose answer was lost.
            Insertion::Existing(existing) if existing != document.id() => existing,
            Insertion::Inserted | Insertion::Existing(_) => return Ok(Placed::Inserted(document)),
        };
        if let Some(placed) = settle(store, definition, &document, existing).await? {
            return Ok(placed);
        }
        let outcomes = store.insert(vec![document.clone()]).await?;
        insertion = outcomes.first().copied().unwrap_or(insertion);
    }
    Err(match insertion {
        Insertion::Existing(existing) => refused(&document, existing),
        Insertion::Inserted => return Ok(Placed::Inserted(document)),
    })
}

/// What becomes of `document` beside the job `existing`; `None` when that is no longer in its way.
async fn settle(
    store: &Store,
    definition: &Definition,
    document: &JobDocument,
    existing: ObjectId,
) -> Result<Option<Placed>> {
    let marks = Mark::of(definition, document)?;
    if !marks
        .iter()
        .any(|mark| mark.on_conflict != OnConflict::Reject)
    {
        return Err(refused(document, existing));
    }
    let Some(holder) = store.get(existing).await? else {
        return Ok(None);
    };
    let held: Vec<&Mark> = marks
        .iter()
        .filter(|mark| mark.is_held_by(&holder))
        .collect();
    let all = |wanted| held.iter().all(|mark| mark.on_conflict == wanted);
    let Some(mark) = held.first() else {
        return Ok(None);
    };
    if all(OnConflict::ReturnExisting) {
        return Ok(Some(Placed::Existing(holder)));
    }
    if !all(OnConflict::Replace) || holder.state() != State::Queued {
        return Err(refused(document, existing));
    }
    let still = Filter::eq(mark.field, mark.key.as_str());
    let patch = Patch {
        id: existing,
        guard: Guard::states([State::Queued]).matching(still),
        change: replacement(definition, &holder, document),
    };
    match store.update(patch).await? {
        Ok(after) => Ok(Some(Placed::Replaced(after))),
        Err(Refusal::Existing(other)) => Err(refused(document, other)),
        Err(Refusal::NotFound | Refusal::State(_) | Refusal::ClaimLost) => Ok(None),
    }
}

/// The write that lets `new` take the place of `old`, whatever has been written to that since it was
/// read.
fn replacement(definition: &Definition, old: &JobDocument, new: &JobDocument) -> Change {
    let id = new.id();
    let new = new.as_document();
    let mut change = Change::new();
    let of_concerns = definition.concerns.iter().map(|concern| concern.fields());
    let known = std::iter::once(definition.fields)
        .chain(of_concerns)
        .flatten()
        .map(|field| field.name)
        .chain(name::ENVELOPE.iter().copied());
    for field in known.chain(old.as_document().keys().map(String::as_str)) {
        if !KEPT.contains(&field) && !new.contains_key(field) {
            change.take(field);
        }
    }
    for (field, value) in new {
        if !KEPT.contains(&field.as_str()) {
            change.put(field, value.clone());
        }
    }
    // Who is about to claim the job as it was does not get this one.
    change.put(name::REPLACEMENT, id);
    change
}

fn refused(document: &JobDocument, existing: ObjectId) -> Error {
    Error::Existing {
        reason: unique_reason(document),
        existing,
    }
}
