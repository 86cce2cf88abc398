use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(priority = 200, kepe_completed, expires_in = "soon")]
#[serde(deny_unknown_fields)]
struct Report {
    state: String,
    #[singleton]
    week: u32,
    #[field(editable)]
    year: u32,
}

impl Perform for Report {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

fn main() {}
