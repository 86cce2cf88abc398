//! The jobs, and the process that performs them.

use std::{path::Path, time::Duration};

use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Anything, ledger::Ledger};

/// How long a dead server's claims stand.
const LEASE: Duration = Duration::from_secs(4);

pub(crate) const RUNNING: usize = 7;
pub(crate) const RUNNING_PER_KEY: usize = 2;
pub(crate) const PER_SECOND: usize = 200;

/// At most seven at a time.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[throttle(running = 7)]
pub(crate) struct ThrottledJob {
    pub(crate) millis: u64,
}

/// At most two at a time for each key.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[throttle(running = 2, by = key)]
pub(crate) struct KeyedJob {
    pub(crate) key: String,
    pub(crate) millis: u64,
}

/// At most two hundred in any second.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rate_limit(200 per second)]
pub(crate) struct RatedJob {
    pub(crate) millis: u64,
}

async fn work(job: &JobContext, key: &str, millis: u64) -> JobResult {
    let ledger = job.shared::<Ledger>()?;
    ledger.note(true, key, job.id())?;
    tokio::time::sleep(Duration::from_millis(millis)).await;
    ledger.note(false, key, job.id())?;
    Ok(())
}

impl Perform for ThrottledJob {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        work(job, "all", self.millis).await
    }
}

impl Perform for KeyedJob {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        work(job, &self.key, self.millis).await
    }
}

impl Perform for RatedJob {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        work(job, "all", self.millis).await
    }
}

/// Works until it is told to stop.
pub(crate) async fn serve(url: &str, ledger: &Path, workers: usize) -> Anything<()> {
    let store = rocketjob::connect(url).await?;
    let server = Server::builder(&store)
        .workers(workers)
        .heartbeat_interval(Duration::from_secs(1))
        .lease(LEASE)
        .shared(Ledger::open(ledger)?)
        .start()
        .await?;
    server.run_until_terminated().await?;
    Ok(())
}
