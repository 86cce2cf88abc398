use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
struct Report {
    #[serde(rename = "state")]
    county: String,
    #[serde(rename = "_id")]
    number: u32,
    #[serde(alias = "description")]
    text: String,
}

fn main() {}
