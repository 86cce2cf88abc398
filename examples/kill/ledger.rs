//! The ledger: a file in which each job notes that it begins and how it ends. Nothing that happens to
//! a server process can take back what it has noted.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
};

/// What a job notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// `perform` begins.
    Begun,
    /// `perform` returns that the job is done.
    Done,
    /// `perform` returns an error, and wants to be called again.
    Again,
    /// `perform` was told to stop, and returns.
    Stopped,
}

impl Event {
    const ALL: [Self; 4] = [Self::Begun, Self::Done, Self::Again, Self::Stopped];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Done => "done",
            Self::Again => "again",
            Self::Stopped => "stopped",
        }
    }
}

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) event: Event,
    pub(crate) number: i64,
    /// The id of the job's document.
    pub(crate) job: String,
    pub(crate) attempt: u64,
    /// How many outcomes of the job the store had accepted when the job was claimed.
    pub(crate) accepted: i64,
    /// The token of the claim under which the job is performed.
    pub(crate) claim: String,
    pub(crate) process: u32,
    /// The thread that performs it; the worker in the claim may be another one.
    pub(crate) thread: String,
    /// Microseconds on the host's monotonic clock, which all processes share.
    pub(crate) at: i64,
}

/// How a whole line ends.
const END: &str = ".";

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

    /// Adds a line, with one write: those of several processes do not mix.
    ///
    /// The kernel may cut the last write of a process that is killed. The line break stands in front,
    /// so that such a rest spoils no line but its own.
    pub(crate) fn note(&self, entry: &Entry) -> io::Result<()> {
        let Entry {
            event,
            number,
            job,
            attempt,
            accepted,
            claim,
            process,
            thread,
            at,
        } = entry;
        let event = event.as_str();
        let thread = thread.replace(char::is_whitespace, "_");
        let line = format!(
            "\n{event} {number} {job} {attempt} {accepted} {claim} {process} {thread} {at} {END}"
        );
        (&self.0).write_all(line.as_bytes())
    }
}

/// The lines of the ledger in their order, and how many were cut.
pub(crate) fn read(path: &Path) -> io::Result<(Vec<Entry>, usize)> {
    let text = fs::read(path)?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
    let entries: Vec<_> = lines.iter().filter_map(|line| parse(line)).collect();
    let cut = lines.len() - entries.len();
    Ok((entries, cut))
}

fn parse(line: &str) -> Option<Entry> {
    let parts: Vec<_> = line.split(' ').collect();
    let [
        event,
        number,
        job,
        attempt,
        accepted,
        claim,
        process,
        thread,
        at,
        END,
    ] = parts[..]
    else {
        return None;
    };
    Some(Entry {
        event: Event::ALL
            .into_iter()
            .find(|known| known.as_str() == event)?,
        number: number.parse().ok()?,
        job: job.into(),
        attempt: attempt.parse().ok()?,
        accepted: accepted.parse().ok()?,
        claim: claim.into(),
        process: process.parse().ok()?,
        thread: thread.into(),
        at: at.parse().ok()?,
    })
}
