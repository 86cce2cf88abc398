//! How fast jobs are processed on a file: servers, and a bare loop in as many processes, in turn.

use rocketjob::prelude::*;

use super::throughput::{Measured, group_size};
use crate::{
    Anything,
    bare::Bare,
    fleet::Fleet,
    job::PerfJob,
    place::{self, Folder},
    plan::Plan,
    report::{Bound, Column, Section, Unit},
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
        figure: "cpu",
        title: "CPU of each",
        decimals: 2,
    },
];

/// How many processes there are, and the least share of the bare loop.
const PROCESSES: [(usize, f64); 2] = [(1, 0.6), (2, 0.5)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Bare(usize),
    Servers(usize),
}

impl Way {
    fn name(self, keep: bool) -> String {
        let kept = if keep { "kept" } else { "deleted" };
        let (what, count) = match self {
            Self::Bare(count) => ("bare loop, ", count),
            Self::Servers(count) => ("", count),
        };
        let plural = if count == 1 { "" } else { "es" };
        format!("{what}{count} process{plural}, {kept}")
    }
}

pub(crate) async fn measure(plan: &Plan) -> Anything<Section> {
    let about = format!(
        "{} jobs that do nothing on a file with synchronous FULL, kept or deleted when they \
         complete; each server has 10 workers; CPU in cores. The bare loop claims groups as large \
         as those of as many servers in the round before.",
        plan.jobs
    );
    let mut section = Section::new("sqlite", about, COLUMNS);
    let folder = Folder::new()?;
    for keep in [true, false] {
        let mut groups = Vec::new();
        for (count, _) in PROCESSES {
            let warm_up = servers(plan, &folder, count, keep).await?;
            groups.push(group_size(&warm_up.served));
        }
        let mut ways: Vec<_> = PROCESSES
            .iter()
            .flat_map(|(count, _)| [Way::Bare(*count), Way::Servers(*count)])
            .collect();
        for round in 1..=plan.rounds {
            let mut chosen = groups.clone();
            for way in &ways {
                let measured = match way {
                    Way::Bare(count) => {
                        let group = groups[count - 1];
                        let mut measured = bare(plan, &folder, *count, group, keep).await?;
                        measured.group = Some(group);
                        measured
                    }
                    Way::Servers(count) => {
                        let measured = servers(plan, &folder, *count, keep).await?;
                        chosen[count - 1] = group_size(&measured.served);
                        measured
                    }
                };
                section.add(&way.name(keep), round, measured.figures());
            }
            groups = chosen;
            // No way always follows on the same one.
            ways.reverse();
        }
        for (count, least) in PROCESSES {
            section.compare(
                &Way::Servers(count).name(keep),
                &Way::Bare(count).name(keep),
                "rate",
                Unit::Percent,
                Some(Bound::AtLeast(least)),
            );
        }
    }
    Ok(section)
}

async fn servers(plan: &Plan, folder: &Folder, count: usize, keep: bool) -> Anything<Measured> {
    let (url, store) = fill(plan, folder, keep).await?;
    let fleet = Fleet::held(&url, count, &[]).await?;
    work(plan, &store, fleet, keep).await
}

async fn bare(
    plan: &Plan,
    folder: &Folder,
    count: usize,
    group: usize,
    keep: bool,
) -> Anything<Measured> {
    let (url, store) = fill(plan, folder, keep).await?;
    let arguments = Bare::arguments("bare-sqlite", &url, group, keep);
    let fleet = Fleet::start(&vec![arguments; count]).await?;
    work(plan, &store, fleet, keep).await
}

/// A file with nothing but new jobs.
async fn fill(plan: &Plan, folder: &Folder, keep: bool) -> Anything<(String, Store)> {
    let url = folder.url("jobs.db");
    let store = rocketjob::connect(&url).await?;
    place::empty(&store).await?;
    let jobs = PerfJob::some(plan.jobs).map(|job| job.keep_completed(keep));
    PerfJob::create_many(&store, jobs).await?;
    Ok((url, store))
}

async fn work(plan: &Plan, store: &Store, mut fleet: Fleet, keep: bool) -> Anything<Measured> {
    place::rest().await;
    let are_done = async || place::are_done(store, PerfJob::DEFINITION.kind).await;
    let course = fleet.work(plan.jobs, &[], are_done).await?;
    let served = fleet.end().await?;
    place::check_kept(store, if keep { plan.jobs } else { 0 }).await?;
    Ok(Measured::new(plan.jobs, course, served))
}
