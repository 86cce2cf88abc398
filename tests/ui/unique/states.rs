use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[unique(by = [customer], states = [queued])]
struct Waiting {
    customer: String,
}

#[derive(RocketJob, Serialize, Deserialize)]
#[unique(by = [customer], states = [queued, runing])]
struct Misspelt {
    customer: String,
}

fn main() {}
