//! How fast jobs are processed: the whole system with one and two processes, beside the bare
//! protocol with nothing but the driver, in turn and in one run.
//!
//! ```text
//! cargo run --release --example perf
//! cargo run --release --example perf -- --jobs 50000 --rounds 5 --keep
//! ```
//!
//! Without `--store` it starts a MongoDB of its own (see `rocketjob_testing::mongod`). Writes are
//! acknowledged by the majority. The jobs do nothing, so that only the overhead is measured.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

mod bare;
mod system;

use std::{collections::BTreeMap, process::ExitCode};

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Measures the overhead of jobs beside the bare protocol")]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// A database on MongoDB; its jobs are dropped.
    #[arg(long)]
    store: Option<String>,
    /// How many jobs each measurement processes.
    #[arg(long, default_value_t = 30_000)]
    jobs: usize,
    /// How many measurements of each way; the median is reported.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How many jobs the bare protocol claims at a time.
    #[arg(long, default_value_t = rocketjob::MAX_READ_AHEAD)]
    group: usize,
    /// Keeps completed jobs in place of deleting them.
    #[arg(long)]
    keep: bool,
}

#[derive(Subcommand)]
enum Role {
    /// A server process: waits for a line on its input, works, and tells how far it is.
    Serve {
        /// The database.
        store: String,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.role {
        Some(Role::Serve { store }) => system::serve(store).await,
        None => measure(&arguments).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

type Anything<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

async fn measure(arguments: &Arguments) -> Anything<()> {
    let own = match &arguments.store {
        Some(_) => None,
        None => Some(rocketjob_testing::mongod::database("perf").await),
    };
    let url = match (&arguments.store, &own) {
        (Some(store), _) => store.clone(),
        (None, Some(database)) => database.url().to_owned(),
        (None, None) => return Err("no database".into()),
    };
    println!(
        "{} no-op jobs per measurement, {} rounds, majority, jobs are {} on completion",
        arguments.jobs,
        arguments.rounds,
        if arguments.keep { "kept" } else { "deleted" }
    );
    let mut rates: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for round in 1..=arguments.rounds {
        let bare = bare::measure(&url, arguments.jobs, arguments.group, arguments.keep).await?;
        let one = system::measure(&url, arguments.jobs, 1, arguments.keep).await?;
        let two = system::measure(&url, arguments.jobs, 2, arguments.keep).await?;
        println!(
            "round {round}: bare {bare:.0}/s, one process {one:.0}/s, two processes {two:.0}/s"
        );
        for (way, rate) in [("bare", bare), ("one", one), ("two", two)] {
            rates.entry(way).or_default().push(rate);
        }
    }
    let median = |way: &str| {
        let mut rates = rates.get(way).cloned().unwrap_or_default();
        rates.sort_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let (bare, one, two) = (median("bare"), median("one"), median("two"));
    println!();
    println!("{:<44}{:>10}{:>12}", "median", "jobs/s", "of bare");
    println!(
        "{:<44}{bare:>10.0}{:>12}",
        format!("bare protocol, groups of {}", arguments.group),
        "100 %"
    );
    println!(
        "{:<44}{one:>10.0}{:>10.0} %",
        "rocketjob, one process of 10 workers",
        one / bare * 100.0
    );
    println!(
        "{:<44}{two:>10.0}{:>10.0} %",
        "rocketjob, two processes of 10 workers",
        two / bare * 100.0
    );
    if let Some(database) = own {
        database.drop().await;
    }
    Ok(())
}
