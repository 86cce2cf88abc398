//! A job that has much to say.

use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};
use tracing::{Instrument, Span};

/// Writes lines of all levels, wherever a job can.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "TalkJob", keep_completed)]
pub(crate) struct TalkJob {}

/// From where it writes.
pub(crate) const PLACES: [&str; 3] = ["perform", "task", "thread"];

impl Perform for TalkJob {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        talk(PLACES[0]);
        tokio::spawn(async { talk(PLACES[1]) }.in_current_span()).await?;
        let span = Span::current();
        tokio::task::spawn_blocking(move || span.in_scope(|| talk(PLACES[2]))).await?;
        Ok(())
    }
}

fn talk(place: &str) {
    tracing::trace!(place, "talks");
    tracing::debug!(place, "talks");
    tracing::info!(place, "talks");
    tracing::warn!(place, "talks");
    tracing::error!(place, "talks");
}
