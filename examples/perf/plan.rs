//! What is to be measured, and how much of it.

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Choice {
    /// How fast jobs are processed on MongoDB, beside the bare protocol and the classic loop.
    Throughput,
    /// The same on SQLite, beside a bare loop.
    Sqlite,
    /// How fast jobs are created, beside bare inserts.
    Enqueue,
    /// Jobs that wait, on more and more servers.
    Scale,
    /// How soon an idle server begins a new job, and a scheduled one.
    Pickup,
    /// What idle servers cost.
    Idle,
    /// What a claim costs in a short queue and in a long one.
    Depth,
    /// What a claim costs with many jobs ahead that may not run.
    Ahead,
    /// Short jobs beside long ones.
    Mixed,
    /// Memory under full load over time.
    Soak,
    /// Everything.
    All,
}

impl Choice {
    /// All sections, in their order.
    pub(crate) const SECTIONS: [Self; 10] = [
        Self::Throughput,
        Self::Sqlite,
        Self::Enqueue,
        Self::Scale,
        Self::Pickup,
        Self::Idle,
        Self::Depth,
        Self::Ahead,
        Self::Mixed,
        Self::Soak,
    ];
}

/// How much is measured.
#[derive(Debug, Clone, clap::Args, serde::Serialize)]
pub(crate) struct Plan {
    /// How many measurements of each way, in turn; their median is reported.
    #[arg(long, default_value_t = 5, value_parser = at_least_one)]
    pub(crate) rounds: usize,
    /// How many jobs one measurement of the rate processes.
    #[arg(long, default_value_t = 50_000, value_parser = at_least_one)]
    pub(crate) jobs: usize,
    /// How many jobs the classic loop processes, which is slow.
    #[arg(long, default_value_t = 2000, value_parser = at_least_one)]
    pub(crate) classic_jobs: usize,
    /// How many jobs that wait each process gets.
    #[arg(long, default_value_t = 1500, value_parser = at_least_one)]
    pub(crate) waiting_jobs: usize,
    /// How many pickups of each kind are measured, in all rounds together.
    #[arg(long, default_value_t = 300, value_parser = at_least_one)]
    pub(crate) pickups: usize,
    /// How many servers wait for the jobs that are picked up.
    #[arg(long, default_value_t = 2, value_parser = at_least_one)]
    pub(crate) fleet: usize,
    /// How many idle servers there are.
    #[arg(long, default_value_t = 10, value_parser = at_least_one)]
    pub(crate) idle_servers: usize,
    /// For how many seconds they are watched.
    #[arg(long, default_value_t = 60, value_parser = at_least_one)]
    pub(crate) idle_seconds: usize,
    /// How many jobs the long queue has.
    #[arg(long, default_value_t = 2_000_000, value_parser = at_least_one)]
    pub(crate) depth: usize,
    /// How many jobs that may not run are ahead of the others.
    #[arg(long, default_value_t = 100_000, value_parser = at_least_one)]
    pub(crate) ahead: usize,
    /// For how many minutes memory is watched under full load.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) minutes: f64,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("must be a whole number above 0".to_owned()),
        Ok(number) => Ok(number),
    }
}
