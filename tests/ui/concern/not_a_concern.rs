use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

struct Audited;

#[derive(RocketJob, Serialize, Deserialize)]
#[concern(Audited)]
struct Report {}

impl Perform for Report {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

fn main() {}
