//! Jobs that do harm, each as it is asked to.

use std::{
    fs::{File, OpenOptions},
    hint::black_box,
    io::{self, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};

/// Does harm to the process that performs it.
#[derive(RocketJob, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[rocketjob(kind = "HazardJob", keep_completed)]
pub(crate) struct HazardJob {
    pub(crate) harm: Harm,
    /// For how long, where that means something.
    pub(crate) milliseconds: u64,
    /// The process whose outcome was accepted.
    pub(crate) by: Option<i64>,
}

/// What the job does.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    /// None: it works in short steps, and stops between two of them when it is told to.
    Nothing,
    /// Aborts the process.
    Abort,
    /// Calls itself until the stack is full.
    Overflow,
    /// Ends the process from within.
    Exit,
    /// Panics.
    Panic,
    /// Blocks its thread, whatever it is told.
    Ignore,
    /// Waits for the gate. When it is told to stop it says that it is done all the same.
    Defy,
}

/// The ledger that the jobs write, and the gate for which some of them wait.
#[derive(Debug)]
pub(crate) struct Surroundings {
    ledger: File,
    gate: PathBuf,
}

impl Surroundings {
    pub(crate) fn new(ledger: &Path, gate: &Path) -> io::Result<Self> {
        Ok(Self {
            ledger: OpenOptions::new().create(true).append(true).open(ledger)?,
            gate: gate.into(),
        })
    }
}

/// Adds a line to the ledger, with one write: what happened, the job, the process, and when on the
/// store's clock.
fn note(job: &JobContext, event: &str) -> JobResult {
    let at = job.store().map_or(0, |store| store.now().as_millisecond());
    let line = format!("{event} {} {} {at}\n", job.id(), std::process::id());
    let surroundings = job.shared::<Surroundings>()?;
    (&surroundings.ledger).write_all(line.as_bytes())?;
    Ok(())
}

/// Blocks its thread for ever, and is given up.
#[derive(RocketJob, Serialize, Deserialize, Debug, Clone)]
#[rocketjob(kind = "EndlessJob", keep_completed, timeout = "1s")]
pub(crate) struct EndlessJob {}

impl Perform for EndlessJob {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        note(job, "begun")?;
        loop {
            thread::park();
        }
    }
}

impl Perform for HazardJob {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        note(job, "begun")?;
        self.by = Some(i64::from(std::process::id()));
        match self.harm {
            Harm::Nothing => work(job, self.milliseconds)?,
            Harm::Abort => std::process::abort(),
            Harm::Overflow => drop(overflow(self.milliseconds)),
            Harm::Exit => std::process::exit(3),
            Harm::Panic => panic!("as asked for"),
            Harm::Ignore => thread::sleep(Duration::from_millis(self.milliseconds)),
            Harm::Defy => defy(job)?,
        }
        note(job, "done")
    }
}

fn work(job: &JobContext, milliseconds: u64) -> JobResult {
    for _ in 0..milliseconds {
        thread::sleep(Duration::from_millis(1));
        job.check()?;
    }
    Ok(())
}

fn defy(job: &JobContext) -> JobResult {
    let surroundings = job.shared::<Surroundings>()?;
    while !surroundings.gate.exists() {
        thread::sleep(Duration::from_millis(10));
        if job.is_cancelled() {
            return note(job, "told");
        }
    }
    Ok(())
}

/// Each call keeps a kilobyte.
fn overflow(depth: u64) -> u64 {
    let kept = black_box([depth; 128]);
    // Nobody has a stack of so many kilobytes.
    if depth == u64::MAX {
        return 0;
    }
    overflow(depth + 1) + kept[usize::try_from(depth % 128).unwrap_or(0)]
}
