//! How soon an idle server begins a job: one that somebody creates now, and one whose time comes.

use std::{sync::Arc, time::Duration};

use rocketjob::{later, prelude::*};
use serde_json::json;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};

use super::scale::milliseconds;
use crate::{
    Anything,
    fleet::{Fleet, Told},
    job::{NotedJob, Notes, now},
    place::{Folder, Mongo},
    plan::Plan,
    report::{Bound, Column, Section, Unit},
    statistics::{largest, median, percentile},
};

const COLUMNS: &[Column] = &[
    Column {
        figure: "p50",
        title: "p50 ms",
        decimals: 2,
    },
    Column {
        figure: "p99",
        title: "p99 ms",
        decimals: 2,
    },
    Column {
        figure: "largest",
        title: "largest ms",
        decimals: 2,
    },
];

/// How long it is quiet before each job, in milliseconds.
const PAUSES: std::ops::Range<u64> = 20..220;
/// How far apart scheduled jobs are on average, in milliseconds.
const APART: u64 = 100;
/// How far ahead the first of them is scheduled.
const AHEAD: u64 = 1000;
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) async fn measure(plan: &Plan) -> Anything<Section> {
    let count = plan.pickups.div_ceil(plan.rounds);
    let about = format!(
        "{} jobs of each kind, after random pauses, for {} idle servers of 10 workers: from when the \
         creation is acknowledged in another process, or in that of the one server, until `perform` \
         begins; and from the time for which a job is scheduled, by the store's clock.",
        count * plan.rounds,
        plan.fleet
    );
    let mut section = Section::new("pickup", about, COLUMNS);
    let (mongo, folder) = (Mongo::start().await, Folder::new()?);
    let stores = [("mongodb", mongo.url()), ("sqlite", folder.url("jobs.db"))];
    for round in 1..=plan.rounds {
        for (name, url) in &stores {
            let store = rocketjob::connect(url).await?;
            let mut fleet = Fleet::servers(url, plan.fleet, &[]).await?;
            let others = create(&store, count, &mut Beginnings::Of(&mut fleet)).await?;
            add(&mut section, name, round, &others);
            let scheduled = schedule(&store, count, &mut fleet).await?;
            add(
                &mut section,
                &format!("{name}, scheduled"),
                round,
                &scheduled,
            );
            fleet.end().await?;
            let own = inside(&store, count).await?;
            add(&mut section, &format!("{name}, same process"), round, &own);
        }
    }
    for way in section.ways.clone() {
        let all = section.pooled(&way, "milliseconds");
        section.tell(&way, "p50", median(&all));
        section.tell(&way, "p99", percentile(&all, 99));
        section.tell(&way, "largest", largest(&all));
    }
    conclude(&mut section);
    Ok(section)
}

fn conclude(section: &mut Section) {
    for (way, figure, bound) in [
        ("mongodb", "p50", 5.0),
        ("mongodb", "p99", 15.0),
        ("sqlite", "p50", 15.0),
        ("sqlite", "p99", 50.0),
        ("mongodb, same process", "p50", 1.0),
        ("sqlite, same process", "p50", 1.0),
        ("mongodb, scheduled", "largest", 50.0),
        ("sqlite, scheduled", "largest", 50.0),
    ] {
        section.find(way, figure, Unit::Plain, Some(Bound::AtMost(bound)));
    }
}

fn add(section: &mut Section, way: &str, round: usize, latencies: &[f64]) {
    let figures = json!({
        "jobs": latencies.len(),
        "p50": median(latencies),
        "p99": percentile(latencies, 99),
        "largest": largest(latencies),
        "milliseconds": latencies,
    });
    section.add(way, round, figures);
}

/// Where it is told that jobs begin.
enum Beginnings<'f> {
    Of(&'f mut Fleet),
    Here(UnboundedReceiver<Told>),
}

impl Beginnings<'_> {
    /// When the job with this number began.
    async fn of(&mut self, wanted: u64) -> Anything<i64> {
        loop {
            let told = match self {
                Self::Of(fleet) => fleet.next().await?,
                Self::Here(told) => {
                    let told = timeout(PATIENCE, told.recv()).await;
                    let told = told.map_err(|_| "the job does not begin")?;
                    told.ok_or("the server is gone")?
                }
            };
            match told {
                Told::Began { number, at, .. } if number == wanted => return Ok(at),
                _ => {}
            }
        }
    }
}

/// Creates jobs one after the other, and tells how long after that each began.
async fn create(
    store: &Store,
    count: usize,
    beginnings: &mut Beginnings<'_>,
) -> Anything<Vec<f64>> {
    let mut latencies = Vec::with_capacity(count);
    for number in 0..count as u64 {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(PAUSES))).await;
        NotedJob { number }.create(store).await?;
        let created = now();
        latencies.push(milliseconds(beginnings.of(number).await? - created));
    }
    Ok(latencies)
}

/// Creates jobs in the process of the server.
async fn inside(store: &Store, count: usize) -> Anything<Vec<f64>> {
    let (sender, told) = unbounded_channel();
    let notes = Arc::new(Notes::new(store, sender));
    let server = Server::builder(store).shared(notes).start().await?;
    let latencies = create(store, count, &mut Beginnings::Here(told)).await?;
    server.stop().await?;
    Ok(latencies)
}

/// Creates jobs for random times, and tells how long after its time each began.
async fn schedule(store: &Store, count: usize, fleet: &mut Fleet) -> Anything<Vec<f64>> {
    let last = AHEAD + count as u64 * APART;
    let begin = store.now();
    let times: Vec<_> = (0..count)
        .map(|_| later(begin, Duration::from_millis(fastrand::u64(AHEAD..last))))
        .collect();
    let jobs = times.iter().zip(0..);
    let jobs = jobs.map(|(time, number)| NotedJob { number }.run_at(*time));
    for created in NotedJob::create_many(store, jobs).await? {
        created?;
    }
    let mut latencies = Vec::with_capacity(count);
    while latencies.len() < count {
        if let Told::Began {
            number, store_time, ..
        } = fleet.next().await?
        {
            let time = times
                .get(usize::try_from(number)?)
                .ok_or("an unknown job")?;
            latencies.push(milliseconds((store_time - time.as_millisecond()) * 1000));
        }
    }
    Ok(latencies)
}
