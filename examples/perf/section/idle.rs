//! What idle servers cost: the store, the processor, memory.

use std::time::Duration;

use bson::{Document, doc};
use rocketjob::whole_number;
use serde_json::{Map, Value, json};

use crate::{
    Anything,
    fleet::Fleet,
    machine::{self, Usage},
    place::{Folder, Mongo},
    plan::Plan,
    report::{Bound, Column, Section, Unit},
    statistics::{largest, number},
};

const COLUMNS: &[Column] = &[
    Column {
        figure: "operations",
        title: "operations/s of each",
        decimals: 2,
    },
    Column {
        figure: "calls",
        title: "calls/s of each",
        decimals: 2,
    },
    Column {
        figure: "cpu",
        title: "CPU, largest",
        decimals: 4,
    },
    Column {
        figure: "memory",
        title: "memory, largest MB",
        decimals: 1,
    },
    Column {
        figure: "store_cpu",
        title: "CPU of mongod",
        decimals: 3,
    },
];

/// How long servers are left alone after they have started.
const SETTLES: Duration = Duration::from_secs(2);
/// What MongoDB counts.
const COUNTERS: [&str; 6] = ["insert", "query", "update", "delete", "getmore", "command"];

pub(crate) async fn measure(plan: &Plan) -> Anything<Section> {
    let about = format!(
        "{} servers of 10 workers with nothing to do, for {} s. Operations are those that MongoDB \
         counts (opcounters), less those that it counts without any server in as long a time, the \
         asking among them. Calls are those that servers make to their stores. CPU in cores; \
         resident memory.",
        plan.idle_servers, plan.idle_seconds
    );
    let mut section = Section::new("idle", about, COLUMNS);
    let seconds = Duration::from_secs(plan.idle_seconds as u64);

    let mongo = Mongo::start().await;
    let watch = Watch {
        plan,
        seconds,
        mongo: Some(&mongo),
    };
    let (without, _) = watch.operations(async || Ok(())).await?;
    let mut fleet = Fleet::servers(&mongo.url(), plan.idle_servers, &[]).await?;
    tokio::time::sleep(SETTLES).await;
    let mut figures = json!({});
    let watched = watch.operations(async || {
        figures = watch.fleet(&mut fleet).await?;
        Ok(())
    });
    let (with, time) = watched.await?;
    let each: Map<_, _> = COUNTERS
        .iter()
        .zip(with.iter().zip(&without))
        .map(|(counter, (with, without))| {
            let rate = (with - without) / time / number(plan.idle_servers);
            ((*counter).to_owned(), json!(rate))
        })
        .collect();
    let operations: f64 = each.values().filter_map(Value::as_f64).sum();
    figures["operations"] = json!(operations);
    figures["operations_by_kind"] = Value::Object(each);
    figures["operations_without_servers"] = json!(without.iter().sum::<f64>() / time);
    section.add("mongodb", 1, figures);
    fleet.end().await?;

    let folder = Folder::new()?;
    let watch = Watch {
        plan,
        seconds,
        mongo: None,
    };
    let mut fleet = Fleet::servers(&folder.url("jobs.db"), plan.idle_servers, &[]).await?;
    tokio::time::sleep(SETTLES).await;
    let figures = watch.fleet(&mut fleet).await?;
    section.add("sqlite", 1, figures);
    fleet.end().await?;

    conclude(&mut section);
    Ok(section)
}

fn conclude(section: &mut Section) {
    let at_most = |bound| Some(Bound::AtMost(bound));
    section.find("mongodb", "operations", Unit::Plain, at_most(2.0));
    section.find("sqlite", "calls", Unit::Plain, at_most(2.0));
    for way in ["mongodb", "sqlite"] {
        section.find(way, "cpu", Unit::Percent, at_most(0.01));
        section.find(way, "memory", Unit::Plain, at_most(15.0));
    }
}

struct Watch<'w> {
    plan: &'w Plan,
    seconds: Duration,
    mongo: Option<&'w Mongo>,
}

impl Watch<'_> {
    /// How many operations of each kind MongoDB counts while `act` happens, or for the time that
    /// is given; and in how many seconds.
    async fn operations(
        &self,
        act: impl AsyncFnOnce() -> Anything<()>,
    ) -> Anything<(Vec<f64>, f64)> {
        let mongo = self.mongo.ok_or("no MongoDB is watched")?;
        let admin = mongo.client().await?.database("admin");
        let counters = async || -> Anything<Vec<f64>> {
            let status: Document = admin.run_command(doc! { "serverStatus": 1 }).await?;
            let counters = status.get_document("opcounters")?;
            let count = |name: &&str| counters.get(*name).and_then(whole_number).unwrap_or(0);
            Ok(COUNTERS
                .iter()
                .map(|name| number(usize::try_from(count(name)).unwrap_or(0)))
                .collect())
        };
        // Connects, which costs some.
        counters().await?;
        let began = tokio::time::Instant::now();
        let before = counters().await?;
        act().await?;
        tokio::time::sleep_until(began + self.seconds).await;
        let after = counters().await?;
        let grown = after
            .iter()
            .zip(&before)
            .map(|(after, before)| after - before);
        Ok((grown.collect(), began.elapsed().as_secs_f64()))
    }

    /// What the servers take in the time that is given.
    async fn fleet(&self, fleet: &mut Fleet) -> Anything<Value> {
        let ids = fleet.ids();
        let store = self.mongo.map(Mongo::process).unwrap_or_default();
        let calls = fleet.calls().await?;
        let began = tokio::time::Instant::now();
        let (before, store_before) = (machine::usage(&ids)?, machine::usage(&store)?);
        tokio::time::sleep(self.seconds).await;
        let (after, store_after) = (machine::usage(&ids)?, machine::usage(&store)?);
        let time = began.elapsed();
        let calls = usize::try_from(fleet.calls().await? - calls)?;
        let cpu = machine::shares(&before, &after, time);
        let memory: Vec<f64> = after.into_iter().map(Usage::megabytes).collect();
        let count = number(self.plan.idle_servers);
        let mut figures = json!({
            "servers": self.plan.idle_servers,
            "seconds": time.as_secs_f64(),
            "calls": number(calls) / time.as_secs_f64() / count,
            "cpu": largest(&cpu),
            "cpu_of_each": cpu,
            "memory": largest(&memory),
            "memory_of_each": memory,
        });
        if self.mongo.is_some() {
            let store_cpu = machine::shares(&store_before, &store_after, time);
            figures["store_cpu"] = json!(store_cpu.iter().sum::<f64>());
        }
        Ok(figures)
    }
}
