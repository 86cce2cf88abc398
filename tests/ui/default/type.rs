use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Colour {
    red: u8,
}

#[derive(RocketJob, Serialize, Deserialize)]
struct Report {
    #[field(default = "three")]
    week: u32,
    #[field(default)]
    colour: Colour,
}

impl Perform for Report {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

fn main() {}
