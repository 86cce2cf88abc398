//! What jobs of the mix note in the ledger: as `ledger.rs`, with what their concerns go by.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::mix::plan::Kind;

/// What is noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// `perform` begins.
    Begun,
    /// `perform` returns that the job is done.
    Done,
    /// `perform` returns an error.
    Again,
    /// `perform` was told to stop, and returns.
    Stopped,
}

/// One line of the ledger.
///
/// Times are microseconds on the host's monotonic clock, which all processes share. The time of a
/// beginning and of an end is taken *before* a look at the context that lets it pass, and is noted
/// only then: so at this time the claim was in force, and with it all that the job held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) event: Event,
    pub(crate) kind: Kind,
    pub(crate) number: i64,
    pub(crate) key: i64,
    /// Which instance of its chain it is.
    pub(crate) link: i64,
    /// The second of the schedule that it is for.
    pub(crate) slot: Option<i64>,
    /// The id of the job's document.
    pub(crate) job: String,
    pub(crate) attempt: u64,
    /// How many outcomes of the job the store had accepted when it was claimed.
    pub(crate) accepted: usize,
    /// The token of the claim under which it is performed.
    pub(crate) claim: String,
    pub(crate) process: u32,
    pub(crate) at: i64,
    /// When its claim was begun.
    pub(crate) claimed: i64,
    /// The same on the store's clock, in milliseconds.
    pub(crate) started_at: i64,
    /// When it was last asked for its limits on this thread, where it has a rate.
    pub(crate) looked: i64,
}

/// The file, for those who write it.
#[derive(Debug)]
pub(crate) struct Notes(File);

impl Notes {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self(file))
    }

    /// Adds a line with one write; the line break stands in front, so that a rest that was cut
    /// spoils no line but its own.
    pub(crate) fn note(&self, note: &Note) -> io::Result<()> {
        let line = format!("\n{}", serde_json::to_string(note)?);
        (&self.0).write_all(line.as_bytes())
    }
}

/// The lines of the ledger in their order, and how many were cut.
pub(crate) fn read(path: &Path) -> io::Result<(Vec<Note>, usize)> {
    let text = fs::read(path)?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
    let notes = lines.iter().map(|line| serde_json::from_str(line).ok());
    let notes: Vec<Note> = notes.flatten().collect();
    let cut = lines.len() - notes.len();
    Ok((notes, cut))
}
