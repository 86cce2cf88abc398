use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[cron("0 2 * * *", singleton = 1, misfire = never, zone = "UTC")]
struct Options {}

#[derive(RocketJob, Serialize, Deserialize)]
#[cron("0 2 * * *", misfire = run_all(0))]
struct None {}

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(cron = "0 2 * * *")]
struct Form {}

#[derive(RocketJob, Serialize, Deserialize)]
#[restart(always)]
struct Restarted {}

fn main() {}
