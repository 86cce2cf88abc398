use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[depends_on]
struct Nothing {}

#[derive(RocketJob, Serialize, Deserialize)]
#[depends_on(String)]
struct NoJob {}

impl Perform for NoJob {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

fn main() {}
