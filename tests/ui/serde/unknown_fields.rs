use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    week: u32,
}

fn main() {}
