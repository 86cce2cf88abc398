//! Jobs that wait, on more and more servers: how the rate grows, and how long workers have nothing
//! to do between two jobs.

use rocketjob::prelude::*;
use serde_json::json;

use crate::{
    Anything,
    fleet::Fleet,
    job::{WAIT, WaitJob},
    place::{self, Mongo},
    plan::Plan,
    report::{Bound, Column, Section, Unit},
    statistics::{median, number, percentile},
};

const COLUMNS: &[Column] = &[
    Column {
        figure: "rate",
        title: "jobs/s",
        decimals: 0,
    },
    Column {
        figure: "idle_p50",
        title: "idle, p50 ms",
        decimals: 2,
    },
    Column {
        figure: "idle_p99",
        title: "idle, p99 ms",
        decimals: 2,
    },
    Column {
        figure: "cpu",
        title: "CPU of each",
        decimals: 3,
    },
    Column {
        figure: "store_cpu",
        title: "CPU of mongod",
        decimals: 2,
    },
];

const PROCESSES: [usize; 4] = [1, 2, 4, 8];

pub(crate) async fn measure(plan: &Plan) -> Anything<Section> {
    let about = format!(
        "Jobs on MongoDB that wait for {} ms, {} for each process of 10 workers; CPU in cores. Idle \
         is a worker from the end of its last job to the beginning of its next.",
        WAIT.as_millis(),
        plan.waiting_jobs
    );
    let mut section = Section::new("scale", about, COLUMNS);
    let mongo = Mongo::start().await;
    let store = rocketjob::connect(&mongo.url()).await?;
    let mut counts = PROCESSES;
    for round in 1..=plan.rounds {
        for count in counts {
            let jobs = plan.waiting_jobs * count;
            place::empty(&store).await?;
            WaitJob::create_many(&store, (0..jobs).map(|_| WaitJob {})).await?;
            let mut fleet = Fleet::held(&mongo.url(), count, &[]).await?;
            place::rest().await;
            let are_done = async || place::are_done(&store, WaitJob::DEFINITION.kind).await;
            let course = fleet.work(jobs, &mongo.process(), are_done).await?;
            let served = fleet.end().await?;
            let idle = served.iter().flat_map(|served| &served.idle);
            let idle: Vec<f64> = idle.map(|micros| milliseconds(*micros)).collect();
            let figures = json!({
                "jobs": jobs,
                "settled": served.iter().map(|served| served.settled).sum::<u64>(),
                "seconds": course.time.as_secs_f64(),
                "rate": number(jobs) / course.time.as_secs_f64(),
                "idle_times": idle.len(),
                "idle_p50": median(&idle),
                "idle_p99": percentile(&idle, 99),
                "cpu": course.cpu.iter().sum::<f64>() / number(count),
                "cpu_of_each": course.cpu,
                "store_cpu": course.others.iter().sum::<f64>(),
            });
            section.add(&name(count), round, figures);
        }
        counts.reverse();
    }
    for pair in PROCESSES.windows(2) {
        let (half, twice) = (name(pair[0]), name(pair[1]));
        let bound = Some(Bound::AtLeast(1.9));
        section.compare(&twice, &half, "rate", Unit::Times, bound);
    }
    for count in PROCESSES {
        let bound = Some(Bound::Below(2.0));
        section.find(&name(count), "idle_p50", Unit::Plain, bound);
    }
    Ok(section)
}

fn name(processes: usize) -> String {
    match processes {
        1 => "1 process".to_owned(),
        several => format!("{several} processes"),
    }
}

/// Microseconds as milliseconds.
pub(crate) fn milliseconds(micros: i64) -> f64 {
    f64::from(i32::try_from(micros).unwrap_or(i32::MAX)) / 1000.0
}
