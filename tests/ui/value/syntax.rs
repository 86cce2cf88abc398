use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(priority: 70)]
struct Report {
    #[field(label "Week")]
    week: u32,
}

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob]
struct Bare {}

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob = "Report"]
struct Text {}

fn main() {}
