use std::time::Duration;

use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

fn wait(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[derive(RocketJob, Serialize, Deserialize)]
#[retry(backoff = wait)]
struct Report {}

impl Perform for Report {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

fn main() {}
