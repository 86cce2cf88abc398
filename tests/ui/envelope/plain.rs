use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
struct Report {
    priority: u8,
    state: String,
    run_at: Option<u64>,
    percent_complete: u8,
    slots: u8,
}

impl Perform for Report {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

fn main() {}
