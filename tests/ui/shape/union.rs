use rocketjob::prelude::*;

#[derive(RocketJob)]
union Report {
    week: u32,
    year: u32,
}

fn main() {}
