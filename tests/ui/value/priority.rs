use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(priority = 0)]
struct First {}

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(priority = 101)]
struct Last {}

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(priority = "70")]
struct Text {}

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(priority = -1)]
struct Negative {}

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(priority)]
struct Absent {}

fn main() {}
