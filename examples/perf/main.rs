//! What the system costs, and how fast it is: each figure beside what can be reached without it, in
//! turn and in one run.
//!
//! ```text
//! cargo run --release --example perf
//! cargo run --release --example perf -- throughput enqueue --rounds 3
//! cargo run --release --example perf -- all --json
//! ```
//!
//! It starts and stops its own servers and its own MongoDB. `docs/performance.md` tells what is
//! measured, how, and how to read what it prints.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

mod bare;
mod fleet;
mod held;
mod job;
mod machine;
mod place;
mod plan;
mod report;
mod section;
mod serve;
mod statistics;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{
    bare::Bare,
    plan::{Choice, Plan},
};

#[derive(Parser)]
#[command(
    about = "Measures what the system costs, and how fast it is",
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// What to measure.
    #[arg(value_enum, default_values_t = [Choice::Throughput])]
    sections: Vec<Choice>,
    #[command(flatten)]
    plan: Plan,
    /// Prints the result as one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Role {
    /// A server process of a run.
    #[command(hide = true)]
    Serve(serve::Serve),
    /// The bare protocol on MongoDB.
    #[command(hide = true)]
    BareMongo(Bare),
    /// The classic loop.
    #[command(hide = true)]
    Classic(Bare),
    /// The bare loop on SQLite.
    #[command(hide = true)]
    BareSqlite(Bare),
}

type Anything<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.role {
        Some(role) => play(role).await,
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

/// Is a process of a run.
async fn play(role: &Role) -> Anything<()> {
    // Also a process that is stopped ends with the one that started it.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .with_env_filter("warn")
        .init();
    match role {
        Role::Serve(serve) => serve::serve(serve).await,
        Role::BareMongo(bare) => bare::mongo::run(bare).await,
        Role::Classic(bare) => bare::classic::run(bare).await,
        Role::BareSqlite(bare) => bare::sqlite::run(bare).await,
    }
}

async fn measure(arguments: &Arguments) -> Anything<()> {
    tokio::select! {
        report = section::measure(&arguments.sections, &arguments.plan) => {
            let report = report?;
            if arguments.json {
                println!("{}", report.to_json());
            } else {
                println!("{report}");
            }
            Ok(())
        }
        () = rocketjob::terminated() => Err("stopped before the end: nothing is known".into()),
    }
}

/// Says how far the run is.
fn progress(text: &str) {
    eprintln!("{text}");
}
