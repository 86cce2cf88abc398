use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

use std::collections::BTreeMap;

#[derive(RocketJob, Serialize, Deserialize)]
struct Report {
    #[serde(skip)]
    #[field(user_editable)]
    week: u32,
    #[serde(flatten)]
    #[field(copy_on_restart)]
    more: BTreeMap<String, u32>,
}

fn main() {}
