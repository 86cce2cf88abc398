//! Reading what a server counts, from anywhere in its process.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use crate::{
    crew::Crew,
    dispatcher::Claims,
    server::{Figures, figures},
    settler::Counts,
    standing::Mode,
    tally::{BOUNDS, KindTally, Times},
};

/// Reads what a server has counted so far, also while it runs somewhere else: for metrics. Cloning
/// it costs nothing, and so does reading, which makes no request.
#[derive(Debug, Clone)]
pub struct Meter {
    pub(crate) crew: Arc<Crew>,
    pub(crate) claims: Arc<Claims>,
    pub(crate) counts: Arc<Counts>,
}

impl Meter {
    /// What the server has counted until now.
    pub fn read(&self) -> Reading {
        let (workers, busy) = self.crew.occupation();
        Reading {
            server: self.crew.post.now().name,
            workers,
            busy,
            stuck: self.crew.stuck(),
            claimed: self.crew.held(),
            figures: figures(&self.claims, &self.counts),
            lost: self.crew.tally.lost(),
            kinds: self.crew.tally.kinds().into_iter().map(kind).collect(),
        }
    }

    /// Whether the server takes work: it is neither paused nor stopping, and its signs of life get
    /// through. For probes.
    pub fn is_claiming(&self) -> bool {
        self.crew.post.mode() == Mode::Working
    }
}

/// What a server has counted since it started.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Reading {
    /// Its name.
    pub server: String,
    /// How many workers it has.
    pub workers: usize,
    /// How many of them perform a job.
    pub busy: usize,
    /// How many threads were given up, since their jobs do not end.
    pub stuck: usize,
    /// How many jobs it holds: those that are performed, read ahead, or being settled.
    pub claimed: usize,
    /// Its claims and outcomes, all kinds together.
    pub figures: Figures,
    /// Claims of servers that this one has declared dead, by kind, whether it performs it or not.
    pub lost: BTreeMap<String, u64>,
    /// What it has counted of each kind that it performs, by name.
    pub kinds: Vec<KindReading>,
}

/// What a server has counted of one kind. Outcomes count when the store has accepted them.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct KindReading {
    /// The kind; jobs under an alias count as its own.
    pub kind: String,
    /// How often a worker began `perform`.
    pub started: u64,
    /// Jobs that completed.
    pub completed: u64,
    /// Jobs that failed.
    pub failed: u64,
    /// Jobs that are to be tried again since `perform` failed.
    pub retried: u64,
    /// Jobs that were given up: discarded by themselves, or expired.
    pub aborted: u64,
    /// Claims that were handed back without using up an attempt.
    pub handed_back: u64,
    /// Outcomes that were refused since the claim was lost.
    pub refused: u64,
    /// How long `perform` took, with all that belongs to it.
    pub perform: HistogramReading,
    /// How long jobs waited from when they could be taken until `perform` began, on the store's
    /// clock. First attempts only: of others it is not known since when they could.
    pub pickup: HistogramReading,
}

/// Times by classes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HistogramReading {
    /// How many are in each class, with its upper bound in seconds; the last has none, which is
    /// infinity.
    pub classes: Vec<(f64, u64)>,
    /// All times together.
    pub sum: Duration,
}

impl HistogramReading {
    fn of(times: &Times) -> Self {
        let (counts, sum) = times.read();
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        Self {
            classes: bounds.zip(counts).collect(),
            sum,
        }
    }

    /// How many times there are.
    pub fn count(&self) -> u64 {
        self.classes.iter().map(|(_, count)| count).sum()
    }
}

fn kind((kind, tally): (&'static str, &KindTally)) -> KindReading {
    KindReading {
        kind: kind.to_owned(),
        started: tally.started.load(Ordering::Relaxed),
        completed: tally.completed.load(Ordering::Relaxed),
        failed: tally.failed.load(Ordering::Relaxed),
        retried: tally.retried.load(Ordering::Relaxed),
        aborted: tally.aborted.load(Ordering::Relaxed),
        handed_back: tally.handed_back.load(Ordering::Relaxed),
        refused: tally.refused.load(Ordering::Relaxed),
        perform: HistogramReading::of(&tally.perform),
        pickup: HistogramReading::of(&tally.pickup),
    }
}
