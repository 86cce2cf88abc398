//! What a server counts while it works: plain atomics, by kind.
//!
//! The hot path adds to a few of them and takes no lock. Who wants them reads them all with a
//! [`Meter`](crate::Meter).

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use rocketjob_core::{Definition, JobDocument, Registry, Transition};

/// The upper bounds of the classes of times, in seconds; what is longer than the last has a class
/// of its own.
pub(crate) const BOUNDS: [f64; 16] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
];

/// The counters of all kinds of a server.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    kinds: HashMap<&'static str, KindTally>,
    /// Claims of servers that this one has declared dead, by kind: also of kinds that it does not
    /// perform.
    lost: Mutex<BTreeMap<String, u64>>,
}

/// The counters of one kind.
#[derive(Debug, Default)]
pub(crate) struct KindTally {
    pub(crate) started: AtomicU64,
    pub(crate) completed: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) aborted: AtomicU64,
    pub(crate) handed_back: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) perform: Times,
    pub(crate) pickup: Times,
}

impl Tally {
    pub(crate) fn new(registry: &Registry) -> Self {
        let kinds = registry.kinds();
        let definitions = kinds.iter().filter_map(|kind| registry.definition(kind));
        let kinds: HashMap<_, _> = definitions
            .map(|known| (known.kind, KindTally::default()))
            .collect();
        let lost = kinds.keys().map(|kind| ((*kind).to_owned(), 0)).collect();
        Self {
            kinds,
            lost: Mutex::new(lost),
        }
    }

    /// The counters of a kind; `None` for one that the server does not perform.
    pub(crate) fn of(&self, definition: &Definition) -> Option<&KindTally> {
        self.kinds.get(definition.kind)
    }

    /// These jobs were held by a server that was declared dead.
    pub(crate) fn lose(&self, kinds: impl IntoIterator<Item = String>) {
        let mut lost = self.lost.lock();
        for kind in kinds {
            *lost.entry(kind).or_default() += 1;
        }
    }

    pub(crate) fn lost(&self) -> BTreeMap<String, u64> {
        self.lost.lock().clone()
    }

    /// All kinds by name.
    pub(crate) fn kinds(&self) -> Vec<(&'static str, &KindTally)> {
        let mut kinds: Vec<_> = self
            .kinds
            .iter()
            .map(|(kind, tally)| (*kind, tally))
            .collect();
        kinds.sort_unstable_by_key(|(kind, _)| *kind);
        kinds
    }
}

impl KindTally {
    /// A worker begins `job` at the store's time `now`.
    pub(crate) fn begin(&self, job: &JobDocument, now: jiff::Timestamp) {
        add(&self.started);
        // Of a job that was tried before it is not known since when it could be taken.
        if job.failure_count() > 0 || job.lost_claims() > 0 {
            return;
        }
        if let Some(since) = job.run_at().max(job.created_at()) {
            let waited = Duration::try_from(now.duration_since(since));
            self.pickup.note(waited.unwrap_or_default());
        }
    }

    /// An outcome was accepted.
    pub(crate) fn settled(&self, transition: Transition) {
        add(match transition {
            Transition::Complete => &self.completed,
            Transition::Fail => &self.failed,
            Transition::Retry => &self.retried,
            Transition::Abort => &self.aborted,
            _ => &self.handed_back,
        });
    }
}

pub(crate) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// How long something took, by classes.
#[derive(Debug, Default)]
pub(crate) struct Times {
    classes: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Times {
    pub(crate) fn note(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let class = BOUNDS.partition_point(|bound| *bound < seconds);
        if let Some(class) = self.classes.get(class) {
            add(class);
        }
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// How many are in each class, and all together.
    pub(crate) fn read(&self) -> (Vec<u64>, Duration) {
        let classes = self.classes.iter();
        let counts = classes.map(|class| class.load(Ordering::Relaxed)).collect();
        let sum = self.nanoseconds.load(Ordering::Relaxed);
        (counts, Duration::from_nanos(sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_counts_in_the_class_whose_bound_it_does_not_pass() {
        let times = Times::default();
        for milliseconds in [0, 1, 2, 1_000, 1_001, 10_000_000] {
            times.note(Duration::from_millis(milliseconds));
        }
        let (counts, sum) = times.read();
        let filled: Vec<_> = (0..counts.len())
            .filter(|class| counts[*class] > 0)
            .collect();
        assert_eq!(filled, [0, 1, 8, 9, 16]);
        assert_eq!((counts[0], counts.iter().sum::<u64>()), (2, 6));
        assert_eq!(sum, Duration::from_millis(10_002_004));
    }
}
