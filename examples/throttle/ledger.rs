//! The ledger: a file in which each job notes when it begins and ends.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
    process,
};

use bson::oid::ObjectId;
use rustix::time::{ClockId, clock_gettime};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) begins: bool,
    pub(crate) key: String,
    pub(crate) job: String,
    pub(crate) process: u32,
    /// Microseconds on the host's monotonic clock, which all processes share.
    pub(crate) at: i64,
}

/// Microseconds on the host's monotonic clock.
pub(crate) fn now() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

/// The file, for those who write it.
#[derive(Debug)]
pub(crate) struct Ledger(File);

impl Ledger {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map(Self)
    }

    /// Adds a line, with one write. The kernel may cut that of a process that is killed: the line
    /// break stands in front, so that such a rest spoils no line but its own.
    pub(crate) fn note(&self, begins: bool, key: &str, job: ObjectId) -> io::Result<()> {
        let what = if begins { "begins" } else { "ends" };
        let (process, at) = (process::id(), now());
        let line = format!("\n{what} {key} {job} {process} {at} .");
        (&self.0).write_all(line.as_bytes())
    }
}

/// The whole lines, by time.
pub(crate) fn read(path: &Path) -> io::Result<Vec<Entry>> {
    let text = fs::read(path)?;
    let text = String::from_utf8_lossy(&text);
    let mut entries: Vec<_> = text.lines().filter_map(parse).collect();
    entries.sort_by_key(|entry| entry.at);
    Ok(entries)
}

fn parse(line: &str) -> Option<Entry> {
    let parts: Vec<_> = line.split(' ').collect();
    let [what, key, job, process, at, "."] = parts[..] else {
        return None;
    };
    Some(Entry {
        begins: what == "begins",
        key: key.into(),
        job: job.into(),
        process: process.parse().ok()?,
        at: at.parse().ok()?,
    })
}
