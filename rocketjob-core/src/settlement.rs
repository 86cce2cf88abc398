//! What follows on a claim: the outcome of `perform`, what concerns make of it, what is written.

use bson::Document;
use jiff::Timestamp;

use crate::{
    change::{Change, Guard, Patch},
    claim::Claim,
    clock::later,
    conclusion::{conclude, put_successors},
    definition::Definition,
    document::JobDocument,
    error::Result,
    failure::{JobError, JobFailure, JobResult, Wish},
    handle::due_of,
    name,
    state::Transition,
    transition,
};

/// How a claim ends.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// `perform` ended well.
    Complete,
    /// The job fails.
    Fail(JobFailure),
    /// The job failed and is queued again, to start at `run_at`.
    Retry {
        /// Kept with the job, and counted.
        failure: JobFailure,
        /// Not before this time.
        run_at: Timestamp,
    },
    /// The job is given up.
    Abort(JobFailure),
    /// The claim is handed back; no attempt is used up.
    HandBack,
    /// The job's time was over before it was started: the document goes.
    Expire,
}

impl Outcome {
    /// The outcome that `perform`'s result asks for, at the store's time `now`.
    pub fn of(result: JobResult, now: Timestamp) -> Self {
        match result {
            Ok(()) => Self::Complete,
            Err(error) => Self::of_error(error, now),
        }
    }

    fn of_error(error: JobError, now: Timestamp) -> Self {
        match error.wish() {
            Wish::Usual | Wish::FailForGood => Self::Fail(error.into_failure()),
            Wish::RetryAfter(delay) => Self::Retry {
                failure: error.into_failure(),
                run_at: later(now, delay),
            },
            Wish::Discard => Self::Abort(error.into_failure()),
            Wish::HandBack => Self::HandBack,
        }
    }

    /// The transition that it is.
    pub fn transition(&self) -> Transition {
        match self {
            Self::Complete => Transition::Complete,
            Self::Fail(_) => Transition::Fail,
            Self::Retry { .. } => Transition::Retry,
            Self::Abort(_) | Self::Expire => Transition::Abort,
            Self::HandBack => Transition::Requeue,
        }
    }
}

/// The outcome of one claim on its way into the store; concerns add to it.
#[derive(Debug)]
pub struct Settlement<'a> {
    job: &'a JobDocument,
    now: Timestamp,
    outcome: Outcome,
    is_final: bool,
    successors: Vec<JobDocument>,
    /// Further fields that are written with the outcome; `perform`'s own are in it already.
    pub change: Change,
}

impl<'a> Settlement<'a> {
    /// An outcome of `job`, as it was claimed, at the store's time `now`, with what `perform`
    /// changed in its fields. A final one does what it says whatever the concerns would do.
    pub fn new(
        job: &'a JobDocument,
        now: Timestamp,
        outcome: Outcome,
        is_final: bool,
        change: Change,
    ) -> Self {
        Self {
            job,
            now,
            outcome,
            is_final,
            successors: Vec::new(),
            change,
        }
    }

    /// The write that hands the claim on `job` back: no attempt is used up, no concern is asked.
    pub fn hand_back(job: &'a JobDocument, claim: Claim, now: Timestamp) -> Settling {
        Self::new(job, now, Outcome::HandBack, true, Change::new()).render(claim)
    }

    /// The job as it was claimed.
    pub fn job(&self) -> &JobDocument {
        self.job
    }

    /// The store's time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// How the claim ends, as far as it is known.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Whether the claim ends as it does whatever concerns would do: the error said that the job
    /// fails for good, or its servers died with it.
    pub fn is_final(&self) -> bool {
        self.is_final
    }

    /// Lets the claim end otherwise. Ignored when the outcome [is final](Self::is_final).
    pub fn set_outcome(&mut self, outcome: Outcome) {
        if !self.is_final {
            self.outcome = outcome;
        }
    }

    /// Adds a job that is created because of this outcome, exactly once, also after a crash.
    pub fn add_successor(&mut self, job: JobDocument) {
        self.successors.push(job);
    }

    /// The document with what is written to it so far.
    pub(crate) fn current(&self) -> Document {
        let mut document = self.job.as_document().clone();
        self.change.apply(&mut document);
        document
    }

    /// Asks the concerns of `definition`, in order, to decide and then to settle, and makes the patch that settles `claim`.
    ///
    /// # Errors
    /// [`Error::Undecodable`](crate::Error::Undecodable) when a concern cannot read its state.
    pub fn into_patch(mut self, definition: &Definition, claim: Claim) -> Result<Settling> {
        for concern in definition.concerns {
            concern.decide(&mut self)?;
        }
        for concern in definition.concerns {
            concern.settle(&mut self)?;
        }
        if let Outcome::Retry { failure, run_at } = &self.outcome {
            let due = due_of(definition, self.job, Some(*run_at), self.now)?;
            self.outcome = Outcome::Retry {
                failure: failure.clone(),
                run_at: due.unwrap_or(*run_at),
            };
        }
        if self.outcome != Outcome::Expire {
            conclude(
                definition,
                self.job,
                self.outcome.transition(),
                self.now,
                &mut self.successors,
                &mut self.change,
            )?;
        }
        Ok(self.render(claim))
    }

    /// The patch without asking any concern.
    pub fn render(self, claim: Claim) -> Settling {
        let Self {
            job,
            now,
            outcome,
            successors,
            mut change,
            ..
        } = self;
        let transition = outcome.transition();
        match outcome {
            Outcome::Complete if job.destroy_on_complete() && successors.is_empty() => {
                change = Change::delete();
            }
            Outcome::Complete => transition::complete(&mut change, now),
            Outcome::Fail(failure) => transition::fail(&mut change, job, failure, now),
            Outcome::Retry { failure, run_at } => {
                transition::retry_later(&mut change, job, failure, run_at, now);
                change.put(name::RETRIED_CLAIM, &claim.token);
            }
            Outcome::Abort(failure) => {
                change.put(name::EXCEPTION, transition::exception(job, failure));
                transition::abort(&mut change, job, now);
            }
            Outcome::HandBack => transition::requeue(&mut change, job, now),
            Outcome::Expire => change = Change::delete(),
        }
        put_successors(&mut change, job, successors);
        Settling {
            patch: Patch {
                id: job.id(),
                guard: Guard::claimed(claim),
                change,
            },
            transition,
        }
    }
}

/// A settlement that is ready to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Settling {
    /// What is written.
    pub patch: Patch,
    /// The transition that it is.
    pub transition: Transition,
}
