//! The arguments.

#![expect(
    clippy::doc_markdown,
    reason = "the comments are what a terminal shows"
)]

mod job;
mod server;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use job::{
    ActArguments, EnqueueArguments, JobsCommand, ListArguments, Selection, SetArguments,
    WhyArguments,
};
pub(crate) use server::{
    LogArguments, LogFormat, PerfArguments, ServersCommand, StartArguments, TargetArguments,
};

/// Background jobs: servers that perform them, and the steering of both.
#[derive(Debug, Parser)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage or input, 3 nothing matched, 4 the store does not answer, 130 interrupted.",
    arg_required_else_help = true
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Common options")]
pub(crate) struct Common {
    /// The store: sqlite://jobs.db, mongodb://host/database.
    ///
    /// Without it the environment variable, then the setting `store` of the configuration file
    /// counts. Other users of a machine can read arguments: put a password into one of these.
    #[arg(long, global = true, env = "ROCKETJOB_STORE", hide_env_values = true)]
    pub(crate) store: Option<String>,
    /// The configuration file, in place of ./rocketjob.toml and ~/.config/rocketjob/config.toml.
    #[arg(long, global = true, env = "ROCKETJOB_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Writes JSON in a stable form in place of text for people.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Start(StartArguments),
    #[command(subcommand)]
    Jobs(JobsCommand),
    Enqueue(EnqueueArguments),
    #[command(subcommand)]
    Servers(ServersCommand),
    Why(WhyArguments),
    /// Looks for what is wrong with the store, its jobs and its servers, and tells what to do.
    #[command(after_help = "Example:\n  rocketjob doctor")]
    Doctor,
    Perf(PerfArguments),
    /// Writes the completions of a shell.
    #[command(
        after_help = "Example:\n  rocketjob completions bash > /etc/bash_completion.d/rocketjob"
    )]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}
