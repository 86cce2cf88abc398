//! Are limits exact? Several server processes work on jobs with a limit, which note in a ledger when
//! they begin and end; then the ledger is looked at.
//!
//! ```text
//! cargo run --release --example throttle -- --store mongodb running
//! cargo run --release --example throttle -- --store sqlite running --kill 10
//! cargo run --release --example throttle -- --store mongodb running --failovers 5
//! cargo run --release --example throttle -- --store mongodb keys
//! cargo run --release --example throttle -- --store mongodb rate
//! ```

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

mod failover;
mod figures;
mod job;
mod ledger;
#[path = "../kill/place.rs"]
#[expect(dead_code, reason = "the kill test's, of which this needs a part")]
mod place;
mod run;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

type Anything<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Parser)]
#[command(
    about = "Shows that limits are exact under several servers",
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    plan: Option<run::Plan>,
}

#[derive(Subcommand)]
enum Role {
    /// A server process of a run.
    #[command(hide = true)]
    Serve {
        #[arg(long)]
        url: String,
        #[arg(long)]
        ledger: PathBuf,
        #[arg(long)]
        workers: usize,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { role, plan } = Arguments::parse();
    let done = match (role, plan) {
        (
            Some(Role::Serve {
                url,
                ledger,
                workers,
            }),
            _,
        ) => job::serve(&url, &ledger, workers).await.map(|()| true),
        (None, Some(plan)) => run::run(&plan).await.map(|report| {
            println!("{report}");
            report.holds()
        }),
        (None, None) => Err("say `--store sqlite` or `--store mongodb`, and what to limit".into()),
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
