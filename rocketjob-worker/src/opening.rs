//! The openings of a server: who creates a job in its process hands it to an idle worker.

use std::sync::{Arc, atomic::Ordering};

use bson::oid::ObjectId;
use rocketjob_core::{
    Change, Claim, ClaimToken, Filter, JobContext, JobDocument, Limits, Opening, Registry, Result,
    Shared, State, Store, Taken, Validity,
};
use tokio::time::Instant;

use crate::{
    crew::{Crew, worker_name},
    dispatcher::Claims,
    queue::{Assignment, Queue},
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

    /// Whether this server performs the job, if nothing is in its way.
    fn performs(&self, job: &JobDocument) -> bool {
        let filter = self.filter.as_ref();
        job.state() == State::Queued
            && self.kinds.iter().any(|kind| kind == job.kind())
            && filter.is_none_or(|filter| filter.matches(job.as_document()))
    }

    fn has_no_limits(&self, job: &JobDocument) -> bool {
        let limits = self.registry.limits(job, self.store.now());
        limits.is_ok_and(|limits| limits.is_empty())
    }

    /// Claims a job that waits for a limit, with these places, for an idle worker, if there is one
    /// and another one for whatever else may be ready.
    pub(crate) fn take_waiting(
        self: &Arc<Self>,
        job: &JobDocument,
        slots: Vec<String>,
    ) -> Result<Option<Started>> {
        if !self.performs(job) {
            return Ok(None);
        }
        self.reserve(job, slots, Queue::reserve_spare)
    }

    /// Claims the job for the idle worker that `reserve` finds.
    fn reserve(
        self: &Arc<Self>,
        job: &JobDocument,
        slots: Vec<String>,
        reserve: impl FnOnce(&Queue) -> Option<usize>,
    ) -> Result<Option<Started>> {
        let standing = self.post.now();
        if standing.mode != Mode::Working || !self.post.may_begin(standing.id) {
            return Ok(None);
        }
        let Some(worker) = reserve(&self.crew.queue) else {
            return Ok(None);
        };
        let started = Arc::clone(self).start(&standing, worker, job, slots);
        if !matches!(started, Ok(Some(_))) {
            self.crew.queue.release(worker);
        }
        started
    }

    /// Claims the job for this worker.
    fn start(
        self: Arc<Self>,
        standing: &Standing,
        worker: usize,
        job: &JobDocument,
        slots: Vec<String>,
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
        let claiming = claim.start(self.store.now(), slots);
        let mut document = job.as_document().clone();
        claiming.apply(&mut document);
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
            claiming,
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
        if !job.is_ready() || !self.performs(job) || !self.has_no_limits(job) {
            return Ok(None);
        }
        let bells = self.store.bells();
        let started = self.reserve(job, Vec::new(), |queue| queue.reserve(bells))?;
        Ok(started.map(|started| Box::new(started) as Box<dyn Taken>))
    }
}

/// A job on its way into the store, or to its claim there, for a worker that waits for it.
#[derive(Debug)]
pub(crate) struct Started {
    desk: Arc<Desk>,
    incarnation: ObjectId,
    sequence: u64,
    worker: usize,
    document: JobDocument,
    /// What the claim writes.
    claiming: Change,
    assignment: Option<Assignment>,
}

impl Started {
    /// The job as it is when it is claimed.
    pub(crate) fn job(&self) -> &JobDocument {
        &self.document
    }

    pub(crate) fn claiming(&self) -> &Change {
        &self.claiming
    }

    /// It has been claimed, and stands as `job`: the worker begins.
    pub(crate) fn begin_with(mut self, job: JobDocument) {
        self.desk.claims.jobs.fetch_add(1, Ordering::Relaxed);
        let validity = self.desk.validity(self.incarnation);
        if let Some(assignment) = self.desk.assign(job, &validity, Instant::now()) {
            self.assignment = Some(assignment);
        }
        self.deliver();
    }

    /// It has not been claimed, for certain.
    pub(crate) fn withdraw(mut self) {
        self.give_back();
    }

    fn deliver(&mut self) {
        let Some(assignment) = self.assignment.take() else {
            return;
        };
        let Desk { crew, post, .. } = &*self.desk;
        let undelivered = if post.may_begin(self.incarnation) {
            crew.queue.deliver_reserved(self.worker, assignment)
        } else {
            crew.queue.release(self.worker);
            Some(assignment)
        };
        crew.hand_back_all(undelivered.into_iter().collect());
    }

    /// Gives the seat back, unless the job has begun. Says whether it did.
    fn give_back(&mut self) -> bool {
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
        self.desk.claims.at_once.fetch_add(1, Ordering::Relaxed);
        self.deliver();
    }

    fn decline(mut self: Box<Self>) {
        self.give_back();
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.give_back() {
            self.desk.claims.doubt(self.sequence);
        }
    }
}
