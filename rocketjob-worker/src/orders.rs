//! What a server was told to be by an event, until its document says so.

use parking_lot::Mutex;
use rocketjob_core::ServerState;
use tokio::sync::Notify;

/// The last order, if it does not stand in the document yet.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    wanted: Mutex<Option<ServerState>>,
    news: Notify,
}

impl Orders {
    /// The server is to be paused or running.
    pub(crate) fn give(&self, state: ServerState) {
        *self.wanted.lock() = Some(state);
        self.news.notify_one();
    }

    /// The document is to be looked at.
    pub(crate) fn refresh(&self) {
        self.news.notify_one();
    }

    /// Returns when there is an order, or the document is to be looked at.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    pub(crate) fn wanted(&self) -> Option<ServerState> {
        *self.wanted.lock()
    }

    /// The document says so now.
    pub(crate) fn written(&self, state: ServerState) {
        let mut wanted = self.wanted.lock();
        if *wanted == Some(state) {
            *wanted = None;
        }
    }
}
