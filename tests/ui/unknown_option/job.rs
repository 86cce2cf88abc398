use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(priorty = 70, retries = 3)]
#[rocketjob(destroy_on_complete, user_editable)]
struct Report {}

fn main() {}
