use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

mod text {
    pub fn serialize<S: serde::Serializer>(value: &u32, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }
}

#[derive(RocketJob, Serialize, Deserialize)]
struct Report {
    #[serde(serialize_with = "text::serialize")]
    #[field(default = 3)]
    week: u32,
}

fn main() {}
