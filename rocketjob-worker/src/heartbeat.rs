//! Signs of life, and the server's rank among those that live.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bson::oid::ObjectId;
use rocketjob_core::{Result, ServerState, Store};
use tokio_util::sync::CancellationToken;

/// Beats until the server has stopped.
pub(crate) async fn run(
    store: Store,
    server: ObjectId,
    workers: u32,
    interval: Duration,
    rank: Arc<AtomicUsize>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = stop.cancelled() => return,
        }
        match beat(&store, server, workers).await {
            Ok(Some(place)) => rank.store(place, Ordering::Relaxed),
            Ok(None) => tracing::error!(%server, "the server's document is gone"),
            Err(error) => tracing::warn!(error = error.chain(), "cannot give a sign of life now"),
        }
    }
}

async fn beat(store: &Store, server: ObjectId, workers: u32) -> Result<Option<usize>> {
    if store.heartbeat(server, workers).await?.is_none() {
        return Ok(None);
    }
    rank_of(store, server).await.map(Some)
}

/// The place of a server among those that run: where in the queue its claims begin, so that
/// servers do not fight for the head.
pub(crate) async fn rank_of(store: &Store, server: ObjectId) -> Result<usize> {
    let servers = store.servers().await?;
    let running = servers
        .iter()
        .filter(|other| other.state == ServerState::Running && other.id < server);
    Ok(running.count())
}
