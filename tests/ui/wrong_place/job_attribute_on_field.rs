use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
struct Report {
    #[rocketjob(priority = 70)]
    week: u32,
    #[singleton]
    year: u32,
    #[concern(Audited)]
    rows: u32,
}

fn main() {}
