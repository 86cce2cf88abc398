//! What a store tells of itself, and what there is to say about it.

use std::fmt::{self, Display, Formatter};

use jiff::SignedDuration;
use serde::Serialize;

/// What a store is and whether it is fit for work.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// What keeps the jobs, with its version, such as `MongoDB 6.0.5`.
    pub product: String,
    /// How it is laid out, such as `replica set rs0 of 3 members`.
    pub topology: String,
    /// When a write counts as made, such as `acknowledged by a majority, with journal`.
    pub durability: String,
    /// The store's clock minus that of this machine.
    pub clock_offset: SignedDuration,
    /// What does not fit; nothing in a store that is fit for work.
    pub findings: Vec<Finding>,
}

impl Inspection {
    /// The findings as text, each with what to do about it.
    pub fn problems(&self) -> Vec<String> {
        self.findings.iter().map(ToString::to_string).collect()
    }
}

/// Something that is not as it should be, and what to do about it. As text it is both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was looked at.
    pub subject: Subject,
    /// What was found.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Finding {
    /// A finding.
    pub fn new(
        severity: Severity,
        subject: Subject,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            subject,
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

impl Display for Finding {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.remedy)
    }
}

/// How bad a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// It works, and will not for long or in all cases.
    Warning,
    /// Jobs are not performed, or not as they should be.
    Error,
}

impl Severity {
    /// The name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl Display for Severity {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a [`Finding`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Subject {
    /// Whether the store can be reached.
    Connection,
    /// The product and its version.
    Version,
    /// How the store is laid out.
    Topology,
    /// When a write counts.
    WriteConcern,
    /// The clocks.
    Clock,
    /// Indexes, tables and collections.
    Index,
    /// Kinds of jobs and who performs them.
    Kind,
    /// Documents that cannot be read.
    Document,
    /// Servers.
    Server,
    /// Jobs that wait for something.
    Hold,
    /// Claims whose server is gone.
    Claim,
}
