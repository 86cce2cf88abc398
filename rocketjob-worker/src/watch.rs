//! Watches running jobs: writes their progress, and tells those whose claim is gone.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bson::oid::ObjectId;
use rocketjob_core::{
    Cancelled, Change, Claim, Guard, JobContext, Patch, Result, Settled, Store, name,
};
use tokio_util::sync::CancellationToken;

use crate::worker::Crew;

/// How often running jobs are looked at; shorter ones are never written or checked on their way.
const INTERVAL: Duration = Duration::from_secs(1);
/// How many claims are read at a time.
const PAGE: usize = 1000;

/// Watches until the server has stopped.
pub(crate) async fn run(store: Store, server: ObjectId, crew: Arc<Crew>, stop: CancellationToken) {
    let mut written = HashMap::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = stop.cancelled() => return,
        }
        let long: Vec<JobContext> = crew
            .performing()
            .into_iter()
            .filter(|performing| performing.since.elapsed() >= INTERVAL)
            .map(|performing| performing.context)
            .collect();
        if long.is_empty() {
            written.clear();
            continue;
        }
        if let Err(error) = look(&store, server, &long, &mut written).await {
            tracing::warn!(error = error.chain(), "cannot look after running jobs now");
        }
    }
}

async fn look(
    store: &Store,
    server: ObjectId,
    long: &[JobContext],
    written: &mut HashMap<ObjectId, u8>,
) -> Result<()> {
    let claims = claims(store, server).await?;
    written.retain(|id, _| long.iter().any(|context| context.id() == *id));
    let mut patches = Vec::new();
    for context in long {
        let Some(claim) = context.document().claim() else {
            continue;
        };
        if claims.get(&context.id()) != Some(&claim) {
            tracing::warn!(id = %context.id(), kind = context.kind(), "the claim is gone: telling the job");
            context.cancel(Cancelled::ClaimLost);
            continue;
        }
        let percent = context.percent_complete();
        let before = written.insert(context.id(), percent);
        if before.map_or(
            i64::from(percent) != context.document().percent_complete(),
            |before| before != percent,
        ) {
            let change = Change::new().set(name::PERCENT_COMPLETE, i32::from(percent));
            patches.push(Patch {
                id: context.id(),
                guard: Guard::claimed(claim),
                change,
            });
        }
    }
    if patches.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = patches.iter().map(|patch| patch.id).collect();
    for (id, outcome) in ids.into_iter().zip(store.settle(patches).await?) {
        if let (Settled::Refused(_), Some(context)) =
            (outcome, long.iter().find(|context| context.id() == id))
        {
            context.cancel(Cancelled::ClaimLost);
        }
    }
    Ok(())
}

async fn claims(store: &Store, server: ObjectId) -> Result<HashMap<ObjectId, Claim>> {
    let mut claims = HashMap::new();
    let mut after = None;
    loop {
        let page = store.claims_of(server, after, PAGE).await?;
        let last = page.last().map(rocketjob_core::JobDocument::id);
        let full = page.len() == PAGE;
        claims.extend(page.iter().filter_map(|job| Some((job.id(), job.claim()?))));
        if !full {
            return Ok(claims);
        }
        after = last;
    }
}
