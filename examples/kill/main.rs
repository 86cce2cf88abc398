//! The kill test: server processes are killed and paused while they work, the store is killed as well,
//! and in the end every job must have completed, and its completion must have been accepted once.
//!
//! ```text
//! cargo run --release --example kill -- --store sqlite
//! cargo run --release --example kill -- --store mongodb --minutes 60
//! cargo run --release --example kill -- --store mongodb --mix --minutes 30
//! ```
//!
//! `docs/reliability.md` tells what it does, what it checks and how to read what it prints.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

mod check;
mod faults;
mod fleet;
mod job;
mod ledger;
mod mix;
mod mix_create;
mod mix_round;
mod place;
mod report;
mod round;
mod run;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::run::Plan;

#[derive(Parser)]
#[command(
    about = "Kills servers while they work, and checks that nothing is lost",
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    plan: Option<Plan>,
    /// Prints the result as one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Role {
    /// A server process of a run.
    #[command(hide = true)]
    Serve(serve::Serve),
}

type Anything<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { role, plan, json } = Arguments::parse();
    let done = match (role, plan) {
        (Some(Role::Serve(serve)), _) => serve_process(serve).await,
        (None, Some(plan)) => kill(plan, json).await,
        (None, None) => Err("say `--store sqlite` or `--store mongodb`".into()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve_process(serve: serve::Serve) -> Anything<bool> {
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(std::io::stderr)
        // Jobs that fail as they should are no news.
        .with_env_filter("info,rocketjob_worker::worker=error")
        .init();
    let served = serve::serve(serve).await?;
    println!("{}", serde_json::to_string(&served)?);
    Ok(true)
}

async fn kill(plan: Plan, json: bool) -> Anything<bool> {
    let report = tokio::select! {
        report = run::run(&plan) => report?,
        () = rocketjob::terminated() => return Err("stopped before the end: nothing is known".into()),
    };
    if json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{report}");
    }
    Ok(report.all_holds())
}
