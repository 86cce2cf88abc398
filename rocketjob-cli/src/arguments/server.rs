//! The arguments of what concerns servers.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Starts a server that performs the kinds of this program, until it is told to end.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  myapp start --workers 20\n  myapp start --include 'Import*' --exclude ImportHistory --where 'priority:<50'\n  myapp start --name import-1 --pid-file /run/myapp.pid --log-format json"
)]
pub(crate) struct StartArguments {
    /// How many workers, each a thread.
    #[arg(long, short, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "N")]
    pub(crate) workers: u32,
    /// The name, unique in the store; <host>:<process id> without one.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Only these kinds; * and ? stand for any characters and for one.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) include: Vec<String>,
    /// Not these kinds.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude: Vec<String>,
    /// Only jobs that meet this, as in `jobs list`, or in the original's JSON form.
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) condition: Option<String>,
    /// A file for the process id; it goes when the server ends.
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) log: LogArguments,
}

/// How the log is written, to the output of errors.
#[derive(Debug, Args)]
pub(crate) struct LogArguments {
    /// What is logged: a level, or levels by module such as info,myapp::mail=debug.
    #[arg(
        long,
        default_value = "info",
        env = "ROCKETJOB_LOG",
        value_name = "FILTER"
    )]
    pub(crate) log_level: String,
    /// The form of a line.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Lists and steers servers.
#[derive(Debug, Subcommand)]
pub(crate) enum ServersCommand {
    /// Lists the servers.
    #[command(after_help = "Examples:\n  rocketjob servers list\n  rocketjob servers list --live")]
    List {
        /// Shows them again and again, until it is interrupted.
        #[arg(long)]
        live: bool,
        /// How many seconds lie in between.
        #[arg(
            long,
            default_value_t = 1.0,
            value_name = "SECONDS",
            requires = "live",
            allow_negative_numbers = true
        )]
        interval: f64,
    },
    /// Lets servers finish their jobs and end.
    #[command(
        after_help = "Examples:\n  rocketjob servers stop import-1\n  rocketjob servers stop --all"
    )]
    Stop(TargetArguments),
    /// Lets servers take no new work until they are resumed.
    #[command(after_help = "Example:\n  rocketjob servers pause --all")]
    Pause(TargetArguments),
    /// Lets servers take work again.
    #[command(after_help = "Example:\n  rocketjob servers resume --all")]
    Resume(TargetArguments),
    /// Ends servers: what is not finished in time is handed back.
    #[command(after_help = "Example:\n  rocketjob servers kill import-1 --wait 10 --yes")]
    Kill {
        #[command(flatten)]
        target: TargetArguments,
        /// How many seconds jobs may take to finish.
        #[arg(
            long,
            default_value_t = 5.0,
            value_name = "SECONDS",
            allow_negative_numbers = true
        )]
        wait: f64,
    },
    /// Lets servers write to their logs what each of their workers does.
    #[command(after_help = "Example:\n  rocketjob servers dump import-1")]
    Dump(TargetArguments),
}

/// Which servers.
#[derive(Debug, Args)]
pub(crate) struct TargetArguments {
    /// The name of a server, or a part of the names of several.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) name: Option<String>,
    /// All servers.
    #[arg(long)]
    pub(crate) all: bool,
    /// Does not ask before servers end.
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// Measures how many jobs per second the store takes: creates jobs that do nothing, and performs
/// them in this process.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  rocketjob perf --count 10000 --workers 10")]
pub(crate) struct PerfArguments {
    /// How many jobs.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000), value_name = "N")]
    pub(crate) count: u32,
    /// How many workers.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "N")]
    pub(crate) workers: u32,
}
