use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(priority = 1, pausable)]
#[rocketjob(priority = 2, pausable, aliases("A"), aliases("B"))]
struct Report {
    #[field(user_editable, label = "Week", default)]
    #[field(user_editable, label = "The week", default = 3)]
    week: u32,
}

fn main() {}
