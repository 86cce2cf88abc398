//! Openings: a job that is created where an idle worker waits is inserted as its, and begins at once.
//!
//! Between creation and `perform` lie otherwise a bell, a look for work and a claim: a few round
//! trips. The claim is the same, and made in the same step as the insertion, by the same rules:
//! who dies on the way leaves a running job under the token of a dead server, as with any claim.

use std::{
    fmt::Debug,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use crate::{document::JobDocument, error::Result};

/// Whoever has idle workers in this process: a server.
pub trait Opening: Debug + Send + Sync {
    /// Claims a job that is about to be inserted, if a worker is idle that may perform it and no
    /// other work is known to be ready for it.
    ///
    /// # Errors
    /// [`Error::Undecodable`](crate::Error::Undecodable) when the document is none of a job.
    fn take(self: Arc<Self>, job: &JobDocument) -> Result<Option<Box<dyn Taken>>>;
}

/// A job that was claimed before it exists. Dropped, it is unknown whether it was inserted.
pub trait Taken: Debug + Send {
    /// The job as it is to be inserted: running.
    fn document(&self) -> &JobDocument;

    /// It has been inserted: the worker begins.
    fn begin(self: Box<Self>);

    /// It has not been inserted, for certain.
    fn decline(self: Box<Self>);
}

/// The openings at one store in this process.
#[derive(Debug, Default)]
pub struct Openings(Mutex<Vec<Weak<dyn Opening>>>);

impl Openings {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Offers an opening for as long as it lives.
    pub fn offer(&self, opening: &Arc<impl Opening + 'static>) {
        let opening = Arc::downgrade(opening);
        let mut openings = self.0.lock();
        openings.retain(|opening| opening.strong_count() > 0);
        openings.push(opening);
    }

    /// Claims `job` for the first idle worker that may perform it.
    ///
    /// # Errors
    /// [`Error::Undecodable`](crate::Error::Undecodable) when the document is none of a job.
    pub fn take(&self, job: &JobDocument) -> Result<Option<Box<dyn Taken>>> {
        let openings: Vec<_> = self.0.lock().iter().filter_map(Weak::upgrade).collect();
        for opening in openings {
            if let Some(taken) = opening.take(job)? {
                return Ok(Some(taken));
            }
        }
        Ok(None)
    }
}
