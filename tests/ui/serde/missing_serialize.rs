use rocketjob::prelude::*;
use serde::Deserialize;

#[derive(RocketJob, Deserialize)]
struct Report {}

impl Perform for Report {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

fn main() {}
