use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[concern]
#[rocketjob(concern())]
struct Report {}

fn main() {}
