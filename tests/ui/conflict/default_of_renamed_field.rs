use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
struct Report {
    #[serde(alias = "calendar_week")]
    #[field(default = 3)]
    week: u32,
}

fn main() {}
