//! A worker: a thread that performs one job after the other, and knows nothing but a queue.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use parking_lot::Mutex;
use rocketjob_core::{Change, JobContext, Outcome, Result, Settlement, Store};
use tokio::{runtime::Handle, sync::mpsc};

use crate::{
    queue::{Assignment, Queue},
    settler::Item,
};

/// What the workers of a server share with it.
#[derive(Debug)]
pub(crate) struct Crew {
    pub(crate) store: Store,
    pub(crate) queue: Queue,
    /// What each worker performs, and since when.
    pub(crate) performing: Vec<Mutex<Option<Performing>>>,
    pub(crate) pace: Pace,
}

/// A job in a worker's hands.
#[derive(Debug, Clone)]
pub(crate) struct Performing {
    pub(crate) context: JobContext,
    pub(crate) since: Instant,
}

impl Crew {
    pub(crate) fn new(store: Store, workers: usize) -> Self {
        Self {
            store,
            queue: Queue::new(workers),
            performing: (0..workers).map(|_| Mutex::new(None)).collect(),
            pace: Pace::default(),
        }
    }

    /// What is being performed now.
    pub(crate) fn performing(&self) -> Vec<Performing> {
        self.performing
            .iter()
            .filter_map(|slot| slot.lock().clone())
            .collect()
    }
}

/// How long a job takes a worker, as a moving average.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    nanoseconds: AtomicU64,
}

impl Pace {
    fn note(&self, since: Instant) {
        let sample = u64::try_from(since.elapsed().as_nanos())
            .unwrap_or(u64::MAX)
            .max(1);
        // Two workers that write at the same time lose one sample: it is an estimate.
        let before = self.nanoseconds.load(Ordering::Relaxed);
        let after = if before == 0 {
            sample
        } else {
            before - before / 8 + sample / 8
        };
        self.nanoseconds.store(after.max(1), Ordering::Relaxed);
    }

    /// Nanoseconds for each job; `None` when nothing is known yet.
    pub(crate) fn get(&self) -> Option<u64> {
        Some(self.nanoseconds.load(Ordering::Relaxed)).filter(|nanoseconds| *nanoseconds > 0)
    }
}

/// Starts the thread of the worker with this number.
pub(crate) fn start(
    crew: Arc<Crew>,
    number: usize,
    name: &str,
    runtime: Handle,
    settler: mpsc::UnboundedSender<Item>,
) -> Result<JoinHandle<()>> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // Job code may use the I/O runtime: `tokio::spawn`, timers, the store's client.
            let _context = runtime.enter();
            while let Some(assignment) = crew.queue.next(number) {
                let since = Instant::now();
                *crew.performing[number].lock() = Some(Performing {
                    context: assignment.context.clone(),
                    since,
                });
                let item = perform(assignment, &crew.store);
                *crew.performing[number].lock() = None;
                crew.pace.note(since);
                if settler.send(item).is_err() {
                    break;
                }
            }
        })
        .map_err(|error| {
            rocketjob_core::Error::configuration(format!(
                "cannot start worker thread `{name}`: {error}"
            ))
        })
}

fn perform(assignment: Assignment, store: &Store) -> Item {
    let Assignment {
        context,
        handler,
        claim,
        ..
    } = assignment;
    let job = context.document();
    if job.is_expired(store.now()) {
        tracing::info!(id = %context.id(), kind = context.kind(), "expired: discarded");
        let settlement = Settlement::new(job, store.now(), Outcome::Expire, true, Change::new());
        let settling = settlement.render(claim);
        return Item { context, settling };
    }
    let span = tracing::info_span!("perform", id = %context.id(), kind = context.kind(), attempt = context.attempt());
    let performed = span.in_scope(|| pollster::block_on(handler.perform(&context)));
    if let Err(error) = &performed.result {
        span.in_scope(|| tracing::warn!(%error, wish = ?error.wish(), "ended with an error"));
    }
    let settling = performed.settle(&context, claim, store.now());
    Item { context, settling }
}

/// Hands a job back that nobody has begun.
pub(crate) fn hand_back(assignment: Assignment, store: &Store) -> Item {
    let Assignment { context, claim, .. } = assignment;
    let settling = Settlement::hand_back(context.document(), claim, store.now());
    Item { context, settling }
}
