use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(on_lost_claim = "Fail")]
struct Close {}

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(on_lost_claim = "retry")]
struct Unknown {}

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(on_lost_claim)]
struct Absent {}

fn main() {}
