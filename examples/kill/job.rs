//! The jobs of the kill test. What each does depends on its number alone.

use std::{thread, time::Duration};

use bson::{Document, doc, oid::ObjectId};
use jiff::Timestamp;
use rocketjob::{
    Concern, JobDocument, Limit, NewJob, NoState, Settlement, Transition, date, integer, later,
    name, prelude::*, whole_number,
};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::ledger::{Entry, Event, Ledger};

/// Notes in the ledger what happens to it.
///
/// Each server that dies takes up to 400 jobs with it that it has read ahead, and one dies every
/// second: whoever is lost so often is no poison here, but unlucky.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "KillJob", keep_completed, max_lost_claims = 1000)]
#[concern(Few)]
#[concern(Leads)]
pub(crate) struct KillJob {
    number: i64,
    /// How many jobs there are, those that follow on others among them.
    of: i64,
    /// How many outcomes of this job were accepted: each `perform` adds one to what it found, and
    /// what it leaves here is stored together with its outcome, or not at all.
    accepted: i64,
}

/// How often the job with this number fails before it is done.
pub(crate) fn retries(number: i64) -> i64 {
    if number % 16 == 5 {
        1 + number / 16 % 3
    } else {
        0
    }
}

/// Whether the job with this number is not created but follows on the one before.
pub(crate) fn follows(number: i64) -> bool {
    number % 20 == 7
}

/// The number of a stored job.
pub(crate) fn number(job: &JobDocument) -> i64 {
    job.get("number").and_then(whole_number).unwrap_or(-1)
}

/// How many outcomes of a stored job were accepted.
pub(crate) fn accepted(job: &JobDocument) -> i64 {
    job.get("accepted").and_then(whole_number).unwrap_or(-1)
}

/// Microseconds on the monotonic clock, which all processes of a host share.
pub(crate) fn now() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}

fn works_for(number: i64) -> Duration {
    let milliseconds = if number % 10 < 4 {
        1 + number.unsigned_abs() * 7 % 50
    } else {
        0
    };
    Duration::from_millis(milliseconds)
}

impl KillJob {
    /// The job with this number of `of`, to be created now.
    pub(crate) fn new(store: &Store, number: i64, of: i64) -> NewJob<Self> {
        let job = NewJob::from(Self {
            number,
            of,
            accepted: 0,
        });
        if number % 12 == 3 {
            let ahead = Duration::from_millis(500 * number.unsigned_abs() % 4001);
            return job.run_at(later(store.now(), ahead));
        }
        job
    }

    fn note(&self, job: &JobContext, event: Event, at: i64) -> JobResult {
        let claim = job.document().claim();
        job.shared::<Ledger>()?.note(&Entry {
            event,
            number: self.number,
            job: job.id().to_hex(),
            attempt: job.attempt(),
            accepted: accepted(job.document()),
            claim: claim.map(|claim| claim.token).unwrap_or_default(),
            process: std::process::id(),
            thread: thread::current().name().unwrap_or("nameless").to_owned(),
            at,
        })?;
        Ok(())
    }
}

impl Perform for KillJob {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        let began = now();
        // A thread that was stopped on its way here, for longer than the lease, begins nothing.
        job.check()?;
        self.note(job, Event::Begun, began)?;
        self.accepted += 1;
        thread::sleep(works_for(self.number));
        if self.number % 10 == 3 && job.is_cancelled() {
            self.note(job, Event::Stopped, now())?;
            self.accepted -= 1;
            return job.check();
        }
        if i64::try_from(job.attempt())? <= retries(self.number) {
            self.note(job, Event::Again, now())?;
            return Err("not yet").retry_after(Duration::from_millis(50));
        }
        self.note(job, Event::Done, now())
    }
}

/// Lets only a few of some of the jobs run at a time, so that it shows when a dead server keeps
/// their places.
#[derive(Debug)]
struct Few;

impl Concern for Few {
    type State = NoState;

    fn name(&self) -> &'static str {
        "few"
    }

    fn limits(&self, job: &JobDocument, _state: &NoState, _now: Timestamp) -> Vec<Limit> {
        if number(job) % 25 != 11 {
            return Vec::new();
        }
        vec![Limit::running("kill:few", FEW)]
    }
}

/// How many of those that [`Few`] limits may run at a time.
const FEW: u32 = 5;

/// Creates the jobs that follow on others, so that it shows when a dead server leaves one out or
/// creates it twice.
#[derive(Debug)]
struct Leads;

impl Concern for Leads {
    type State = NoState;

    fn name(&self) -> &'static str {
        "leads"
    }

    fn settle(&self, settlement: &mut Settlement<'_>, _state: &mut NoState) {
        let next = number(settlement.job()) + 1;
        let of = settlement.job().get("of").and_then(whole_number);
        let leads = follows(next) && of.is_some_and(|of| next < of);
        if leads && settlement.outcome().transition() == Transition::Complete {
            let job = follower(next, of.unwrap_or(0), settlement);
            if let Ok(job) = JobDocument::new(job) {
                settlement.add_successor(job);
            }
        }
    }
}

fn follower(number: i64, of: i64, settlement: &Settlement<'_>) -> Document {
    doc! {
        name::ID: ObjectId::new(),
        name::KIND: settlement.job().kind(),
        name::STATE: State::Queued.as_str(),
        name::READY: true,
        name::PRIORITY: 50,
        name::DESTROY_ON_COMPLETE: false,
        name::CREATED_AT: date(settlement.now()),
        name::FAILURE_COUNT: 0,
        name::PERCENT_COMPLETE: 0,
        "number": integer(number),
        "of": integer(of),
        "accepted": 0,
    }
}
