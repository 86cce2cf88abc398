//! The jobs that are measured, and what they tell of themselves.

use std::{cell::Cell, sync::Arc, thread, time::Duration};

use parking_lot::{Condvar, Mutex};
use rocketjob::prelude::*;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;

use crate::fleet::Told;

/// How long a waiting job takes.
pub(crate) const WAIT: Duration = Duration::from_millis(20);

/// Does nothing, with as many fields as the jobs of other systems had that were measured.
#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(kind = "PerfJob")]
pub(crate) struct PerfJob {
    pub(crate) number: i64,
    pub(crate) text: String,
}

impl PerfJob {
    /// So many jobs.
    pub(crate) fn some(count: usize) -> impl Iterator<Item = Self> {
        let text = "x".repeat(100);
        (0..count).map(move |number| Self {
            number: i64::try_from(number).unwrap_or(i64::MAX),
            text: text.clone(),
        })
    }
}

impl Perform for PerfJob {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

/// Waits, as for an answer from elsewhere, and notes how long its thread had nothing to do before.
#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(kind = "PerfWaitJob")]
pub(crate) struct WaitJob {}

thread_local! {
    /// When this thread ended its last job.
    static ENDED: Cell<Option<i64>> = const { Cell::new(None) };
}

impl Perform for WaitJob {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        if let Some(ended) = ENDED.get() {
            job.shared::<Arc<Notes>>()?.idle(now() - ended);
        }
        thread::sleep(WAIT);
        ENDED.set(Some(now()));
        Ok(())
    }
}

/// Tells when it begins.
#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(kind = "PerfNotedJob")]
pub(crate) struct NotedJob {
    pub(crate) number: u64,
}

impl Perform for NotedJob {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        job.shared::<Arc<Notes>>()?.began(self.number);
        Ok(())
    }
}

/// Tells that it begins, and takes until its process is told to let it go.
#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(kind = "PerfLongJob", priority = 1)]
pub(crate) struct LongJob {
    pub(crate) number: u64,
}

impl Perform for LongJob {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        let notes = job.shared::<Arc<Notes>>()?;
        notes.began(self.number);
        notes.wait();
        Ok(())
    }
}

/// Microseconds on the monotonic clock that all processes of a machine share.
pub(crate) fn now() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}

/// Where the jobs of a process note what is to be known of them.
#[derive(Debug)]
pub(crate) struct Notes {
    store: Store,
    told: UnboundedSender<Told>,
    idle: Mutex<Vec<i64>>,
    may_end: Mutex<bool>,
    let_go: Condvar,
}

impl Notes {
    pub(crate) fn new(store: &Store, told: UnboundedSender<Told>) -> Self {
        Self {
            store: store.clone(),
            told,
            idle: Mutex::default(),
            may_end: Mutex::default(),
            let_go: Condvar::new(),
        }
    }

    /// For how many microseconds each thread had nothing to do between two jobs.
    pub(crate) fn idle_times(&self) -> Vec<i64> {
        self.idle.lock().clone()
    }

    /// Lets the long jobs end.
    pub(crate) fn let_go(&self) {
        *self.may_end.lock() = true;
        self.let_go.notify_all();
    }

    fn idle(&self, time: i64) {
        self.idle.lock().push(time);
    }

    fn began(&self, number: u64) {
        // The clock first: what follows takes time.
        let at = now();
        let store_time = self.store.now().as_millisecond();
        // Who no longer listens need not know.
        let _ = self.told.send(Told::Began {
            number,
            at,
            store_time,
        });
    }

    fn wait(&self) {
        let mut may_end = self.may_end.lock();
        self.let_go.wait_while(&mut may_end, |may_end| !*may_end);
    }
}
