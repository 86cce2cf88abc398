//! How soon an idle fleet performs a job that another process creates, how soon a scheduled one after
//! its time, and what the fleet costs while it has nothing to do.
//!
//! ```text
//! cargo run --release --example pickup
//! cargo run --release --example pickup -- --store sqlite --servers 10 --jobs 500
//! ```
//!
//! The servers are processes of ten workers each. Times are those of the monotonic clock, which all
//! processes of a host share: from when the insert is acknowledged, or from the job's time, until
//! `perform` begins. What an idle server asks of MongoDB is counted by the `mongod`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

mod fleet;
mod idle;
mod job;

use std::{process::ExitCode, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use rocketjob::prelude::*;
use rocketjob_testing::mongod::{Mongod, Options};
use tokio::time::sleep;

use self::{fleet::Fleet, job::PickupJob};

#[derive(Parser)]
#[command(about = "Measures wake-ups and what an idle fleet costs")]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// Which store; all in turn unless said otherwise.
    #[arg(long, value_enum)]
    store: Option<Kind>,
    /// How many server processes.
    #[arg(long, default_value_t = 10)]
    servers: usize,
    /// How many jobs, one after the other.
    #[arg(long, default_value_t = 500)]
    jobs: i64,
    /// For how many seconds the idle fleet is watched.
    #[arg(long, default_value_t = 30)]
    idle: u64,
}

#[derive(Subcommand)]
enum Role {
    /// A server process: says on its output when it begins each job, until its input ends.
    Serve {
        /// The store's address.
        store: String,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A `mongod` of the run's own, a replica set of one member.
    Mongodb,
    /// The same without change streams.
    Standalone,
    /// A file.
    Sqlite,
    /// A file, created and performed in one process.
    SameProcess,
}

type Anything<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The pause between two jobs: the fleet is idle when the next one comes.
const PAUSE: Duration = Duration::from_millis(25);
/// How long the fleet has to come to rest.
const REST: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.role {
        Some(Role::Serve { store }) => fleet::serve(store).await,
        None => measure_all(&arguments).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure_all(arguments: &Arguments) -> Anything<()> {
    let kinds = match arguments.store {
        Some(kind) => vec![kind],
        None => Kind::value_variants().to_vec(),
    };
    for kind in kinds {
        let name = kind.to_possible_value();
        println!("{}", name.as_ref().map_or("", |name| name.get_name()));
        measure(kind, arguments).await?;
    }
    Ok(())
}

async fn measure(kind: Kind, arguments: &Arguments) -> Anything<()> {
    let folder = tempfile::tempdir()?;
    let mongod = match kind {
        Kind::Mongodb => Some(Mongod::start(Options::replica_set("pickup")).await),
        Kind::Standalone => Some(Mongod::start(Options::standalone()).await),
        Kind::Sqlite | Kind::SameProcess => None,
    };
    let url = match &mongod {
        Some(mongod) => mongod.url("pickup"),
        None => format!("sqlite://{}", folder.path().join("jobs.db").display()),
    };
    let store = rocketjob::connect(&url).await?;
    let mut fleet = if kind == Kind::SameProcess {
        Fleet::here(&store).await?
    } else {
        Fleet::start(&url, arguments.servers).await?
    };
    sleep(REST).await;
    let mut pickups = Vec::new();
    let mut late = Vec::new();
    for number in 0..arguments.jobs {
        sleep(PAUSE + Duration::from_millis(fastrand::u64(0..10))).await;
        PickupJob { number }.create(&store).await?;
        let acknowledged = job::monotonic();
        pickups.push(since(acknowledged, fleet.begun(number).await?));
    }
    for number in arguments.jobs..arguments.jobs + arguments.jobs / 5 {
        let delay = Duration::from_millis(fastrand::u64(100..300));
        let due = rocketjob::later(store.now(), delay);
        let until = due.duration_since(store.now());
        let at = job::monotonic() + i64::try_from(until.as_nanos())?;
        PickupJob { number }.run_at(due).create(&store).await?;
        late.push(since(at, fleet.begun(number).await?));
    }
    println!("  pickup             {}", quantiles(pickups));
    println!("  scheduled, late by {}", quantiles(late));
    if kind != Kind::SameProcess {
        sleep(REST).await;
        let time = Duration::from_secs(arguments.idle);
        idle::watch(&fleet.processes(), &url, mongod.is_some(), time).await?;
    }
    fleet.end().await
}

/// Milliseconds.
fn since(from: i64, to: i64) -> f64 {
    Duration::from_nanos(to.abs_diff(from)).as_secs_f64() * if to < from { -1e3 } else { 1e3 }
}

fn quantiles(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    let at = |percent: usize| {
        let index = (values.len() * percent / 100).min(values.len().saturating_sub(1));
        values.get(index).copied().unwrap_or(f64::NAN)
    };
    format!(
        "p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms ({} jobs)",
        at(50),
        at(99),
        at(100),
        values.len()
    )
}
