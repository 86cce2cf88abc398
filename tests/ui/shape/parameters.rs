use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(RocketJob, Serialize, Deserialize)]
struct Report<T> {
    rows: T,
}

#[derive(RocketJob, Serialize, Deserialize)]
struct Borrowing<'a> {
    name: &'a str,
}

#[derive(RocketJob, Serialize, Deserialize)]
struct Bounded
where
    String: Clone,
{
    name: String,
}

fn main() {}
