//! A server whose jobs fail again and again, until their limit.
//!
//! ```text
//! cargo run --example retry -- --store sqlite://jobs.db --creates 10
//! ```

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use rocketjob::{Error, JobFailure, prelude::*};
use serde::{Deserialize, Serialize};

/// Asks somebody who does not answer. It does no harm if its server dies meanwhile.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(max_lost_claims = 1000)]
#[retry(limit = 5, backoff = soon)]
struct Ask {}

fn soon(n: u32, _failure: &JobFailure) -> Duration {
    Duration::from_millis(20) * (n + 1)
}

impl Perform for Ask {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err("no answer".into())
    }
}

#[derive(Parser)]
#[command(about = "Performs jobs that fail again and again")]
struct Arguments {
    /// Where jobs are stored.
    #[arg(long, default_value = "memory://")]
    store: String,
    /// How many jobs to create first.
    #[arg(long, default_value_t = 0)]
    creates: usize,
    /// How long without a sign of life until the server counts as dead, in milliseconds.
    #[arg(long, default_value_t = 60_000)]
    lease: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error.chain());
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Error> {
    let store = rocketjob::connect(&arguments.store).await?;
    Ask::create_many(&store, (0..arguments.creates).map(|_| Ask {})).await?;
    let lease = Duration::from_millis(arguments.lease);
    let server = Server::builder(&store)
        .workers(4)
        .heartbeat_interval(lease / 5)
        .lease(lease)
        .start()
        .await?;
    println!("{} is running", server.name());
    server.run_until_terminated().await?;
    Ok(())
}
