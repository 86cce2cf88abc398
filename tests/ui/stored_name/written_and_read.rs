use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[serde(rename_all(serialize = "camelCase"))]
struct Report {
    #[serde(rename(serialize = "w", deserialize = "week"))]
    week: u32,
    #[serde(rename(serialize = "y"))]
    year: u32,
}

fn main() {}
