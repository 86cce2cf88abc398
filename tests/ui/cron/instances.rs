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

#[derive(RocketJob, Serialize, Deserialize)]
#[cron("0 2 * * *")]
#[unique(by = [customer])]
struct Alike {
    #[field(copy_on_restart)]
    customer: String,
}

#[derive(RocketJob, Serialize, Deserialize)]
#[restart]
#[unique(by = [customer], states = [queued, running, paused, failed])]
struct Unfinished {
    #[field(copy_on_restart)]
    customer: String,
}

fn main() {}
