use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(kind = "")]
struct Empty {}

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(kind = "Weekly\nReport", aliases(" "))]
struct Control {}

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(
    kind = "ten words. ten words. ten words. ten words. ten words. ten words. ten words. ten words. ten words. ten words. ten words. ten words. ten words. ten words. ten words. ten words. ten words. ten words. ten words. "
)]
struct Long {}

fn main() {}
