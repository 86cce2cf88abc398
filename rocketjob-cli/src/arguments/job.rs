//! The arguments of what is done to jobs.

use bson::oid::ObjectId;
use clap::{Args, Subcommand, ValueEnum};
use rocketjob_core::Sort;

/// Lists and steers jobs.
#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    List(ListArguments),
    /// Shows jobs with all their fields, and the last failure with its backtrace.
    #[command(after_help = "Example:\n  rocketjob jobs show 6748a1f0c3d2e1a0b4c5d6e7")]
    Show {
        /// The ids of the jobs.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<ObjectId>,
    },
    /// Lets failed jobs wait for a worker again.
    #[command(
        after_help = "Examples:\n  rocketjob jobs retry 6748a1f0c3d2e1a0b4c5d6e7\n  rocketjob jobs retry --all --where 'kind:Import error:timeout created_at:>2d' --dry-run"
    )]
    Retry(ActArguments),
    /// Gives jobs up for good; running ones are told, and their outcome is refused.
    #[command(
        after_help = "Example:\n  rocketjob jobs abort --all --where 'kind:Import state:queued'"
    )]
    Abort(ActArguments),
    /// Fails jobs that wait, run or are paused.
    #[command(
        after_help = "Example:\n  rocketjob jobs fail 6748a1f0c3d2e1a0b4c5d6e7 --message 'wrong month'"
    )]
    Fail {
        #[command(flatten)]
        jobs: ActArguments,
        /// The reason that stands with the job.
        #[arg(long, default_value = "failed by hand")]
        message: String,
    },
    /// Stops jobs for now; running ones only where their kind can be paused.
    #[command(after_help = "Example:\n  rocketjob jobs pause --all --where 'kind:Import'")]
    Pause(ActArguments),
    /// Lets paused jobs go on.
    #[command(after_help = "Example:\n  rocketjob jobs resume --all --where 'kind:Import'")]
    Resume(ActArguments),
    /// Lets scheduled jobs start now.
    #[command(after_help = "Example:\n  rocketjob jobs run-now 6748a1f0c3d2e1a0b4c5d6e7")]
    RunNow(ActArguments),
    /// Deletes jobs that are not running.
    #[command(
        after_help = "Example:\n  rocketjob jobs delete --all --where 'state:completed completed_at:<30d' --yes"
    )]
    Delete(ActArguments),
    Set(SetArguments),
}

/// Lists jobs, a page at a time.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rocketjob jobs list --where 'state:failed kind:Import'\n  rocketjob jobs list --sort created-at --descending --limit 50\n  rocketjob jobs list --undecodable --json"
)]
pub(crate) struct ListArguments {
    /// Only jobs that meet this, such as 'state:failed priority:<10 created_at:>2d error:timeout'.
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) condition: Option<String>,
    /// Only jobs that failed since they do not fit their Rust type.
    #[arg(long)]
    pub(crate) undecodable: bool,
    /// Only jobs that were failed since servers died with them.
    #[arg(long)]
    pub(crate) poison: bool,
    /// By what the list is sorted.
    #[arg(long, value_enum, default_value = "id")]
    pub(crate) sort: SortField,
    /// The last first.
    #[arg(long)]
    pub(crate) descending: bool,
    /// How many jobs at most.
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(crate) limit: usize,
    /// The next page: what the page before told.
    #[arg(long, value_name = "KEY")]
    pub(crate) after: Option<String>,
}

/// By what a list can be sorted.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SortField {
    Id,
    Priority,
    CreatedAt,
    StartedAt,
    CompletedAt,
    RunAt,
}

impl From<SortField> for Sort {
    fn from(field: SortField) -> Self {
        match field {
            SortField::Id => Self::Id,
            SortField::Priority => Self::Priority,
            SortField::CreatedAt => Self::CreatedAt,
            SortField::StartedAt => Self::StartedAt,
            SortField::CompletedAt => Self::CompletedAt,
            SortField::RunAt => Self::RunAt,
        }
    }
}

/// Changes fields of jobs that wait, are paused or have failed: priority, description, run_at,
/// expires_at, log_level, keep_completed, and those that their kind lets people edit.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rocketjob jobs set 6748a1f0c3d2e1a0b4c5d6e7 priority=5 run_at=+2h\n  rocketjob jobs set --all --where 'kind:Import' --set priority=90\n  rocketjob jobs set 6748a1f0c3d2e1a0b4c5d6e7 description=null"
)]
pub(crate) struct SetArguments {
    /// The ids of the jobs, and changes such as priority=5; `null` takes a value away.
    #[arg(value_name = "ID | FIELD=VALUE")]
    pub(crate) words: Vec<String>,
    /// A change, such as priority=5.
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    pub(crate) changes: Vec<String>,
    #[command(flatten)]
    pub(crate) selection: Selection,
}

/// Which jobs, by id or by condition.
#[derive(Debug, Args)]
pub(crate) struct ActArguments {
    /// The ids of the jobs.
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<ObjectId>,
    #[command(flatten)]
    pub(crate) selection: Selection,
}

/// Which jobs, if not by id.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// All jobs to which it can be done, or those that meet --where.
    #[arg(long)]
    pub(crate) all: bool,
    /// With --all: only jobs that meet this.
    #[arg(long = "where", value_name = "CONDITION", requires = "all")]
    pub(crate) condition: Option<String>,
    /// Counts the jobs, shows the first, and does nothing.
    #[arg(long, requires = "all")]
    pub(crate) dry_run: bool,
    /// Does not ask before it destroys something.
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// Tells why a job is not running, and what to do.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  rocketjob why 6748a1f0c3d2e1a0b4c5d6e7")]
pub(crate) struct WhyArguments {
    /// The id of the job.
    pub(crate) id: ObjectId,
}

/// Creates a job.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rocketjob enqueue Report '{\"recipient\": \"ann@example.org\"}'\n  rocketjob enqueue Report '{\"week\": \"2026-01-05\"}' --priority 5 --run-at +2h"
)]
pub(crate) struct EnqueueArguments {
    /// The kind.
    pub(crate) kind: String,
    /// Its fields as a JSON object; `-` reads it from the input.
    #[arg(default_value = "{}")]
    pub(crate) fields: String,
    /// 1 (first) to 100 (last).
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) priority: Option<u8>,
    /// Free text for people.
    #[arg(long)]
    pub(crate) description: Option<String>,
    /// Not to be started before: +2h, 2026-01-31, 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub(crate) run_at: Option<String>,
    /// Not to be started after.
    #[arg(long, value_name = "TIME")]
    pub(crate) expires_at: Option<String>,
    /// From which level on its log lines are kept: trace, debug, info, warn, error.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// Whether it stays in the store when it completes.
    #[arg(long, value_name = "BOOL")]
    pub(crate) keep_completed: Option<bool>,
    /// The group whose running jobs are counted together.
    #[arg(long, value_name = "GROUP")]
    pub(crate) throttle_group: Option<String>,
    /// Checks it, shows what would be stored, and stores nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}
