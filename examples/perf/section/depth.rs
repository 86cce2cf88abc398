//! What a claim costs in a short queue and in a long one.

use std::time::Duration;

use rocketjob::{Insertion, JobDocument, NoLimits, integer, later, name, prelude::*};
use serde_json::json;

use super::claim::{GROUP, claim_group};
use crate::{
    Anything,
    job::PerfJob,
    place::{Folder, Mongo},
    plan::Plan,
    report::{Bound, Column, Section, Unit},
    statistics::median,
};

const COLUMNS: &[Column] = &[
    Column {
        figure: "jobs",
        title: "jobs in the queue",
        decimals: 0,
    },
    Column {
        figure: "claim_ms",
        title: "claim of 100 jobs, ms",
        decimals: 2,
    },
];

/// How many jobs the short queue has.
const SHORT: usize = 1000;
/// How often jobs are claimed in a round.
const CLAIMS: usize = 20;
/// How many kinds there are; of three, one is claimed by nobody.
const KINDS: usize = 6;
const PRIORITIES: i64 = 10;
/// How many jobs are inserted at a time.
const INSERTS: usize = 5000;

pub(crate) async fn measure(plan: &Plan) -> Anything<Section> {
    let about = format!(
        "Median time of {CLAIMS} claims of {GROUP} jobs in each round, one queue after the other; \
         what was claimed is handed back each time. Half of the jobs are scheduled, a third are of \
         kinds that are not asked for, and there are {PRIORITIES} priorities."
    );
    let mut section = Section::new("depth", about, COLUMNS);
    let (mongo, folder) = (Mongo::start().await, Folder::new()?);
    for (store, short, long) in [
        ("mongodb", mongo.database("short"), mongo.database("long")),
        ("sqlite", folder.url("short.db"), folder.url("long.db")),
    ] {
        let queues = [
            Queue::fill(&short, SHORT).await?,
            Queue::fill(&long, plan.depth).await?,
        ];
        let ways = ["short", "long"].map(|length| format!("{store}, {length} queue"));
        for round in 1..=plan.rounds {
            let mut times = [Vec::new(), Vec::new()];
            for claim in 0..CLAIMS {
                // Neither always follows on the other.
                for number in [claim % 2, (claim + 1) % 2] {
                    let time = claim_group(&queues[number].store, &queues[number].kinds, &NoLimits)
                        .await?;
                    times[number].push(time.as_secs_f64() * 1000.0);
                }
            }
            for ((way, queue), times) in ways.iter().zip(&queues).zip(times) {
                let figures = json!({
                    "jobs": queue.jobs,
                    "claim_ms": median(&times),
                    "milliseconds": times,
                });
                section.add(way, round, figures);
            }
        }
        let bound = Some(Bound::AtMost(1.25));
        section.compare(&ways[1], &ways[0], "claim_ms", Unit::Times, bound);
    }
    Ok(section)
}

struct Queue {
    store: Store,
    jobs: usize,
    kinds: Vec<String>,
}

impl Queue {
    async fn fill(url: &str, jobs: usize) -> Anything<Self> {
        let store = rocketjob::connect(url).await?;
        let mut random = fastrand::Rng::with_seed(7);
        let mut left = jobs;
        while left > 0 {
            let count = left.min(INSERTS);
            let documents: Result<Vec<_>, _> =
                (0..count).map(|_| document(&store, &mut random)).collect();
            let inserted = store.insert(documents?).await?;
            if inserted.iter().any(|one| *one != Insertion::Inserted) {
                return Err("a job of this queue exists already".into());
            }
            left -= count;
            if left.is_multiple_of(INSERTS * 40) && left > 0 {
                crate::progress(&format!("depth: {left} jobs are still to be inserted"));
            }
        }
        Ok(Self {
            store,
            jobs,
            kinds: (0..KINDS)
                .filter(|number| number % 3 != 0)
                .map(kind)
                .collect(),
        })
    }
}

fn kind(number: usize) -> String {
    format!("PerfKind{number}")
}

/// A job as the store would insert it.
fn document(store: &Store, random: &mut fastrand::Rng) -> Anything<JobDocument> {
    let job = PerfJob {
        number: random.i64(0..1_000_000),
        text: "x".repeat(100),
    };
    let job = rocketjob::NewJob::from(job);
    let job = if random.bool() {
        let ahead = Duration::from_hours(24) + Duration::from_millis(random.u64(0..1_000_000));
        job.run_at(later(store.now(), ahead))
    } else {
        job
    };
    let mut document = job.prepare(&**store)?.into_document();
    document.insert(name::KIND, kind(random.usize(0..KINDS)));
    document.insert(name::PRIORITY, integer(random.i64(1..=PRIORITIES) * 10));
    Ok(JobDocument::new(document)?)
}
