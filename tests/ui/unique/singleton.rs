use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[singleton]
#[unique(by = [customer])]
struct Report {
    customer: String,
}

fn main() {}
