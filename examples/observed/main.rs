//! A server that is looked at while it works: its lines are JSON on the standard error, and their
//! levels can be changed by events.
//!
//! ```text
//! cargo run --example observed -- --store sqlite://jobs.db --levels warn
//! ```
//!
//! It runs until it is told to stop (SIGTERM, Ctrl-C).

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

mod job;

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use rocketjob::{Registry, prelude::*};
use rocketjob_telemetry::{Format, Telemetry};

use crate::job::TalkJob;

/// How often the modules of the program write something.
const TICK: Duration = Duration::from_millis(50);

#[derive(Parser)]
#[command(about = "A server whose log levels can be changed while it works")]
struct Arguments {
    /// Where jobs are stored.
    #[arg(long)]
    store: String,
    /// From which levels on lines are kept: `info`, or `warn,observed::billing=debug`.
    #[arg(long, default_value = "info")]
    levels: String,
    /// How lines look: `text` or `json`.
    #[arg(long, default_value = "json")]
    format: Format,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> rocketjob::Result<()> {
    Telemetry::builder()
        .levels(arguments.levels)
        .format(arguments.format)
        .init()?;
    let store = rocketjob::connect(&arguments.store).await?;
    tokio::spawn(tick());
    let mut registry = Registry::new();
    registry.register::<TalkJob>()?;
    let server = Server::builder(&store).only(registry).workers(2);
    let server = server.start().await?;
    println!("{} is running", server.name());
    server.run_until_terminated().await?;
    Ok(())
}

async fn tick() {
    loop {
        tokio::time::sleep(TICK).await;
        billing::tick();
        mail::tick();
    }
}

mod billing {
    pub(crate) fn tick() {
        tracing::debug!("counts money");
        tracing::warn!("is short of money");
    }
}

mod mail {
    pub(crate) fn tick() {
        tracing::debug!("counts letters");
        tracing::warn!("is short of stamps");
    }
}
