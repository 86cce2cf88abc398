#![doc = include_str!("../docs/crate.md")]

#[cfg(feature = "cli")]
mod command_line;
mod connect;
pub mod guide;

pub use rocketjob_core::*;
pub use rocketjob_derive::RocketJob;
#[cfg(feature = "jobs")]
pub use rocketjob_jobs as jobs;
#[cfg(feature = "metrics")]
pub use rocketjob_metrics as metrics;
#[cfg(feature = "mongo")]
pub use rocketjob_mongo as mongo;
#[cfg(feature = "sqlite")]
pub use rocketjob_sqlite as sqlite;
#[cfg(feature = "telemetry")]
pub use rocketjob_telemetry as telemetry;
#[cfg(feature = "worker")]
pub use rocketjob_worker::{
    Dump, Figures, Health, HealthMonitor, HistogramReading, JobDump, KindReading, Listener,
    LogSubscriber, LoopHealth, MAX_READ_AHEAD, Meter, Reading, Server, ServerBuilder, StartReport,
    Stopped, ThreadDump, Unreadable, WorkerDump, recycle, terminated,
};

#[cfg(feature = "cli")]
pub use command_line::{main, main_with};
pub use connect::connect;

#[doc(hidden)]
pub use rocketjob_core::__private;

/// What a program that defines, creates or performs jobs needs: `use rocketjob::prelude::*;`.
pub mod prelude {
    pub use rocketjob_core::{
        AsStore, Callbacks, CreateJob, FailJob, Filter, FindJob, Job, JobContext, JobError,
        JobHandle, JobResult, LogLevel, MemoryStore, Perform, Proceed, State, Store, Subscriber,
        Subscribers, Upgrade,
    };
    pub use rocketjob_derive::RocketJob;
    #[cfg(feature = "worker")]
    pub use rocketjob_worker::Server;
}
