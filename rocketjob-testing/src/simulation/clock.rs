//! The store's clock: virtual time, and whatever people do to clocks.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use rocketjob_core::{Clock, in_milliseconds};
use tokio::time::Instant;

/// Goes with the runtime's virtual time, except that it can be set.
#[derive(Debug, Clone)]
pub(super) struct VirtualClock {
    start: Instant,
    offset: Arc<Mutex<SignedDuration>>,
}

impl VirtualClock {
    pub(super) fn start() -> Self {
        Self {
            start: Instant::now(),
            offset: Arc::default(),
        }
    }

    /// Sets the clock forward or back, from what it shows by itself.
    pub(super) fn jump_to(&self, offset: SignedDuration) {
        *self.offset.lock() = offset;
    }

    /// Since the start; nobody can set this one.
    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let start = Timestamp::constant(1_767_225_600, 0);
        let offset = *self.offset.lock();
        let now = start
            .checked_add(self.elapsed())
            .and_then(|now| now.checked_add(offset));
        in_milliseconds(now.unwrap_or(start))
    }
}
