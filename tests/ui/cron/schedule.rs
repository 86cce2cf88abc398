use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[cron("0 25 * * *")]
struct Hour {}

impl Perform for Hour {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

fn main() {}
