//! Creates many jobs that are alike at once: one is inserted, and of the others it is told what
//! became of them, in a line of JSON for each.
//!
//! ```text
//! cargo run --example unique -- --store sqlite://jobs.db --creates 5 --on-conflict replace
//! ```

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

mod creates;

use std::process::ExitCode;

use clap::Parser;

use crate::creates::OnConflict;

#[derive(Parser)]
#[command(about = "Creates many jobs that are alike at once")]
struct Arguments {
    /// Where jobs are stored.
    #[arg(long, default_value = "memory://")]
    store: String,
    /// How many.
    #[arg(long, default_value_t = 5)]
    creates: i64,
    /// The number of the first one.
    #[arg(long, default_value_t = 0)]
    first: i64,
    /// What becomes of a second job.
    #[arg(long, value_enum, default_value = "reject")]
    on_conflict: OnConflict,
    /// Say `ready`, and begin when the standard input ends: so several processes begin together.
    #[arg(long)]
    wait: bool,
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
    if arguments.wait {
        println!("ready");
        tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await?;
    }
    let numbers = arguments.first..arguments.first + arguments.creates;
    for outcome in creates::create_all(&store, arguments.on_conflict, numbers).await? {
        println!("{}", serde_json::to_string(&outcome)?);
    }
    Ok(())
}
