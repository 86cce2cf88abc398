use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(log_level = "Warning")]
struct Close {}

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(log_level = "verbose")]
struct Unknown {}

fn main() {}
