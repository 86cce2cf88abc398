//! The jobs of the mix. All have the same fields and do the same; they differ in their attributes.

use std::{cell::Cell, thread};

use jiff::Timestamp;
use rocketjob::{
    Callbacks, Concern, Cron, CronState, JobDocument, Limit, NoState, Restart, RestartState,
    ServerBuilder, Transition, prelude::*,
};
use serde::{Deserialize, Serialize};

use crate::{
    job::now,
    mix::{
        note::{Event, Note, Notes},
        plan::{Kind, Plan},
    },
};

/// What is accepted of a job is stored together with its outcome, or not at all.
struct Work<'a> {
    kind: Kind,
    number: i64,
    key: i64,
    link: i64,
    links: i64,
    accepted: &'a mut Vec<String>,
    history: &'a mut Vec<String>,
}

macro_rules! kinds {
    ($($(#[$($attribute:tt)*])* $name:ident $kind:ident;)+) => {
        $(
            #[derive(RocketJob, Serialize, Deserialize, Debug)]
            $(#[$($attribute)*])*
            pub(crate) struct $name {
                #[field(copy_on_restart)]
                number: i64,
                #[field(copy_on_restart)]
                key: i64,
                /// Which instance of its chain it is, from 0.
                #[field(copy_on_restart)]
                link: i64,
                /// How many instances its chain has.
                #[field(copy_on_restart)]
                links: i64,
                /// The claims whose outcomes were accepted.
                #[field(default = Vec::new())]
                accepted: Vec<String>,
                /// What callbacks were told.
                #[field(default = Vec::new())]
                history: Vec<String>,
            }

            impl $name {
                /// The first instance of a chain of so many.
                pub(crate) fn new(number: i64, key: i64, links: i64) -> Self {
                    Self { number, key, link: 0, links, accepted: Vec::new(), history: Vec::new() }
                }
            }

            impl Perform for $name {
                async fn perform(&mut self, job: &JobContext) -> JobResult {
                    let mut work = Work {
                        kind: Kind::$kind,
                        number: self.number,
                        key: self.key,
                        link: self.link,
                        links: self.links,
                        accepted: &mut self.accepted,
                        history: &mut self.history,
                    };
                    let done = work.perform(job);
                    if done.is_ok() && work.kind.vanishes() {
                        self.link += 1;
                    }
                    done
                }
            }
        )+

        /// Performs the kinds of the mix as well.
        pub(crate) fn register(server: ServerBuilder) -> ServerBuilder {
            server$(.register::<$name>())+
        }
    };
}

kinds! {
    #[rocketjob(unregistered, keep_completed, max_lost_claims = 1000, timeout = "1m", expires_in = "1h")]
    #[retry(limit = 3, delay = "1s", backoff = fixed)]
    MixRetry Retry;

    #[rocketjob(unregistered, keep_completed, max_lost_claims = 1000)]
    #[unique(by = [key])]
    MixReject Reject;

    #[rocketjob(unregistered, keep_completed, max_lost_claims = 1000)]
    #[unique(by = [key], on_conflict = return_existing)]
    #[throttle(running = 3)]
    #[retry(limit = 2, delay = "1s", backoff = fixed)]
    MixReturn Return;

    #[rocketjob(unregistered, keep_completed, max_lost_claims = 1000)]
    #[unique(by = [key], on_conflict = replace)]
    MixReplace Replace;

    #[rocketjob(unregistered, keep_completed, max_lost_claims = 1000)]
    #[singleton]
    MixSingleton Singleton;

    #[rocketjob(unregistered, keep_completed, max_lost_claims = 1000)]
    #[throttle(running = 4)]
    MixThrottle Throttle;

    #[rocketjob(unregistered, keep_completed, max_lost_claims = 1000)]
    #[throttle(running = 2, by = key)]
    MixThrottleBy ThrottleBy;

    #[rocketjob(unregistered, keep_completed, max_lost_claims = 1000)]
    #[rate_limit(15 per second)]
    #[retry(limit = 1, delay = "1s", backoff = fixed)]
    #[concern(Asked)]
    MixRate Rate;

    #[rocketjob(unregistered, keep_completed, max_lost_claims = 1000)]
    MixFirst First;

    #[rocketjob(unregistered, keep_completed, max_lost_claims = 1000)]
    #[depends_on(MixFirst)]
    MixAfter After;

    #[rocketjob(unregistered, keep_completed, max_lost_claims = 1000, timeout = "1m", expires_in = "1h")]
    #[processing_window(schedule = "*/4 * * * * * UTC", duration = "2s")]
    MixWindow Window;

    #[rocketjob(unregistered, keep_completed, max_lost_claims = 1000)]
    #[cron("* * * * * * UTC", misfire = run_all(1000000))]
    #[retry(limit = 1, delay = "1s", backoff = fixed)]
    MixCron Cron;

    #[rocketjob(unregistered, max_lost_claims = 1000)]
    #[cron("* * * * * * UTC", misfire = run_all(1000000), singleton = false, after_start = false)]
    #[throttle(running = 1)]
    MixCronEnd CronEnd;

    #[rocketjob(unregistered, max_lost_claims = 1000)]
    #[restart]
    MixRestart Restart;
}

impl Work<'_> {
    fn perform(&mut self, job: &JobContext) -> JobResult {
        let began = now();
        // A thread that was stopped on its way here, for longer than the lease, begins nothing.
        if let Err(stop) = job.check() {
            return self.hand_back(job, stop);
        }
        let begun = self.note(job, began)?;
        let notes = job.shared::<Notes>()?;
        notes.note(&begun)?;
        self.accepted.push(begun.claim.clone());
        thread::sleep(self.kind.works_for(self.number));
        let at = now();
        let end = |event| Note {
            event,
            at,
            ..begun.clone()
        };
        if let Err(stop) = job.check() {
            notes.note(&end(Event::Stopped))?;
            return self.hand_back(job, stop);
        }
        let Plan { failures, .. } = self.kind.plan(self.number, begun.slot);
        if i64::try_from(job.attempt())? <= failures {
            notes.note(&end(Event::Again))?;
            return Err("not yet".into());
        }
        self.end_chain(job)?;
        notes.note(&end(Event::Done))?;
        Ok(())
    }

    /// Leaves no trace in the document: what is handed back is stored with the job's fields.
    fn hand_back(&mut self, job: &JobContext, stop: JobError) -> JobResult {
        let stored = |field| match job.document().get(field) {
            Some(bson::Bson::Array(texts)) => texts
                .iter()
                .filter_map(|text| text.as_str().map(ToOwned::to_owned))
                .collect(),
            _ => Vec::new(),
        };
        *self.accepted = stored("accepted");
        *self.history = stored("history");
        Err(stop)
    }

    /// The last instance of a chain has none after it.
    fn end_chain(&self, job: &JobContext) -> JobResult {
        if self.link + 1 < self.links {
            return Ok(());
        }
        match self.kind {
            Kind::Restart => job.set_concern::<Restart>(&RestartState { restarted: true })?,
            Kind::CronEnd => {
                let state = job.concern::<Cron>()?;
                let cron_schedule = None;
                job.set_concern::<Cron>(&CronState {
                    cron_schedule,
                    ..state
                })?;
            }
            _ => {}
        }
        Ok(())
    }

    fn note(&self, job: &JobContext, at: i64) -> JobResult<Note> {
        let has_slots = matches!(self.kind, Kind::Cron | Kind::CronEnd);
        let slot = if has_slots {
            job.concern::<Cron>()?.cron_slot
        } else {
            None
        };
        let claim = job.document().claim();
        let started_at = job.document().started_at().ok_or("it has been started")?;
        let store = job.store().ok_or("it has a store")?;
        let since = store.now().duration_since(started_at).as_micros();
        Ok(Note {
            event: Event::Begun,
            kind: self.kind,
            number: self.number,
            key: self.key,
            link: self.link,
            slot: slot.map(Timestamp::as_second),
            job: job.id().to_hex(),
            attempt: job.attempt(),
            accepted: self.accepted.len(),
            claim: claim.map(|claim| claim.token).unwrap_or_default(),
            process: std::process::id(),
            at,
            claimed: at - i64::try_from(since)?,
            started_at: started_at.as_millisecond(),
            looked: LOOKED.get(),
        })
    }
}

thread_local! {
    static LOOKED: Cell<i64> = const { Cell::new(0) };
}

/// Notes when a worker last asked for the limits of a job: that is how it looks, right before the
/// job begins, whether its start is still in time.
#[derive(Debug)]
struct Asked;

impl Concern for Asked {
    type State = NoState;

    fn name(&self) -> &'static str {
        "asked"
    }

    fn limits(&self, _job: &JobDocument, _state: &NoState, _now: Timestamp) -> Vec<Limit> {
        LOOKED.set(now());
        Vec::new()
    }
}

impl Callbacks for MixRetry {
    fn before_transition(&mut self, transition: Transition, _job: &JobDocument) -> JobResult {
        self.history.push(transition.to_string());
        Ok(())
    }
}

impl Callbacks for MixReturn {
    fn before_transition(&mut self, transition: Transition, _job: &JobDocument) -> JobResult {
        self.history.push(transition.to_string());
        Ok(())
    }
}
