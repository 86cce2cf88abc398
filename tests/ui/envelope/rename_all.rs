use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    state_: String,
    run_at: u64,
}

fn main() {}
