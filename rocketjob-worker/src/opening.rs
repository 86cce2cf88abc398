//! The openings of a server: who creates a job in its process hands it to an idle worker.

use std::sync::{Arc, atomic::Ordering};

use bson::oid::ObjectId;
use rocketjob_core::{
    Claim, ClaimToken, Filter, JobContext, JobDocument, Limits, Opening, Registry, Result, Shared,
    State, Store, Taken, Validity,
};
use tokio::time::Instant;

use crate::{
    crew::{Crew, worker_name},
    dispatcher::Claims,
    queue::Assignment,
    standing::{Mode, Post, Standing},
};

/// Makes claimed jobs ready for the workers of a server.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) store: Store,
    pub(crate) post: Arc<Post>,
    pub(crate) crew: Arc<Crew>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) kinds: Vec<String>,
    pub(crate) filter: Option<Filter>,
    pub(crate) shared: Shared,
    pub(crate) claims: Arc<Claims>,
}

impl Desk {
    /// The validity of what is claimed under an incarnation.
    pub(crate) fn validity(&self, incarnation: ObjectId) -> Validity {
        let post = Arc::clone(&self.post);
        Arc::new(move || post.holds(incarnation))
    }

    pub(crate) fn assign(
        &self,
        job: JobDocument,
        validity: &Validity,
        claimed_at: Instant,
    ) -> Option<Assignment> {
        let Some((handler, claim)) = self.registry.handler(job.kind()).cloned().zip(job.claim())
        else {
            tracing::error!(id = %job.id(), kind = job.kind(), "the store handed out a job that was not asked for");
            return None;
        };
        let context = JobContext::claimed(
            job,
            handler.definition(),
            self.shared.clone(),
            self.store.clone(),
            Arc::clone(validity),
        );
        Some(Assignment {
            context,
            handler,
            claim,
            claimed_at,
        })
    }

    /// Whether this server would claim the job, and could without any limit.
    fn fits(&self, job: &JobDocument) -> bool {
        let filter = self.filter.as_ref();
        job.state() == State::Queued
            && job.is_ready()
            && self.kinds.iter().any(|kind| kind == job.kind())
            && filter.is_none_or(|filter| filter.matches(job.as_document()))
            && self
                .registry
                .limits(job, self.store.now())
                .is_ok_and(|limits| limits.is_empty())
    }

    /// Claims the job for this worker.
    fn start(
        self: Arc<Self>,
        standing: &Standing,
        worker: usize,
        job: &JobDocument,
    ) -> Result<Option<Started>> {
        let sequence = self.claims.next();
        let token = ClaimToken {
            server: standing.id,
            sequence,
        };
        let claim = Claim {
            token: token.to_string(),
            worker_name: worker_name(&standing.name, worker),
        };
        let mut document = job.as_document().clone();
        claim
            .start(self.store.now(), Vec::new())
            .apply(&mut document);
        let document = JobDocument::new(document)?;
        let validity = self.validity(standing.id);
        let assignment = self.assign(document.clone(), &validity, Instant::now());
        note_claim(
            assignment
                .iter()
                .map(|assignment| assignment.context.document()),
        );
        // The server knows of the claim before it is made: it will not take it for a lost one.
        self.crew.hold(assignment.iter());
        Ok(assignment.map(|assignment| Started {
            desk: self,
            incarnation: standing.id,
            sequence,
            worker,
            document,
            assignment: Some(assignment),
        }))
    }
}

/// Says in the log which jobs were claimed.
pub(crate) fn note_claim<'a>(jobs: impl IntoIterator<Item = &'a JobDocument>) {
    for job in jobs {
        let (id, kind, attempt) = (job.id(), job.kind(), job.failure_count() + 1);
        tracing::debug!(%id, kind, attempt, "claimed");
    }
}

impl Opening for Desk {
    fn take(self: Arc<Self>, job: &JobDocument) -> Result<Option<Box<dyn Taken>>> {
        let standing = self.post.now();
        let works = standing.mode == Mode::Working && self.post.may_begin(standing.id);
        if !works || !self.fits(job) {
            return Ok(None);
        }
        let Some(worker) = self.crew.queue.reserve(self.store.bells()) else {
            return Ok(None);
        };
        let started = Arc::clone(&self).start(&standing, worker, job);
        if !matches!(started, Ok(Some(_))) {
            self.crew.queue.release(worker);
        }
        Ok(started?.map(|started| Box::new(started) as Box<dyn Taken>))
    }
}

/// A job on its way into the store, claimed for a worker that waits for it.
#[derive(Debug)]
struct Started {
    desk: Arc<Desk>,
    incarnation: ObjectId,
    sequence: u64,
    worker: usize,
    document: JobDocument,
    assignment: Option<Assignment>,
}

impl Started {
    /// Gives the seat back, unless the job has begun. Says whether it did.
    fn withdraw(&mut self) -> bool {
        let Some(assignment) = self.assignment.take() else {
            return false;
        };
        self.desk.crew.forget(&assignment.context);
        self.desk.crew.queue.release(self.worker);
        true
    }
}

impl Taken for Started {
    fn document(&self) -> &JobDocument {
        &self.document
    }

    fn begin(mut self: Box<Self>) {
        let Some(assignment) = self.assignment.take() else {
            return;
        };
        let Desk {
            crew, post, claims, ..
        } = &*self.desk;
        claims.at_once.fetch_add(1, Ordering::Relaxed);
        let undelivered = if post.may_begin(self.incarnation) {
            crew.queue.deliver_reserved(self.worker, assignment)
        } else {
            crew.queue.release(self.worker);
            Some(assignment)
        };
        crew.hand_back_all(undelivered.into_iter().collect());
    }

    fn decline(mut self: Box<Self>) {
        self.withdraw();
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.withdraw() {
            self.desk.claims.doubt(self.sequence);
        }
    }
}
