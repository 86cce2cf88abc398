//! The job, which says when it begins.

use std::time::Duration;

use rocketjob::prelude::*;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(kind = "PickupJob")]
pub(crate) struct PickupJob {
    pub(crate) number: i64,
}

/// Where a job says when it began.
pub(crate) struct Begun(pub(crate) UnboundedSender<(i64, i64)>);

impl Perform for PickupJob {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        let now = monotonic();
        let begun = job.shared::<Begun>()?;
        // Nobody is left to be told when the server stops.
        let _ = begun.0.send((self.number, now));
        Ok(())
    }
}

/// Nanoseconds of the clock that all processes of a host share.
pub(crate) fn monotonic() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    let now = Duration::new(
        now.tv_sec.unsigned_abs(),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    );
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}
