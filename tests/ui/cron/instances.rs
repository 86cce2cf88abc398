use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[cron("0 2 * * *")]
#[restart]
struct Both {}

#[derive(RocketJob, Serialize, Deserialize)]
#[restart]
struct Forgetful {
    recipient: String,
    #[field(copy_on_restart)]
    copied: String,
    #[field(default)]
    default: String,
    #[serde(default)]
    from_serde: String,
    optional: Option<String>,
    #[serde(skip)]
    skipped: String,
}

fn main() {}
