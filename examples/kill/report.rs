//! What a run came to.

use std::fmt;

use serde::Serialize;

/// How many violations are listed.
const LISTED: usize = 20;

/// What a run came to.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) store: &'static str,
    pub(crate) mix: bool,
    pub(crate) seed: u64,
    pub(crate) servers: usize,
    pub(crate) workers: usize,
    pub(crate) rounds: usize,
    pub(crate) jobs: i64,
    pub(crate) kills: usize,
    pub(crate) pauses: usize,
    pub(crate) store_kills: usize,
    pub(crate) begins: usize,
    pub(crate) repeated_begins: usize,
    pub(crate) cut_lines: usize,
    pub(crate) reincarnations: usize,
    /// Of the servers that lived at the end; the killed ones took theirs with them.
    pub(crate) refused_outcomes: usize,
    pub(crate) seconds: f64,
    pub(crate) jobs_per_second: f64,
    pub(crate) violations: Vec<String>,
    /// Where ledger, logs and documents can be looked at; only after a run with violations.
    pub(crate) folder: Option<String>,
}

impl Report {
    pub(crate) fn all_holds(&self) -> bool {
        self.violations.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("jobs", self.jobs.to_string()),
            ("rounds", self.rounds.to_string()),
            ("servers killed", self.kills.to_string()),
            ("servers paused beyond their lease", self.pauses.to_string()),
            ("store killed", self.store_kills.to_string()),
            ("jobs begun", self.begins.to_string()),
            (
                "of these in place of one that was lost",
                self.repeated_begins.to_string(),
            ),
            (
                "processes that came back by themselves",
                self.reincarnations.to_string(),
            ),
            (
                "outcomes refused (as far as known)",
                self.refused_outcomes.to_string(),
            ),
            ("seconds", format!("{:.1}", self.seconds)),
            ("jobs per second", format!("{:.0}", self.jobs_per_second)),
        ];
        writeln!(
            f,
            "{} servers of {} workers on {}, seed {}",
            self.servers, self.workers, self.store, self.seed
        )?;
        for (what, figure) in rows {
            writeln!(f, "  {what:<44}{figure:>12}")?;
        }
        if self.all_holds() {
            return f.write_str(if self.mix {
                "every job ended as planned, and what its concerns promise was kept"
            } else {
                "every job completed, and was accepted exactly once"
            });
        }
        writeln!(f, "{} VIOLATIONS", self.violations.len())?;
        for violation in self.violations.iter().take(LISTED) {
            writeln!(f, "  {violation}")?;
        }
        if self.violations.len() > LISTED {
            writeln!(f, "  … and {} more", self.violations.len() - LISTED)?;
        }
        write!(
            f,
            "look into {}",
            self.folder.as_deref().unwrap_or("nothing: it is gone")
        )
    }
}
