use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(max_lost_claims = 0)]
struct Zero {}

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(max_lost_claims = "5")]
struct Text {}

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(max_lost_claims = 5_000_000_000)]
struct Many {}

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(max_lost_claims = -1)]
struct Negative {}

fn main() {}
