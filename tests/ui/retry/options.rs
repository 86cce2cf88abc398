use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
#[retry(limt = 5)]
struct Misspelt {}

#[derive(RocketJob, Serialize, Deserialize)]
#[retry(limit = "often", delay = "soon", jitter = 2, only(), limit = 3)]
struct Wrong {}

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(retry = 5)]
struct Number {}

fn main() {}
