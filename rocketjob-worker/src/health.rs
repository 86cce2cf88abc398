//! Whether the loops of a server make progress.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use rocketjob_core::Result;
use tokio::time::Instant;

/// How the loops of a server are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Each loop with how it is.
    pub loops: Vec<LoopHealth>,
}

/// How one loop of a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopHealth {
    /// What it does: `dispatch`, `settle`, `heartbeat`, `schedule`, `sweep`, `watch`, `listen`.
    pub name: &'static str,
    /// How long ago it last did all that it had to do; `None` while it has nothing to do.
    pub since: Option<Duration>,
    /// How long that may take.
    pub budget: Duration,
}

impl LoopHealth {
    /// Whether it is within its budget.
    pub fn is_healthy(&self) -> bool {
        self.since.is_none_or(|since| since <= self.budget)
    }
}

impl Health {
    /// Whether all loops are within their budgets. It is false also while the store is away for
    /// longer: the server waits for it, and needs no restart for that.
    pub fn is_healthy(&self) -> bool {
        self.loops.iter().all(LoopHealth::is_healthy)
    }
}

/// A loop's own word that it completed.
#[derive(Debug)]
pub(crate) struct Pulse {
    name: &'static str,
    budget: Duration,
    last: Mutex<Option<Instant>>,
}

impl Pulse {
    pub(crate) fn new(name: &'static str, budget: Duration) -> Arc<Self> {
        Arc::new(Self {
            name,
            budget,
            last: Mutex::new(Some(Instant::now())),
        })
    }

    /// The loop has done all that it had to do.
    pub(crate) fn completed(&self) {
        *self.last.lock() = Some(Instant::now());
    }

    /// The loop waits until there is something to do.
    pub(crate) fn rests(&self) {
        *self.last.lock() = None;
    }

    pub(crate) fn health(&self) -> LoopHealth {
        LoopHealth {
            name: self.name,
            since: self.last.lock().map(|last| last.elapsed()),
            budget: self.budget,
        }
    }
}

/// Says in the log that a step of a loop could not be done, and whether it was.
pub(crate) fn report(what: &str, outcome: &Result<()>) -> bool {
    if let Err(error) = outcome {
        tracing::warn!(error = error.chain(), "cannot {what} now: trying again");
    }
    outcome.is_ok()
}
