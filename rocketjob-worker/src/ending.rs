//! Why a server ends that nobody in its process told to.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// Set at most once.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    token: CancellationToken,
    recycle: Mutex<Option<String>>,
    /// From when on nothing more is waited for.
    hurry: watch::Sender<Option<Instant>>,
}

impl Ending {
    /// An operator stopped the server through the store.
    pub(crate) fn told(&self) {
        if !self.token.is_cancelled() {
            tracing::info!("told to stop through the store");
        }
        self.token.cancel();
    }

    /// An operator kills the server: after `wait` it hands back what is not finished.
    pub(crate) fn kill(&self, wait: Duration) {
        let end = Instant::now() + wait;
        tracing::warn!(?wait, "told to end without waiting for longer");
        // A later word does not give more time.
        self.hurry
            .send_modify(|hurry| *hurry = Some(hurry.map_or(end, |before| before.min(end))));
        self.told();
    }

    /// Returns when the time is over that a kill left.
    pub(crate) async fn hurried(&self) {
        let mut hurry = self.hurry.subscribe();
        loop {
            let end = *hurry.borrow_and_update();
            let over = async {
                match end {
                    Some(end) => tokio::time::sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = over => return,
                // The sender lives as long as `self`.
                _ = hurry.changed() => {}
            }
        }
    }

    /// The process is in no state to go on.
    pub(crate) fn recycle(&self, reason: String) {
        let mut recycle = self.recycle.lock();
        if recycle.is_none() {
            tracing::error!(reason, "the process is to be started anew");
            *recycle = Some(reason);
        }
        self.token.cancel();
    }

    /// Why the process is to be started anew, if it is.
    pub(crate) fn recycles(&self) -> Option<String> {
        self.recycle.lock().clone()
    }

    /// Returns when the server is to end.
    pub(crate) async fn wait(&self) {
        self.token.cancelled().await;
    }
}
