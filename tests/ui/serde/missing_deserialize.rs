use rocketjob::prelude::*;
use serde::Serialize;

#[derive(RocketJob, Serialize)]
struct Report {}

impl Perform for Report {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

fn main() {}
