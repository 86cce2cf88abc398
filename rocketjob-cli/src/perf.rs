//! `perf`: how many jobs per second a store takes.

use std::time::{Duration, Instant};

use rocketjob_core::{
    CreateJob, Definition, Filter, Job, JobContext, JobResult, Perform, Registry, Store,
};
use rocketjob_worker::Server;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{arguments::PerfArguments, failure::Failure, interrupt::Interrupt, output::Output};

/// How many jobs are created together.
const GROUP: u32 = 1_000;
const POLL: Duration = Duration::from_millis(10);

/// A job that does nothing. It does not register itself: only this command performs it.
#[derive(Debug, Serialize, Deserialize)]
struct Nothing {
    run: String,
}

impl Job for Nothing {
    const DEFINITION: &'static Definition =
        &Definition::new("RocketJobPerf", concat!(module_path!(), "::Nothing"));
}

impl Perform for Nothing {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

/// Creates jobs, performs them, and tells how long both took.
pub(crate) async fn perf(
    store: &Store,
    arguments: &PerfArguments,
    output: &Output,
) -> Result<(), Failure> {
    let run = store.next_id().to_hex();
    let interrupt = Interrupt::listen();
    let outcome = measure(store, arguments, &run, &interrupt, output).await;
    // Nothing of an interrupted run is left to others.
    let left = Filter::kinds([Nothing::DEFINITION.kind]).and(Filter::eq("run", run));
    store.delete(&left).await?;
    let (created, performed) = outcome?;
    let count = f64::from(arguments.count);
    let rate = |duration: Duration| count / duration.as_secs_f64().max(f64::EPSILON);
    if output.is_json() {
        return output.document(&json!({
            "store": store.address(),
            "jobs": arguments.count,
            "workers": arguments.workers,
            "create_seconds": created.as_secs_f64(),
            "created_per_second": rate(created),
            "perform_seconds": performed.as_secs_f64(),
            "performed_per_second": rate(performed),
        }));
    }
    let line = |what: &str, duration: Duration| {
        format!(
            "{what:<10}{} jobs in {:.2} s: {:.0} jobs/s",
            arguments.count,
            duration.as_secs_f64(),
            rate(duration)
        )
    };
    output.line(&line("created", created))?;
    output.line(&line("performed", performed))
}

async fn measure(
    store: &Store,
    arguments: &PerfArguments,
    run: &str,
    interrupt: &Interrupt,
    output: &Output,
) -> Result<(Duration, Duration), Failure> {
    let stopped = || Failure::interrupted("interrupted: the jobs of this run are deleted");
    let bar = output.progress(Some(u64::from(arguments.count)), "creating");
    let begin = Instant::now();
    let mut left = arguments.count;
    while left > 0 {
        if interrupt.is_asked() {
            return Err(stopped());
        }
        let group = left.min(GROUP);
        let jobs = (0..group).map(|_| Nothing { run: run.into() });
        Nothing::create_many(store, jobs).await?;
        left -= group;
        bar.inc(u64::from(group));
    }
    let created = begin.elapsed();
    bar.finish_and_clear();
    let bar = output.progress(Some(u64::from(arguments.count)), "performing");
    let mut registry = Registry::new();
    registry.register::<Nothing>()?;
    let begin = Instant::now();
    let server = Server::builder(store)
        .only(registry)
        .filter(Filter::eq("run", run))
        .workers(usize::try_from(arguments.workers).unwrap_or(usize::MAX))
        .start()
        .await?;
    let wanted = usize::try_from(arguments.count).unwrap_or(usize::MAX);
    while server.settled() < wanted && !interrupt.is_asked() {
        bar.set_position(server.settled() as u64);
        tokio::time::sleep(POLL).await;
    }
    let (performed, is_done) = (begin.elapsed(), server.settled() >= wanted);
    server.stop().await?;
    bar.finish_and_clear();
    if is_done {
        Ok((created, performed))
    } else {
        Err(stopped())
    }
}
