use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
struct Report {
    #[serde(rename = "week.number")]
    week: u32,
    #[serde(rename = "$year")]
    year: u32,
    #[serde(rename = "")]
    rows: u32,
}

fn main() {}
