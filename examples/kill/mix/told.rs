//! What those were told who created jobs of which one may be active.

use bson::oid::ObjectId;
use rocketjob::{Created, Error, NewJob, Perform, Store};

use crate::{job::now, mix::plan::Kind};

/// What became of a job that was to be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Inserted(ObjectId),
    /// That one stands for it.
    Existing(ObjectId),
    /// It took the place of that one.
    Replaced(ObjectId),
    /// That one is in its way.
    Refused(ObjectId),
    /// The store was away: nobody knows.
    Unknown,
}

/// One call and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) kind: Kind,
    pub(crate) number: i64,
    pub(crate) key: i64,
    /// When the call was made, and when it was answered, as in the ledger.
    pub(crate) asked: i64,
    pub(crate) answered: i64,
    pub(crate) answer: Answer,
}

impl Told {
    /// The job that has what was to be created.
    pub(crate) fn holder(&self) -> Option<ObjectId> {
        match self.answer {
            Answer::Inserted(id) | Answer::Replaced(id) => Some(id),
            Answer::Existing(_) | Answer::Refused(_) | Answer::Unknown => None,
        }
    }

    /// The job that was there instead.
    pub(crate) fn other(&self) -> Option<ObjectId> {
        match self.answer {
            Answer::Existing(id) | Answer::Refused(id) => Some(id),
            Answer::Inserted(_) | Answer::Replaced(_) | Answer::Unknown => None,
        }
    }
}

/// Creates a job, and returns what the answer was.
pub(crate) async fn ask<T: Perform>(
    store: &Store,
    (kind, number, key): (Kind, i64, i64),
    job: NewJob<T>,
) -> Result<Told, Error> {
    let asked = now();
    let answer = match job.create_unique(store).await {
        Ok(Created::Inserted(job)) => Answer::Inserted(job.id()),
        Ok(Created::Existing(job)) => Answer::Existing(job.id()),
        Ok(Created::Replaced(job)) => Answer::Replaced(job.id()),
        Err(Error::Existing { existing, .. }) => Answer::Refused(existing),
        Err(error) if error.is_transient() => Answer::Unknown,
        Err(error) => return Err(error),
    };
    Ok(Told {
        kind,
        number,
        key,
        asked,
        answered: now(),
        answer,
    })
}
