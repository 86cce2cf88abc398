use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[rate_limit(100)]
struct WithoutWindow {}

#[derive(RocketJob, Serialize, Deserialize)]
#[rate_limit(0 per minute)]
struct None {}

#[derive(RocketJob, Serialize, Deserialize)]
#[rate_limit(5 per fortnight)]
struct UnknownUnit {}

#[derive(RocketJob, Serialize, Deserialize)]
#[rate_limit(5 per minute, group = "x")]
struct Group {}

fn main() {}
