use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
struct Report {
    #[field(user_editible, hidden)]
    week: u32,
    #[field(description = "the year", priority = 3)]
    year: u32,
}

fn main() {}
