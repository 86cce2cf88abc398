//! Where a server stands: under which incarnation it acts, and whether it may claim.

use std::time::Duration;

use bson::oid::ObjectId;
use rocketjob_core::{ServerDocument, ServerState};
use tokio::{sync::watch, time::Instant};

use crate::lease::Lease;

/// Whether a server claims, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It claims.
    Working,
    /// An operator said to wait.
    Paused,
    /// It could not show that it is alive, or others say that it is dead.
    Fenced,
    /// It finishes what it has.
    Stopping,
}

/// What the loops of a server act under.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// The incarnation.
    pub(crate) id: ObjectId,
    /// The registered name.
    pub(crate) name: String,
    pub(crate) mode: Mode,
}

/// The one place that knows the [`Standing`].
#[derive(Debug)]
pub(crate) struct Post {
    standing: watch::Sender<Standing>,
    pub(crate) lease: Lease,
}

impl Post {
    pub(crate) fn new(server: &ServerDocument, lease: Duration) -> Self {
        Self {
            standing: watch::Sender::new(Standing {
                id: server.id,
                name: server.name.clone(),
                mode: Mode::Working,
            }),
            lease: Lease::new(lease),
        }
    }

    pub(crate) fn now(&self) -> Standing {
        self.standing.borrow().clone()
    }

    pub(crate) fn id(&self) -> ObjectId {
        self.standing.borrow().id
    }

    pub(crate) fn mode(&self) -> Mode {
        self.standing.borrow().mode
    }

    /// Whether jobs may be begun under the incarnation `id`: it holds its claims, and is not fenced.
    pub(crate) fn may_begin(&self, id: ObjectId) -> bool {
        let standing = self.standing.borrow();
        standing.mode != Mode::Fenced && self.is_held(&standing, id)
    }

    /// Whether nobody else can have been given what the incarnation `id` has claimed: it is today's,
    /// and its lease stands.
    pub(crate) fn holds(&self, id: ObjectId) -> bool {
        self.is_held(&self.standing.borrow(), id)
    }

    fn is_held(&self, standing: &Standing, id: ObjectId) -> bool {
        standing.id == id && !self.lease.is_over()
    }

    /// Changes the mode, and says whether it was another one. What stops stays so.
    pub(crate) fn set_mode(&self, mode: Mode) -> bool {
        self.standing.send_if_modified(|standing| {
            let changes = standing.mode != mode && standing.mode != Mode::Stopping;
            if changes {
                standing.mode = mode;
            }
            changes
        })
    }

    /// From now on acts under another incarnation, whose first sign of life was sent at `sent`.
    pub(crate) fn reincarnate(&self, server: &ServerDocument, sent: Instant) {
        self.standing.send_modify(|standing| {
            // In one step: the former incarnation must not be seen with a lease that stands.
            self.lease.renew(sent);
            standing.id = server.id;
            standing.name.clone_from(&server.name);
            if standing.mode != Mode::Stopping {
                standing.mode = match server.state {
                    ServerState::Paused => Mode::Paused,
                    _ => Mode::Working,
                };
            }
        });
    }

    /// Returns when the standing changes.
    pub(crate) async fn changed(&self) {
        let mut receiver = self.standing.subscribe();
        // The sender lives as long as `self`.
        let _ = receiver.changed().await;
    }
}
