use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[serde(transparent)]
struct Report {
    week: u32,
}

#[derive(RocketJob, Serialize, Deserialize)]
#[serde(tag = "type")]
struct Tagged {
    week: u32,
}

fn main() {}
