use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[field(user_editable)]
struct Report {
    week: u32,
}

fn main() {}
