//! The sections, each a module of its name.

mod ahead;
mod claim;
mod depth;
mod enqueue;
mod idle;
mod mixed;
mod pickup;
mod scale;
mod soak;
mod sqlite;
mod throughput;

use std::fmt;

use serde_json::{Map, Value, json};

use crate::{
    Anything,
    machine::Machine,
    place::{Folder, Mongo},
    plan::{Choice, Plan},
    report::Section,
};

/// All that a run found.
pub(crate) struct Report {
    machine: Machine,
    /// What the stores are, as a server reports it when it starts.
    stores: Vec<String>,
    plan: Plan,
    sections: Vec<Section>,
}

/// Measures what was chosen.
pub(crate) async fn measure(chosen: &[Choice], plan: &Plan) -> Anything<Report> {
    let mut report = Report {
        machine: Machine::here()?,
        stores: stores().await?,
        plan: plan.clone(),
        sections: Vec::new(),
    };
    let is_chosen = |section: &Choice| chosen.contains(section) || chosen.contains(&Choice::All);
    for choice in Choice::SECTIONS.into_iter().filter(is_chosen) {
        report.sections.push(match choice {
            Choice::Sqlite => sqlite::measure(plan).await?,
            Choice::Enqueue => enqueue::measure(plan).await?,
            Choice::Scale => scale::measure(plan).await?,
            Choice::Pickup => pickup::measure(plan).await?,
            Choice::Idle => idle::measure(plan).await?,
            Choice::Depth => depth::measure(plan).await?,
            Choice::Ahead => ahead::measure(plan).await?,
            Choice::Mixed => mixed::measure(plan).await?,
            Choice::Soak => soak::measure(plan).await?,
            Choice::Throughput | Choice::All => throughput::measure(plan).await?,
        });
    }
    Ok(report)
}

async fn stores() -> Anything<Vec<String>> {
    let (mongo, folder) = (Mongo::start().await, Folder::new()?);
    let mut stores = Vec::new();
    for url in [mongo.url(), folder.url("jobs.db")] {
        let inspection = rocketjob::connect(&url).await?.inspect().await?;
        stores.push(format!("{}, {}", inspection.product, inspection.durability));
    }
    Ok(stores)
}

impl Report {
    pub(crate) fn to_json(&self) -> Value {
        let sections = self.sections.iter();
        let sections: Map<_, _> = sections
            .map(|section| (section.name.to_owned(), section.to_json()))
            .collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "machine": self.machine,
            "stores": self.stores,
            "plan": self.plan,
            "sections": sections,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine {
            cores,
            model,
            memory_gib,
            system,
        } = &self.machine;
        writeln!(f, "- Rocket Job {}", env!("CARGO_PKG_VERSION"))?;
        writeln!(f, "- {cores} cores {model}, {memory_gib} GiB, {system}")?;
        for store in &self.stores {
            writeln!(f, "- {store}")?;
        }
        writeln!(
            f,
            "- {} rounds, medians; one MongoDB server as a replica set, on the same machine",
            self.plan.rounds
        )?;
        for section in &self.sections {
            write!(f, "\n{section}")?;
        }
        Ok(())
    }
}
