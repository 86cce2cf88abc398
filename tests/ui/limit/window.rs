use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[processing_window(schedule = "0 8 * * *")]
struct WithoutDuration {}

#[derive(RocketJob, Serialize, Deserialize)]
#[processing_window(schedule = "0 8 * * *", duration = 10)]
struct Number {}

fn main() {}
