//! Creates one singleton many times at once: one succeeds, and the others are told which.
//!
//! ```text
//! cargo run --example singleton -- --store sqlite://jobs.db --creates 5
//! ```

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

use std::process::ExitCode;

use clap::Parser;
use rocketjob::{Error, prelude::*};
use serde::{Deserialize, Serialize};

/// Closes the books of the day. Two at once would close them twice.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[singleton]
struct NightlyJob {
    creator: i64,
}

impl Perform for NightlyJob {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

#[derive(Parser)]
#[command(about = "Creates one singleton job many times at once")]
struct Arguments {
    /// Where jobs are stored.
    #[arg(long, default_value = "memory://")]
    store: String,
    /// How many times.
    #[arg(long, default_value_t = 5)]
    creates: i64,
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
    let creates = (0..arguments.creates).map(|creator| NightlyJob { creator }.create(&store));
    for outcome in futures_util::future::join_all(creates).await {
        match outcome {
            Ok(job) => println!("created {}", job.id()),
            Err(error @ Error::Existing { .. }) => println!("{error}"),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
