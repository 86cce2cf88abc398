//! The derive macro of Rocket Job.
//!
//! It writes facts and no behaviour: a constant that says what the struct and its attributes say.
//! `attr.rs` and `stored.rs` read tokens into data, `check.rs` has the rules, `expand.rs` writes
//! tokens, and `fallback.rs` writes what stands beside errors.

mod attr;
mod check;
mod concern;
mod cron;
mod envelope;
mod expand;
mod fallback;
mod item;
mod limit;
mod problems;
mod retry;
mod spelling;
mod stored;
mod unique;
mod value;

use proc_macro2::TokenStream;
use syn::{DeriveInput, parse_macro_input};

use crate::{attr::Job, problems::Problems};

/// Makes a struct a job: stored as a document, performed by servers, known to the tools.
///
/// The struct has named fields and no parameters, and derives `Serialize` and `Deserialize`. What
/// the job does is in its `impl Perform`.
///
/// ```
/// # use rocketjob_core::{self, Job, JobContext, JobResult, LogLevel, Perform};
/// # use rocketjob_derive::RocketJob;
/// use serde::{Deserialize, Serialize};
///
/// /// Mails the report to one user.
/// #[derive(RocketJob, Serialize, Deserialize)]
/// # #[rocketjob(crate = "rocketjob_core")]
/// #[rocketjob(kind = "Reports::Weekly", aliases("WeeklyReport"), priority = 70)]
/// #[rocketjob(keep_completed, expires_in = "1d 12h", log_level = "debug")]
/// #[singleton]
/// struct ReportJob {
///     recipient: String,
///     /// The week that is reported; the current one when absent.
///     #[field(user_editable, copy_on_restart, label = "Calendar week")]
///     week: Option<u32>,
///     #[field(default = "en".into())]
///     language: String,
/// }
///
/// impl Perform for ReportJob {
///     async fn perform(&mut self, _job: &JobContext) -> JobResult {
///         Ok(())
///     }
/// }
///
/// let definition = ReportJob::DEFINITION;
/// assert_eq!(definition.kind, "Reports::Weekly");
/// assert_eq!(definition.about, Some("Mails the report to one user."));
/// assert_eq!(definition.log_level, Some(LogLevel::Debug));
/// assert_eq!(definition.fields[1].label, Some("Calendar week"));
/// ```
///
/// # Options of the job
///
/// | `#[rocketjob(…)]` | |
/// |---|---|
/// | `kind = "…"` | the stable name, stored as `_type`; the name of the struct unless given |
/// | `aliases("…", "…")` | earlier names, whose jobs are still performed |
/// | `description = "…"` | the description of a new job |
/// | `priority = 70` | the priority of a new job, 1 (first) to 100 (last) |
/// | `keep_completed` | a completed job stays in the store |
/// | `expires_in = "2h"`, also `#[expires_in("2h")]` | how long after its creation a new job expires: `30s`, `15m`, `2h`, `7d`, `1h 30m` |
/// | `log_level = "debug"` | the log level of a new job: `trace`, `debug`, `info`, `warn`, `error` or `fatal` |
/// | `pausable` | a running job may be paused |
/// | `timeout = "10m"`, also `#[timeout("10m")]` | how long `perform` may take before it is told to stop, and the job fails; written as `expires_in` is |
/// | `on_lost_claim = "fail"` | what follows when its server dies: `run_again`, unless given, or `fail` for what must not be performed twice |
/// | `max_lost_claims = 5` | how many servers may die with a job before it is failed; 3 unless given |
/// | `version = 2` | the version of the job's fields, 1 unless given; documents of earlier ones go through `Upgrade`, those of later ones wait for a newer server |
/// | `unregistered` | it is performed by those servers alone that are told so with `register`: for kinds of a library |
/// | `crate = "…"` | the path of Rocket Job, where it is not `::rocketjob` |
///
/// The doc comment of the struct says what the kind does, to people in Mission Control.
///
/// # Concerns
///
/// | attribute | |
/// |---|---|
/// | `#[concern(value)]` | one of your own: a constant expression of a type that implements `Concern` |
/// | `#[cron("0 2 * * * America/New_York")]` | instances are performed by a schedule; without one in parentheses, jobs get theirs when they are created. Options behind it: `singleton = false`, `after_start = false`, `misfire = skip`, `run_once` (unless given) or `run_all(n)` |
/// | `#[depends_on(FirstJob, SecondJob)]` | starts only while none of these kinds runs |
/// | `#[processing_window(schedule = "30 8 * * *", duration = "10h")]` | starts only in the window that opens at each time of the schedule |
/// | `#[rate_limit(100 per minute)]` | at most so many start in any window: per `second`, `minute`, `hour`, `day` or `"10s"`; with `by = field` for each value |
/// | `#[restart]` | when an instance completes, fails or is aborted, the next one is created |
/// | `#[retry]`, `#[retry(limit = 5, backoff = exponential, …)]` | a job that failed is tried again; see `Retry`, and below |
/// | `#[singleton]` | at most one job of the kind is queued or running |
/// | `#[throttle(running = 25)]` | at most so many run at a time; with `group = "…"` those of a group together, with `by = field` those of each value apart |
/// | `#[unique(by = […], …)]` | of jobs of the kind that are alike, one at a time; see `Unique`, and below |
///
/// They are added in their order. Where another derive claims one of these names, write
/// `#[rocketjob(singleton)]` or `#[rocketjob(concern(value))]`.
///
/// | `#[retry(…)]` | |
/// |---|---|
/// | `limit = 5` | how often a job is tried again; 25 unless given |
/// | `backoff = polynomial` | how the waits grow: `polynomial`, `exponential`, `fixed`, or the path of a function `fn(u32, &JobFailure) -> Duration` |
/// | `delay = "30s"` | the first wait; 5 seconds unless given |
/// | `factor = 3` | with `exponential`: by how much each wait is longer than the one before; 2 unless given |
/// | `max = "1d"` | the longest wait |
/// | `jitter = 0.2` | by which share of itself a wait may be longer |
/// | `only(MyError, "Timeout")`, `except(…)` | after which errors, by type or by name |
///
/// | `#[unique(…)]` | |
/// |---|---|
/// | `by = [customer, "address.city"]` | the stored fields that make two jobs alike, dotted into nested documents |
/// | `by = path::to::function` | in place of fields: a function of the job, whose value `serde` can store; `None` for a job that is like no other |
/// | `states = [queued, running]` | while which states a job counts; or `[queued, running, paused, failed]` |
/// | `on_conflict = reject` | what becomes of a second job: `reject`, unless given, `return_existing` or `replace` |
///
/// # Options of a field
///
/// | `#[field(…)]` | |
/// |---|---|
/// | `user_editable` | people may edit it on a job that waits |
/// | `copy_on_restart` | a job's successor inherits it |
/// | `label = "…"` | what people read in place of its name |
/// | `default`, `default = value` | what stands in for it in a document that lacks it |
///
/// The doc comment of a field is its description.
///
/// # serde
///
/// Fields are stored under the names that serde gives them: `rename`, `rename_all`, `skip`,
/// `flatten`, `with` and `alias` are understood. Refused is what keeps a job from being read back,
/// or from being a flat document: names that differ in the two directions, names of the
/// envelope (`state`, `priority`, …), `deny_unknown_fields`, `transparent`, `tag`, `from`,
/// `try_from` and `into`.
#[proc_macro_derive(
    RocketJob,
    attributes(
        rocketjob,
        concern,
        cron,
        depends_on,
        expires_in,
        field,
        processing_window,
        rate_limit,
        restart,
        retry,
        singleton,
        throttle,
        timeout,
        unique
    )
)]
pub fn derive_rocket_job(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    derive(&input).into()
}

fn derive(input: &DeriveInput) -> TokenStream {
    let mut problems = Problems::default();
    let job = Job::read(input, &mut problems);
    check::check(&job, &mut problems);
    match problems.finish() {
        None => expand::job(&job),
        Some(errors) => fallback::hollow(&job, &errors),
    }
}
