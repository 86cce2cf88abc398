//! A server whose jobs write a ledger: a line each time one begins. What is left in the store and
//! what stands in the ledger can then be compared.
//!
//! ```text
//! cargo run --example ledger -- --store sqlite://jobs.db --ledger ledger.txt
//! ```
//!
//! It runs until it is told to stop (SIGTERM, Ctrl-C).

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;
use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

/// Writes a line with its number.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "LedgerJob", keep_completed)]
struct LedgerJob {
    number: i64,
}

/// The file. Lines are written with one append each, so those of several processes do not mix.
struct Ledger(File);

impl Perform for LedgerJob {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        let ledger = job.shared::<Ledger>()?;
        let line = format!("{} {} {}\n", job.id(), self.number, job.worker_name());
        (&ledger.0).write_all(line.as_bytes())?;
        Ok(())
    }
}

#[derive(Parser)]
#[command(about = "Performs jobs that write a ledger")]
struct Arguments {
    /// Where jobs are stored.
    #[arg(long)]
    store: String,
    /// The file that the jobs write.
    #[arg(long)]
    ledger: PathBuf,
    /// How many worker threads.
    #[arg(long, default_value_t = 10)]
    workers: usize,
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

async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let store = rocketjob::connect(&arguments.store).await?;
    let ledger = Ledger(
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&arguments.ledger)?,
    );
    let server = Server::builder(&store)
        .workers(arguments.workers)
        .shared(ledger)
        .start()
        .await?;
    println!("{} is running", server.name());
    let stopped = server.run_until_terminated().await?;
    println!("{stopped:?}");
    Ok(())
}
