//! How long a server may still act for the last sign of life that it gave.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A server's own view of its lease.
///
/// It counts from when the last heartbeat that succeeded was *sent*: the store had it later, and
/// others saw it later still, so that no one declares this server dead before this lease is over.
#[derive(Debug)]
pub(crate) struct Lease {
    length: Duration,
    renewed: Mutex<Instant>,
}

impl Lease {
    pub(crate) fn new(length: Duration) -> Self {
        Self {
            length,
            renewed: Mutex::new(Instant::now()),
        }
    }

    /// A heartbeat that was sent at `sent` has succeeded.
    pub(crate) fn renew(&self, sent: Instant) {
        *self.renewed.lock() = sent;
    }

    /// When it ends.
    pub(crate) fn end(&self) -> Instant {
        *self.renewed.lock() + self.length
    }

    /// Whether others may take this server for dead.
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.end()
    }
}
