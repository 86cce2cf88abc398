//! Short jobs beside long ones: one worker is free for short jobs while nine are in long ones, and
//! does as much as the only worker of a server without long jobs.

use rocketjob::prelude::*;
use serde_json::json;

use crate::{
    Anything,
    fleet::{Fleet, Order},
    job::{LongJob, PerfJob},
    place::{self, Folder, Mongo},
    plan::Plan,
    report::{Bound, Column, Section, Unit},
    statistics::number,
};

const COLUMNS: &[Column] = &[Column {
    figure: "rate",
    title: "short jobs/s",
    decimals: 0,
}];

/// How many workers are in long jobs.
const LONG: usize = 9;

pub(crate) async fn measure(plan: &Plan) -> Anything<Section> {
    let about = format!(
        "{} jobs that do nothing, on a server of 10 workers, {LONG} of which are in jobs that take \
         longer than the measurement, and on a server of one worker.",
        plan.jobs
    );
    let mut section = Section::new("mixed", about, COLUMNS);
    let (mongo, folder) = (Mongo::start().await, Folder::new()?);
    for (store, url) in [("mongodb", mongo.url()), ("sqlite", folder.url("jobs.db"))] {
        let alone = format!("{store}, 1 worker");
        let beside = format!("{store}, 1 worker beside {LONG} in long jobs");
        let mut ways = [(&alone, 1), (&beside, LONG + 1)];
        for round in 1..=plan.rounds {
            for (way, workers) in ways {
                let figures = work(plan, &url, workers).await?;
                section.add(way, round, figures);
            }
            // No way always follows on the same one.
            ways.reverse();
        }
        let bound = Some(Bound::AtLeast(0.95));
        section.compare(&beside, &alone, "rate", Unit::Percent, bound);
    }
    Ok(section)
}

/// Short jobs for one worker; all others of the server are in long jobs.
async fn work(plan: &Plan, url: &str, workers: usize) -> Anything<serde_json::Value> {
    let store = rocketjob::connect(url).await?;
    place::empty(&store).await?;
    let mut fleet = Fleet::held(url, 1, &["--workers", &workers.to_string()]).await?;
    let long = workers - 1;
    let jobs = (0..long as u64).map(|number| LongJob { number });
    LongJob::create_many(&store, jobs).await?;
    fleet.tell(Order::Begin).await?;
    fleet.until_begun(long).await?;
    fleet.tell(Order::Hold).await?;
    PerfJob::create_many(&store, PerfJob::some(plan.jobs)).await?;
    place::rest().await;
    let are_done = async || place::are_done(&store, PerfJob::DEFINITION.kind).await;
    let course = fleet.work(plan.jobs, &[], are_done).await?;
    let served = fleet.end().await?;
    if !place::are_done(&store, LongJob::DEFINITION.kind).await? {
        return Err("a long job did not end".into());
    }
    Ok(json!({
        "jobs": plan.jobs,
        "long_jobs": long,
        "settled": served.iter().map(|served| served.settled).sum::<u64>(),
        "seconds": course.time.as_secs_f64(),
        "rate": number(plan.jobs) / course.time.as_secs_f64(),
    }))
}
