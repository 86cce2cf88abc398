use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[throttle]
struct Bare {}

#[derive(RocketJob, Serialize, Deserialize)]
#[throttle(running = 0)]
struct None {}

#[derive(RocketJob, Serialize, Deserialize)]
#[throttle(running = 2, group = "x", by = customer)]
struct Both {
    customer: String,
}

#[derive(RocketJob, Serialize, Deserialize)]
#[throttle(running = 2, by = "customer")]
struct Text {
    customer: String,
}

fn main() {}
