//! What concerns are asked when a job is saved, and when it is decided what becomes of it.

use bson::{Bson, Document, oid::ObjectId};
use jiff::Timestamp;

use crate::{
    change::Change, definition::Definition, document::JobDocument, error::Result, name, restart,
    state::Transition, successor::successor_id,
};

/// A job that is about to be stored for the first time, or with what people have edited.
#[derive(Debug)]
pub struct Saving<'a> {
    pub(crate) definition: &'a Definition,
    pub(crate) before: Option<&'a JobDocument>,
    pub(crate) job: &'a JobDocument,
    pub(crate) now: Timestamp,
    pub(crate) change: &'a mut Change,
}

impl Saving<'_> {
    /// What is known of the kind.
    pub fn definition(&self) -> &Definition {
        self.definition
    }

    /// The job as it is stored; `None` for a new one.
    pub fn before(&self) -> Option<&JobDocument> {
        self.before
    }

    /// The job as it would be stored.
    pub fn job(&self) -> &JobDocument {
        self.job
    }

    /// The store's time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Whether the new job has the field, or the edit changes it.
    pub fn sets(&self, field: &str) -> bool {
        self.before.map_or_else(
            || self.job.get(field).is_some(),
            |before| before.get(field) != self.job.get(field),
        )
    }

    /// What is stored besides.
    pub fn change(&mut self) -> &mut Change {
        self.change
    }
}

/// A transition that has been decided, by a claim's outcome or from outside, and is about to be
/// written: the place to add successors.
#[derive(Debug)]
pub struct Conclusion<'a> {
    definition: &'a Definition,
    job: &'a JobDocument,
    transition: Transition,
    now: Timestamp,
    successors: &'a mut Vec<JobDocument>,
    pub(crate) change: &'a mut Change,
}

impl<'a> Conclusion<'a> {
    pub(crate) fn new(
        definition: &'a Definition,
        job: &'a JobDocument,
        transition: Transition,
        now: Timestamp,
        successors: &'a mut Vec<JobDocument>,
        change: &'a mut Change,
    ) -> Self {
        Self {
            definition,
            job,
            transition,
            now,
            successors,
            change,
        }
    }

    /// The job before the transition.
    pub fn job(&self) -> &JobDocument {
        self.job
    }

    /// What becomes of it. A retry that its own outcome asked for is a
    /// [`Retry`](Transition::Retry), a claim that is handed back a [`Requeue`](Transition::Requeue).
    pub fn transition(&self) -> Transition {
        self.transition
    }

    /// The store's time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// What else is written.
    pub fn change(&mut self) -> &mut Change {
        self.change
    }

    /// A new instance of the job, with the fields that are copied on restart as they now stand, and
    /// with `overrides`; `None` when the job has expired.
    ///
    /// # Errors
    /// Those of a new job whose concerns' states do not fit.
    pub fn restarted(&self, overrides: &Document) -> Result<Option<JobDocument>> {
        let mut document = self.job.as_document().clone();
        self.change.apply(&mut document);
        restart::next_instance(
            self.definition,
            &document,
            self.next_id(),
            self.now,
            overrides,
        )
    }

    /// An id for a successor, the same for whoever makes the same one.
    pub fn next_id(&self) -> ObjectId {
        successor_id(self.job.id(), self.now, self.successors.len())
    }

    /// Adds a job that is created because of this, exactly once, also after a crash.
    pub fn add_successor(&mut self, job: JobDocument) {
        self.successors.push(job);
    }

    /// The document with what is written to it so far.
    pub(crate) fn current(&self) -> Document {
        let mut document = self.job.as_document().clone();
        self.change.apply(&mut document);
        document
    }
}

/// Asks the concerns of `definition`, in order, what they add to a transition.
pub(crate) fn conclude(
    definition: &Definition,
    job: &JobDocument,
    transition: Transition,
    now: Timestamp,
    successors: &mut Vec<JobDocument>,
    change: &mut Change,
) -> Result<()> {
    for concern in definition.concerns {
        let mut conclusion = Conclusion::new(definition, job, transition, now, successors, change);
        concern.conclude(&mut conclusion)?;
    }
    Ok(())
}

/// Writes the successors with the change that they follow from, after those that still wait to be
/// created.
pub(crate) fn put_successors(change: &mut Change, job: &JobDocument, successors: Vec<JobDocument>) {
    if successors.is_empty() || change.delete {
        return;
    }
    let mut documents = match job.get(name::SUCCESSORS) {
        Some(Bson::Array(waiting)) => waiting.clone(),
        _ => Vec::new(),
    };
    for successor in successors {
        let vanishes = successor.destroy_on_complete();
        let mut successor = successor.into_document();
        if vanishes {
            successor.insert(name::FOLLOWS, job.id());
        }
        documents.push(Bson::Document(successor));
    }
    change.put(name::SUCCESSORS, documents);
}
