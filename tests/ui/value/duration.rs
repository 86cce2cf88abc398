use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(expires_in = "2 hours")]
struct Words {}

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(expires_in = 7200)]
struct Number {}

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(expires_in = "0s")]
struct Zero {}

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(timeout = "10min")]
struct Timeout {}

fn main() {}
