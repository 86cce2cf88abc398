//! Servers in simulated processes, for the simulation of `rocketjob-testing`; no part of the public
//! interface.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use rocketjob_core::{JobDocument, ServerDocument, Store, name};
use tokio::task::{AbortHandle, JoinHandle};

use crate::settler::Item;

/// A defect that is planted, to show that the simulation finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Planted {
    /// Outcomes are written whoever holds the claim.
    UnfencedSettle,
    /// Servers are declared dead by the time stamp of their last heartbeat.
    WallClock,
    /// Successors are created before the outcome is accepted.
    SuccessorBeforeSettle,
    /// A store hands out a job that is claimed already.
    ClaimTwice,
    /// A call whose reply was lost counts as one that was never made.
    LostReplyIsFailure,
}

/// A process that can be stopped, continued and killed, as a whole and between any two steps.
///
/// Must be used inside a `LocalSet`, in which all of its tasks run.
#[derive(Debug, Clone, Default)]
pub struct Process(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    frozen: bool,
    dead: bool,
    tasks: Vec<AbortHandle>,
    waiting: Vec<Waker>,
}

impl Process {
    /// A process without any task.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task in it.
    pub fn spawn<F: Future + 'static>(&self, future: F) -> JoinHandle<F::Output>
    where
        F::Output: 'static,
    {
        let task = tokio::task::spawn_local(InProcess {
            process: self.clone(),
            future: Box::pin(future),
        });
        let mut state = self.0.lock();
        state.tasks.retain(|task| !task.is_finished());
        if state.dead {
            task.abort();
        } else {
            state.tasks.push(task.abort_handle());
        }
        task
    }

    /// Stops it, as SIGSTOP does: time goes on without it.
    pub fn stop(&self) {
        self.0.lock().frozen = true;
    }

    /// Continues it, as SIGCONT does.
    pub fn go_on(&self) {
        let waiting = {
            let mut state = self.0.lock();
            state.frozen = false;
            std::mem::take(&mut state.waiting)
        };
        for waker in waiting {
            waker.wake();
        }
    }

    /// Ends it, as SIGKILL does: no destructor has any effect on the store.
    pub fn kill(&self) {
        let tasks = {
            let mut state = self.0.lock();
            state.dead = true;
            std::mem::take(&mut state.tasks)
        };
        for task in tasks {
            task.abort();
        }
    }

    /// Whether it was killed.
    pub fn is_dead(&self) -> bool {
        self.0.lock().dead
    }

    /// Whether it is stopped.
    pub fn is_stopped(&self) -> bool {
        self.0.lock().frozen
    }
}

/// A task of a process.
struct InProcess<F> {
    process: Process,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for InProcess<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        {
            let mut state = self.process.0.lock();
            if state.dead {
                return Poll::Pending;
            }
            if state.frozen {
                state.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
        }
        self.future.as_mut().poll(cx)
    }
}

/// [`Planted::SuccessorBeforeSettle`].
pub(crate) async fn create_early(store: &Store, group: &[Item]) {
    for item in group {
        let successors = item.settling.patch.change.set.get_array(name::SUCCESSORS);
        let documents = successors.into_iter().flatten();
        let jobs = documents
            .filter_map(|successor| JobDocument::new(successor.as_document()?.clone()).ok());
        let _ = store.insert(jobs.collect()).await;
    }
}

/// [`Planted::WallClock`].
pub(crate) fn lapsed_by_wall_clock(
    store: &Store,
    servers: &[ServerDocument],
) -> Vec<ServerDocument> {
    let lapsed = servers.iter().filter(|server| {
        server.heartbeat.is_some_and(|beat| {
            let age = store.now().duration_since(beat.updated_at);
            age.unsigned_abs() >= server.lease() && age.is_positive()
        })
    });
    lapsed.cloned().collect()
}
