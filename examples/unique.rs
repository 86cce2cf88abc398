//! Creates many jobs that are alike at once: one is inserted, and of the others it is told what
//! became of them.
//!
//! ```text
//! cargo run --example unique -- --store sqlite://jobs.db --creates 5 --on-conflict replace
//! ```

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use rocketjob::{Created, Error, prelude::*};
use serde::{Deserialize, Serialize};

/// Mails a customer's invoice; a second one is refused.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[unique(by = [customer])]
struct Invoice {
    customer: i64,
}

impl Perform for Invoice {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

/// Imports a customer's orders; a second import is the first.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[unique(by = [customer], on_conflict = return_existing)]
struct Import {
    customer: i64,
}

impl Perform for Import {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

/// Writes a customer's new address everywhere; the last one counts.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[unique(by = [customer], on_conflict = replace)]
struct Move {
    customer: i64,
    address: String,
}

impl Perform for Move {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OnConflict {
    Reject,
    ReturnExisting,
    Replace,
}

#[derive(Parser)]
#[command(about = "Creates many jobs that are alike at once")]
struct Arguments {
    /// Where jobs are stored.
    #[arg(long, default_value = "memory://")]
    store: String,
    /// How many.
    #[arg(long, default_value_t = 5)]
    creates: i64,
    /// What becomes of a second job.
    #[arg(long, value_enum, default_value = "reject")]
    on_conflict: OnConflict,
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
    let numbers = 0..arguments.creates;
    match arguments.on_conflict {
        OnConflict::Reject => create(&store, numbers.map(|_| Invoice { customer: 1 })).await,
        OnConflict::ReturnExisting => create(&store, numbers.map(|_| Import { customer: 1 })).await,
        OnConflict::Replace => {
            let moved = |number| Move {
                customer: 1,
                address: format!("{number} Main Street"),
            };
            create(&store, numbers.map(moved)).await
        }
    }
}

async fn create<T: Job>(store: &Store, jobs: impl Iterator<Item = T>) -> Result<(), Error> {
    let creates = jobs.map(|job| job.create_unique(store));
    for outcome in futures_util::future::join_all(creates).await {
        match outcome {
            Ok(Created::Inserted(job)) => println!("inserted {}", job.id()),
            Ok(Created::Existing(job)) => println!("existing {}", job.id()),
            Ok(Created::Replaced(job)) => println!("replaced {}", job.id()),
            Err(error @ Error::Existing { .. }) => println!("refused: {error}"),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
