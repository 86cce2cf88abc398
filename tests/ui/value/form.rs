use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(kind = Report, aliases = "Old", keep_completed = true, crate = "1")]
#[rocketjob(description("weekly"))]
#[singleton(per = "week")]
struct Report {
    #[field(user_editable = false, label, default(3))]
    week: u32,
}

fn main() {}
