//! How fast jobs are processed on MongoDB: servers, the bare protocol and the classic loop in turn.

use bson::Document;
use mongodb::{Collection, Database};
use rocketjob::prelude::*;
use serde_json::{Value, json};

use crate::{
    Anything,
    bare::{Bare, classic},
    fleet::{Course, Fleet, Served},
    job::PerfJob,
    place::{self, Mongo},
    plan::Plan,
    report::{Bound, Column, Section, Unit},
    statistics::number,
};

const COLUMNS: &[Column] = &[
    Column {
        figure: "rate",
        title: "jobs/s",
        decimals: 0,
    },
    Column {
        figure: "group",
        title: "jobs/claim",
        decimals: 0,
    },
    Column {
        figure: "lost",
        title: "lost/job",
        decimals: 3,
    },
    Column {
        figure: "cpu",
        title: "CPU of each",
        decimals: 2,
    },
    Column {
        figure: "store_cpu",
        title: "CPU of mongod",
        decimals: 2,
    },
];

/// How many processes there are.
const PROCESSES: [usize; 4] = [1, 2, 4, 8];

/// One way of processing jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Bare,
    Classic,
    Servers(usize),
}

impl Way {
    fn name(self, keep: bool) -> String {
        let kept = if keep { "kept" } else { "deleted" };
        match self {
            Self::Bare => format!("bare protocol, {kept}"),
            Self::Classic => format!("classic loop, {kept}"),
            Self::Servers(1) => format!("1 process, {kept}"),
            Self::Servers(count) => format!("{count} processes, {kept}"),
        }
    }
}

pub(crate) async fn measure(plan: &Plan) -> Anything<Section> {
    let about = format!(
        "{} jobs that do nothing, kept or deleted when they complete; each process has 10 workers; \
         CPU in cores. The bare protocol claims groups as large as those of one process in the \
         round before. The classic loop has 10 workers and {} jobs.",
        plan.jobs, plan.classic_jobs
    );
    let mut section = Section::new("throughput", about, COLUMNS);
    let bench = Bench::start(plan).await?;
    for keep in [true, false] {
        let mut ways = vec![Way::Bare, Way::Classic];
        ways.extend(PROCESSES.map(Way::Servers));
        let warm_up = bench.servers(1, keep).await?;
        let mut group = group_size(&warm_up.served);
        for round in 1..=plan.rounds {
            let mut chosen = group;
            for way in &ways {
                let mut measured = match way {
                    Way::Bare => bench.bare(group, keep).await?,
                    Way::Classic => bench.classic(keep).await?,
                    Way::Servers(count) => bench.servers(*count, keep).await?,
                };
                match way {
                    Way::Bare => measured.group = Some(group),
                    Way::Servers(1) => chosen = group_size(&measured.served),
                    _ => {}
                }
                section.add(&way.name(keep), round, measured.figures());
            }
            group = chosen;
            // No way always follows on the same one.
            ways.reverse();
        }
        conclude(&mut section, keep);
    }
    Ok(section)
}

fn conclude(section: &mut Section, keep: bool) {
    let one = Way::Servers(1).name(keep);
    let (bare, classic) = (Way::Bare.name(keep), Way::Classic.name(keep));
    let at_least = |bound| Some(Bound::AtLeast(bound));
    section.compare(&one, &bare, "rate", Unit::Percent, at_least(0.9));
    section.compare(&one, &classic, "rate", Unit::Times, at_least(15.0));
    section.find(&one, "rate", Unit::Plain, Some(Bound::Above(20_000.0)));
    for count in &PROCESSES[1..] {
        let several = Way::Servers(*count).name(keep);
        section.compare(&several, &one, "rate", Unit::Percent, at_least(0.95));
    }
}

/// How many jobs the servers got when they got some.
pub(crate) fn group_size(served: &[Served]) -> usize {
    let claimed: u64 = served.iter().map(|served| served.claimed).sum();
    let claims: u64 = served.iter().map(|served| served.successful_claims).sum();
    usize::try_from(claimed / claims.max(1)).unwrap_or(1).max(1)
}

/// What a measurement gave.
pub(crate) struct Measured {
    jobs: usize,
    course: Course,
    pub(crate) served: Vec<Served>,
    /// How many jobs were claimed at a time, where that makes sense.
    pub(crate) group: Option<usize>,
}

impl Measured {
    pub(crate) fn new(jobs: usize, course: Course, served: Vec<Served>) -> Self {
        let claims: u64 = served.iter().map(|served| served.claims).sum();
        Self {
            jobs,
            course,
            group: (claims > 0).then(|| group_size(&served)),
            served,
        }
    }

    pub(crate) fn figures(&self) -> Value {
        let Course { time, cpu, others } = &self.course;
        let sum = |figure: fn(&Served) -> u64| self.served.iter().map(figure).sum::<u64>();
        let mut figures = json!({
            "jobs": self.jobs,
            "settled": sum(|served| served.settled),
            "refused": sum(|served| served.refused),
            "seconds": time.as_secs_f64(),
            "rate": number(self.jobs) / time.as_secs_f64(),
            "cpu": cpu.iter().sum::<f64>() / number(cpu.len()),
            "cpu_of_each": cpu,
            "store_cpu": others.iter().sum::<f64>(),
            "group": self.group,
        });
        if sum(|served| served.claims) > 0 {
            let lost = usize::try_from(sum(|served| served.lost)).unwrap_or(usize::MAX);
            figures["lost"] = json!(number(lost) / number(self.jobs));
        }
        figures
    }
}

struct Bench<'p> {
    plan: &'p Plan,
    mongo: Mongo,
    store: Store,
    database: Database,
}

impl<'p> Bench<'p> {
    async fn start(plan: &'p Plan) -> Anything<Self> {
        let mongo = Mongo::start().await;
        let store = rocketjob::connect(&mongo.url()).await?;
        let database = mongo.client().await?.default_database();
        Ok(Self {
            plan,
            database: database.ok_or("no database is named")?,
            mongo,
            store,
        })
    }

    async fn servers(&self, count: usize, keep: bool) -> Anything<Measured> {
        self.fill(keep).await?;
        let fleet = Fleet::held(&self.mongo.url(), count, &[]).await?;
        self.work(fleet, keep).await
    }

    async fn bare(&self, group: usize, keep: bool) -> Anything<Measured> {
        self.fill(keep).await?;
        let arguments = Bare::arguments("bare-mongo", &self.mongo.url(), group, keep);
        self.work(Fleet::start(&[arguments]).await?, keep).await
    }

    async fn classic(&self, keep: bool) -> Anything<Measured> {
        place::empty(&self.store).await?;
        let jobs: Collection<Document> = self.database.collection(classic::JOBS);
        jobs.drop().await?;
        jobs.create_index(classic::index()).await?;
        let documents = PerfJob::some(self.plan.classic_jobs)
            .map(|job| {
                Ok(job
                    .keep_completed(keep)
                    .prepare(&*self.store)?
                    .into_document())
            })
            .collect::<Anything<Vec<_>>>()?;
        jobs.insert_many(documents).await?;
        let arguments = Bare::arguments("classic", &self.mongo.url(), 1, keep);
        let mut fleet = Fleet::start(&[arguments]).await?;
        place::rest().await;
        let count = self.plan.classic_jobs;
        let course = fleet
            .work(count, &self.mongo.process(), async || Ok(true))
            .await?;
        Ok(Measured::new(count, course, fleet.end().await?))
    }

    async fn fill(&self, keep: bool) -> Anything<()> {
        place::empty(&self.store).await?;
        let jobs = PerfJob::some(self.plan.jobs).map(|job| job.keep_completed(keep));
        PerfJob::create_many(&self.store, jobs).await?;
        Ok(())
    }

    async fn work(&self, mut fleet: Fleet, keep: bool) -> Anything<Measured> {
        place::rest().await;
        let jobs = self.plan.jobs;
        let are_done = async || place::are_done(&self.store, PerfJob::DEFINITION.kind).await;
        let course = fleet.work(jobs, &self.mongo.process(), are_done).await?;
        let served = fleet.end().await?;
        place::check_kept(&self.store, if keep { jobs } else { 0 }).await?;
        Ok(Measured::new(jobs, course, served))
    }
}
