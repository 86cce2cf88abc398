use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[unique(by = [custmer, day, hidden, "address.city"])]
struct Report {
    customer: String,
    #[serde(rename = "on")]
    day: String,
    #[serde(skip)]
    hidden: String,
}

fn main() {}
