//! A server whose jobs do it harm: they abort its process, fill its stack, end it from within, panic,
//! do not stop when they are told to, or never end.
//!
//! ```text
//! cargo run --example hazard -- --store sqlite://jobs.db --ledger ledger.txt
//! ```
//!
//! It runs until it is told to stop (SIGTERM, Ctrl-C), or one of its jobs ends it.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

mod job;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use rocketjob::prelude::*;

use crate::job::{EndlessJob, HazardJob, Surroundings};

#[derive(Parser)]
#[command(about = "Performs jobs that do harm", args_override_self = true)]
struct Arguments {
    /// Where jobs are stored.
    #[arg(long)]
    store: String,
    /// The file that the jobs write.
    #[arg(long)]
    ledger: PathBuf,
    /// The file for which some of the jobs wait.
    #[arg(long, default_value = "gate")]
    gate: PathBuf,
    /// The name of the server.
    #[arg(long)]
    name: Option<String>,
    /// How many worker threads.
    #[arg(long, default_value_t = 4)]
    workers: usize,
    /// How often the server gives a sign of life, in milliseconds.
    #[arg(long, default_value_t = 500)]
    heartbeat: u64,
    /// For how long it may be silent until it counts as dead, in milliseconds.
    #[arg(long, default_value_t = 2000)]
    lease: u64,
    /// How long jobs may take to finish when it stops, in milliseconds.
    #[arg(long, default_value_t = 30_000)]
    grace: u64,
    /// How many threads may be stuck in jobs before the process starts itself anew.
    #[arg(long, default_value_t = 4)]
    max_stuck: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .with_env_filter("warn")
        .init();
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let store = rocketjob::connect(&arguments.store).await?;
    let mut server = Server::builder(&store)
        .register::<HazardJob>()
        .register::<EndlessJob>()
        .workers(arguments.workers)
        .heartbeat_interval(Duration::from_millis(arguments.heartbeat))
        .lease(Duration::from_millis(arguments.lease))
        .grace(Duration::from_millis(arguments.grace))
        .cancel_grace(Duration::from_millis(200))
        .max_stuck(arguments.max_stuck)
        .shared(Surroundings::new(&arguments.ledger, &arguments.gate)?);
    if let Some(name) = arguments.name {
        server = server.name(name);
    }
    let server = server.start().await?;
    println!("{} is running", server.name());
    let stopped = server.run_until_terminated().await?;
    println!("{stopped:?}");
    if stopped.recycle.is_some() {
        return Err(rocketjob::recycle().into());
    }
    Ok(())
}
