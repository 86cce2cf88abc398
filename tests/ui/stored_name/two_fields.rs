use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
struct Report {
    week: u32,
    #[serde(rename = "week")]
    calendar_week: u32,
    #[serde(alias = "week")]
    number: u32,
}

fn main() {}
