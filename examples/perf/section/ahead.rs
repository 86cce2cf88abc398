//! What a claim costs with many jobs ahead of those it gets that may not run.

use std::time::{Duration, Instant};

use rocketjob::{NewJob, Registry, later, prelude::*};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::claim::{GROUP, claim, claim_group, hand_back};
use crate::{
    Anything,
    place::{Folder, Mongo},
    plan::Plan,
    report::{Bound, Column, Section, Unit},
    statistics::median,
};

const COLUMNS: &[Column] = &[
    Column {
        figure: "ahead",
        title: "jobs ahead",
        decimals: 0,
    },
    Column {
        figure: "first_ms",
        title: "until the first 100 free jobs were claimed, ms",
        decimals: 0,
    },
    Column {
        figure: "claim_ms",
        title: "claim of 100 free jobs, ms",
        decimals: 2,
    },
];

/// How many free jobs there are.
const FREE: usize = 1000;
/// How often jobs are claimed in a round.
const CLAIMS: usize = 20;
/// How many claims it may take until the jobs ahead are out of the way.
const MOST_CLAIMS: usize = 100_000;
/// How many jobs are created at a time.
const CREATED: usize = 5000;
/// The key of which one job runs.
const BUSY: &str = "busy";

macro_rules! kinds {
    ($($(#[$attribute:meta])* $kind:ident { $($field:ident: $type:ty)? })+) => {
        $(
            #[derive(RocketJob, Serialize, Deserialize)]
            $(#[$attribute])*
            struct $kind { $($field: $type)? }

            impl Perform for $kind {
                async fn perform(&mut self, _job: &JobContext) -> JobResult {
                    Ok(())
                }
            }
        )+
    };
}

kinds! {
    #[rocketjob(priority = 50)]
    PerfFreeJob { number: i64 }
    #[rocketjob(priority = 1)]
    PerfScheduledJob {}
    #[rocketjob(priority = 1)]
    #[throttle(running = 1)]
    PerfThrottledJob {}
    #[throttle(running = 1, by = key)]
    PerfKeyedJob { key: String }
    #[rocketjob(priority = 1)]
    #[processing_window(schedule = "0 0 29 2 *", duration = "1s")]
    PerfWindowJob {}
    #[rocketjob(priority = 1)]
    #[depends_on(PerfFirstJob)]
    PerfDependentJob {}
    PerfFirstJob {}
}

/// What is ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ahead {
    Nothing,
    NothingOfTheKeys,
    Scheduled,
    ThrottledKind,
    ThrottledKey,
    OutOfWindow,
    Dependent,
}

impl Ahead {
    const ALL: [Self; 7] = [
        Self::Nothing,
        Self::Scheduled,
        Self::ThrottledKind,
        Self::OutOfWindow,
        Self::Dependent,
        Self::NothingOfTheKeys,
        Self::ThrottledKey,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing ahead",
            Self::NothingOfTheKeys => "keys, nothing ahead",
            Self::Scheduled => "scheduled",
            Self::ThrottledKind => "throttled kind",
            Self::ThrottledKey => "keys, a throttled one",
            Self::OutOfWindow => "out of its window",
            Self::Dependent => "dependent",
        }
    }

    /// What it is compared with.
    fn base(self) -> Option<Self> {
        match self {
            Self::Nothing | Self::NothingOfTheKeys => None,
            Self::ThrottledKey => Some(Self::NothingOfTheKeys),
            _ => Some(Self::Nothing),
        }
    }
}

pub(crate) async fn measure(plan: &Plan) -> Anything<Section> {
    let about = format!(
        "Median time of {CLAIMS} claims of {GROUP} free jobs in each round, one queue after the other; \
         what was claimed is handed back each time. Ahead of the {FREE} free jobs there are others \
         of a higher priority that may not run: of one kind, or of one key of the same kind."
    );
    let mut section = Section::new("ahead", about, COLUMNS);
    let (mongo, folder) = (Mongo::start().await, Folder::new()?);
    for store in ["mongodb", "sqlite"] {
        let mut queues = Vec::new();
        for (number, ahead) in Ahead::ALL.into_iter().enumerate() {
            let url = match store {
                "mongodb" => mongo.database(&format!("ahead{number}")),
                _ => folder.url(&format!("ahead{number}.db")),
            };
            queues.push(Queue::fill(&url, ahead, plan.ahead).await?);
        }
        let way = |ahead: Ahead| format!("{store}, {}", ahead.name());
        for round in 1..=plan.rounds {
            let mut times = vec![Vec::new(); queues.len()];
            for claim in 0..CLAIMS {
                // None always follows on the same other.
                for number in 0..queues.len() {
                    let number = (number + claim) % queues.len();
                    let time = queues[number].claim().await?;
                    times[number].push(time.as_secs_f64() * 1000.0);
                }
            }
            for (queue, times) in queues.iter().zip(times) {
                let figures = json!({
                    "ahead": queue.jobs,
                    "first_ms": queue.first.as_secs_f64() * 1000.0,
                    "claim_ms": median(&times),
                    "milliseconds": times,
                });
                section.add(&way(queue.ahead), round, figures);
            }
        }
        for ahead in Ahead::ALL {
            if let Some(base) = ahead.base() {
                let bound = Some(Bound::AtMost(1.25));
                section.compare(&way(ahead), &way(base), "claim_ms", Unit::Times, bound);
            }
        }
    }
    Ok(section)
}

struct Queue {
    store: Store,
    ahead: Ahead,
    jobs: usize,
    /// How long it took until a claim found as many free jobs as it wanted.
    first: Duration,
    kinds: Vec<String>,
    registry: Registry,
}

impl Queue {
    async fn fill(url: &str, ahead: Ahead, jobs: usize) -> Anything<Self> {
        let store = rocketjob::connect(url).await?;
        let mut registry = Registry::new();
        registry.register::<PerfFreeJob>()?;
        registry.register::<PerfScheduledJob>()?;
        registry.register::<PerfThrottledJob>()?;
        registry.register::<PerfKeyedJob>()?;
        registry.register::<PerfWindowJob>()?;
        registry.register::<PerfDependentJob>()?;
        registry.register::<PerfFirstJob>()?;
        let kinds = registry.kinds();
        let mut queue = Self {
            store,
            ahead,
            jobs: if ahead.base().is_some() { jobs } else { 0 },
            first: Duration::ZERO,
            kinds,
            registry,
        };
        queue.occupy().await?;
        let mut left = queue.jobs;
        while left > 0 {
            let count = left.min(CREATED);
            queue.create_ahead(count).await?;
            left -= count;
        }
        queue.create_free().await?;
        queue.first = queue.first_claim().await?;
        Ok(queue)
    }

    /// Lets that run which the others wait for.
    async fn occupy(&self) -> Anything<()> {
        match self.ahead {
            Ahead::ThrottledKind => drop(PerfThrottledJob {}.create(&self.store).await?),
            Ahead::ThrottledKey => drop(keyed(BUSY).create(&self.store).await?),
            Ahead::Dependent => drop(PerfFirstJob {}.create(&self.store).await?),
            _ => return Ok(()),
        }
        let (jobs, _) = claim(&self.store, &self.kinds, &self.registry).await?;
        if jobs.len() == 1 {
            Ok(())
        } else {
            Err("what the others wait for does not run".into())
        }
    }

    async fn create_ahead(&self, count: usize) -> Anything<()> {
        let store = &self.store;
        match self.ahead {
            Ahead::Nothing | Ahead::NothingOfTheKeys => {}
            Ahead::Scheduled => {
                let tomorrow = later(store.now(), Duration::from_hours(24));
                let jobs = (0..count).map(|_| NewJob::from(PerfScheduledJob {}).run_at(tomorrow));
                PerfScheduledJob::create_many(store, jobs).await?;
            }
            Ahead::ThrottledKind => {
                let jobs = (0..count).map(|_| PerfThrottledJob {});
                PerfThrottledJob::create_many(store, jobs).await?;
            }
            Ahead::ThrottledKey => {
                let jobs = (0..count).map(|_| NewJob::from(keyed(BUSY)).priority(1));
                PerfKeyedJob::create_many(store, jobs).await?;
            }
            Ahead::OutOfWindow => {
                let jobs = (0..count).map(|_| PerfWindowJob {});
                PerfWindowJob::create_many(store, jobs).await?;
            }
            Ahead::Dependent => {
                let jobs = (0..count).map(|_| PerfDependentJob {});
                PerfDependentJob::create_many(store, jobs).await?;
            }
        }
        Ok(())
    }

    async fn create_free(&self) -> Anything<()> {
        if matches!(self.ahead, Ahead::ThrottledKey | Ahead::NothingOfTheKeys) {
            let jobs = (0..FREE).map(|number| keyed(&format!("key{number}")));
            PerfKeyedJob::create_many(&self.store, jobs).await?;
        } else {
            let numbers = (0..).take(FREE);
            let jobs = numbers.map(|number| PerfFreeJob { number });
            PerfFreeJob::create_many(&self.store, jobs).await?;
        }
        Ok(())
    }

    async fn first_claim(&self) -> Anything<Duration> {
        let began = Instant::now();
        for _ in 0..MOST_CLAIMS {
            let (jobs, _) = claim(&self.store, &self.kinds, &self.registry).await?;
            let time = began.elapsed();
            hand_back(&self.store, &jobs).await?;
            if jobs.len() == GROUP {
                return Ok(time);
            }
        }
        Err(format!("{MOST_CLAIMS} claims did not lead to the free jobs").into())
    }

    async fn claim(&self) -> Anything<Duration> {
        claim_group(&self.store, &self.kinds, &self.registry).await
    }
}

fn keyed(key: &str) -> PerfKeyedJob {
    PerfKeyedJob {
        key: key.to_owned(),
    }
}
