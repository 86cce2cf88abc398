//! Claims of a server that nobody runs: what is claimed goes back.

use std::time::Duration;

use rocketjob::{ClaimRequest, ClaimToken, JobDocument, Limits, Settled, Settlement, prelude::*};
use tokio::time::Instant;

use crate::Anything;

/// How many jobs are claimed at a time.
pub(super) const GROUP: usize = 100;

/// Claims up to [`GROUP`] jobs, and says how long that took.
pub(super) async fn claim(
    store: &Store,
    kinds: &[String],
    limits: &dyn Limits,
) -> Anything<(Vec<JobDocument>, Duration)> {
    let request = ClaimRequest {
        token: ClaimToken {
            server: store.next_id(),
            sequence: 1,
        },
        workers: &["perf:1:1".to_owned()],
        count: GROUP,
        kinds,
        filter: None,
        skip: 0,
        may_lag: false,
        at_once: GROUP,
        limits,
    };
    let began = Instant::now();
    let claimed = store.claim(&request).await?;
    Ok((claimed.jobs, began.elapsed()))
}

/// Hands jobs back.
pub(super) async fn hand_back(store: &Store, jobs: &[JobDocument]) -> Anything<()> {
    let now = store.now();
    let patches = jobs.iter().filter_map(|job| {
        let claim = job.claim()?;
        Some(Settlement::hand_back(job, claim, now).patch)
    });
    let settled = store.settle(patches.collect()).await?;
    if settled.iter().any(|settled| *settled != Settled::Accepted) {
        return Err("a claim could not be handed back".into());
    }
    Ok(())
}

/// How long a claim of exactly [`GROUP`] jobs takes. What it claims goes back.
pub(super) async fn claim_group(
    store: &Store,
    kinds: &[String],
    limits: &dyn Limits,
) -> Anything<Duration> {
    let (jobs, time) = claim(store, kinds, limits).await?;
    if jobs.len() != GROUP {
        return Err(format!("{} jobs were claimed, not {GROUP}", jobs.len()).into());
    }
    hand_back(store, &jobs).await?;
    Ok(time)
}
