use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[retry(only("Timeout"), except("Panic"))]
struct Both {}

#[derive(RocketJob, Serialize, Deserialize)]
#[retry(backoff = fixed, factor = 3)]
struct Growing {}

#[derive(RocketJob, Serialize, Deserialize)]
#[retry(backoff = waits::mine, delay = "5s")]
struct Twice {}

fn main() {}
