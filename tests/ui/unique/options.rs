use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[unique]
struct Bare {
    customer: String,
}

#[derive(RocketJob, Serialize, Deserialize)]
#[unique(by = "customer", on_conflict = refuse, state = [queued])]
struct Wrong {
    customer: String,
}

#[derive(RocketJob, Serialize, Deserialize)]
#[unique(by = customer)]
struct Unbracketed {
    customer: String,
}

fn main() {}
