use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Raw {
    week: u32,
}

impl From<Raw> for Report {
    fn from(raw: Raw) -> Self {
        Self { week: raw.week }
    }
}

#[derive(RocketJob, Serialize, Deserialize)]
#[serde(from = "Raw")]
struct Report {
    week: u32,
}

fn main() {}
