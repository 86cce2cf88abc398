//! Why a server ends that nobody in its process told to.

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Set at most once.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    token: CancellationToken,
    recycle: Mutex<Option<String>>,
}

impl Ending {
    /// An operator stopped the server through the store.
    pub(crate) fn told(&self) {
        if !self.token.is_cancelled() {
            tracing::info!("told to stop through the store");
        }
        self.token.cancel();
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
