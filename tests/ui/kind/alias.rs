use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(aliases("Report", "Old", "Older", "Old"))]
struct Report {}

fn main() {}
