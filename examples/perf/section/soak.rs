//! Memory under full load over time.

use std::time::Duration;

use rocketjob::prelude::*;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    Anything,
    fleet::{Fleet, Order},
    job::PerfJob,
    machine::{self, Usage},
    place::{self, Mongo},
    plan::Plan,
    report::{Column, Section},
    statistics::{largest, number, slope},
};

const COLUMNS: &[Column] = &[
    Column {
        figure: "first",
        title: "first MB",
        decimals: 1,
    },
    Column {
        figure: "last",
        title: "last MB",
        decimals: 1,
    },
    Column {
        figure: "peak",
        title: "largest MB",
        decimals: 1,
    },
    Column {
        figure: "slope",
        title: "MB more per hour",
        decimals: 1,
    },
    Column {
        figure: "rate",
        title: "jobs/s",
        decimals: 0,
    },
];

const SERVERS: usize = 2;
/// How many jobs are created at a time.
const GROUP: usize = 1000;
/// How many jobs wait at least, as long as they can be created so fast.
const WAITING: u64 = 20_000;
/// How often memory is looked at, unless the run is too short for that.
const LOOKS: Duration = Duration::from_secs(10);
/// How often at least.
const AT_LEAST: u32 = 6;

/// What was seen at a time.
struct Look {
    minutes: f64,
    megabytes: Vec<f64>,
    settled: u64,
}

pub(crate) async fn measure(plan: &Plan) -> Anything<Section> {
    let about = format!(
        "{SERVERS} servers of 10 workers on MongoDB under full load for {} minutes, and a process \
         that creates jobs, so that there are always some; resident memory.",
        plan.minutes
    );
    let mut section = Section::new("soak", about, COLUMNS);
    let mongo = Mongo::start().await;
    let store = rocketjob::connect(&mongo.url()).await?;
    let mut fleet = Fleet::servers(&mongo.url(), SERVERS, &[]).await?;
    fleet.tell(Order::Begin).await?;
    let time = Duration::try_from_secs_f64(plan.minutes * 60.0)?;
    let processes = [fleet.ids(), mongo.process()].concat();
    let (looks, created) = load(&store, &mut fleet, &processes, time).await?;
    while !place::are_done(&store, PerfJob::DEFINITION.kind).await? {
        fleet.next().await?;
    }
    let served = fleet.end().await?;

    let servers = (1..=SERVERS).map(|number| format!("server {number}"));
    let ways = servers.chain(["mongod".to_owned()]);
    for (place, way) in ways.enumerate() {
        let points: Vec<_> = looks
            .iter()
            .filter_map(|look| Some((look.minutes, *look.megabytes.get(place)?)))
            .collect();
        let megabytes: Vec<f64> = points.iter().map(|(_, megabytes)| *megabytes).collect();
        let mut figures = json!({
            "first": megabytes.first(),
            "last": megabytes.last(),
            "peak": largest(&megabytes),
            "slope": slope(&points) * 60.0,
            "looks": points,
        });
        if let Some(served) = served.get(place) {
            figures["settled"] = json!(served.settled);
        } else {
            figures["created"] = json!(created);
            figures["rate"] = json!(rate(&looks));
        }
        section.add(&way, 1, figures);
    }
    Ok(section)
}

/// Jobs per second of all, from the first look to the last.
fn rate(looks: &[Look]) -> Option<f64> {
    let (first, last) = (looks.first()?, looks.last()?);
    let jobs = usize::try_from(last.settled - first.settled).ok()?;
    Some(number(jobs) / ((last.minutes - first.minutes) * 60.0))
}

/// Creates jobs for the given time, and looks at the memory of the processes meanwhile. Says also
/// how many jobs it created.
async fn load(
    store: &Store,
    fleet: &mut Fleet,
    processes: &[u32],
    time: Duration,
) -> Anything<(Vec<Look>, u64)> {
    let began = Instant::now();
    let every = LOOKS.min(time / AT_LEAST);
    let mut looks = Vec::new();
    let mut next_look = began + every;
    let mut created = 0;
    // One look tells nothing of growth, however slow the machine is.
    while began.elapsed() < time || looks.len() < 2 {
        if created < fleet.settled() + WAITING {
            PerfJob::create_many(store, PerfJob::some(GROUP)).await?;
            created += GROUP as u64;
        } else {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        fleet.catch_up()?;
        if Instant::now() >= next_look {
            next_look += every;
            let used = machine::usage(processes)?;
            let look = Look {
                minutes: began.elapsed().as_secs_f64() / 60.0,
                megabytes: used.into_iter().map(Usage::megabytes).collect(),
                settled: fleet.settled(),
            };
            crate::progress(&format!(
                "soak: {:.1} min, MB {:.1?}, {} jobs settled",
                look.minutes, look.megabytes, look.settled
            ));
            looks.push(look);
        }
    }
    Ok((looks, created))
}
