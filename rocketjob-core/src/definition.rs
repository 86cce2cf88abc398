//! Definitions: what the derive knows of a kind, as data that servers publish.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    concern::ErasedConcern,
    field::{FieldDefinition, FieldType},
    version::{FIRST_VERSION, UpgradeFn},
};

/// The priority of a job that says nothing else.
pub const DEFAULT_PRIORITY: u8 = 50;

/// How many servers may die with a job that says nothing else before it is failed.
pub const DEFAULT_MAX_LOST_CLAIMS: u32 = 3;

/// What follows when the server dies that performs a job, or loses the job for another reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LostClaim {
    /// The job is performed again, unless it has lost as many servers as its kind allows.
    #[default]
    RunAgain,
    /// A job that may have begun is failed: it is never performed twice without someone's consent.
    Fail,
}

/// From which level on the log lines of one job are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// What helps to find a fault.
    Debug,
    /// What happens.
    Info,
    /// What looks wrong.
    Warn,
    /// What went wrong.
    Error,
    /// What ends the process; the original has it, and we treat it as `error`.
    Fatal,
}

impl LogLevel {
    /// All levels, from the most talkative.
    pub const ALL: [Self; 6] = [
        Self::Trace,
        Self::Debug,
        Self::Info,
        Self::Warn,
        Self::Error,
        Self::Fatal,
    ];

    /// The stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }

    /// The level with this stored name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }
}

/// What is known of a kind of job at compile time. Written by the derive, one per struct.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// The stable name, stored as `_type`.
    pub kind: &'static str,
    /// Earlier names of the kind, whose jobs it still performs.
    pub aliases: &'static [&'static str],
    /// The version of the job's own fields, from 1.
    pub version: u32,
    /// How fields of earlier versions become those of this one.
    pub upgrade: Option<UpgradeFn>,
    /// The full path of the Rust type.
    pub rust_type: &'static str,
    /// What the kind does, for people: the struct's doc comment.
    pub about: Option<&'static str>,
    /// The description that a new job gets.
    pub description: Option<&'static str>,
    /// The priority that a new job gets, 1 (first) to 100 (last).
    pub priority: u8,
    /// Whether a completed job stays in the store.
    pub keep_completed: bool,
    /// How long after its creation a new job expires.
    pub expires_in: Option<Duration>,
    /// The log level that a new job gets.
    pub log_level: Option<LogLevel>,
    /// Whether a running job may be paused.
    pub pausable: bool,
    /// How long `perform` may take before it is told to stop, and its job fails.
    pub timeout: Option<Duration>,
    /// What follows when a job's server dies.
    pub on_lost_claim: LostClaim,
    /// How many servers may die with a job before it is failed.
    pub max_lost_claims: u32,
    /// The job's own fields.
    pub fields: &'static [FieldDefinition],
    /// The concerns, in the order of the attributes.
    pub concerns: &'static [&'static dyn ErasedConcern],
}

impl Definition {
    /// A definition that says nothing but the name; the derive fills in the rest.
    pub const fn new(kind: &'static str, rust_type: &'static str) -> Self {
        Self {
            kind,
            aliases: &[],
            version: FIRST_VERSION,
            upgrade: None,
            rust_type,
            about: None,
            description: None,
            priority: DEFAULT_PRIORITY,
            keep_completed: false,
            expires_in: None,
            log_level: None,
            pausable: false,
            timeout: None,
            on_lost_claim: LostClaim::RunAgain,
            max_lost_claims: DEFAULT_MAX_LOST_CLAIMS,
            fields: &[],
            concerns: &[],
        }
    }

    /// The name and all aliases.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        std::iter::once(self.kind).chain(self.aliases.iter().copied())
    }

    /// The definition as data that tools without the Rust type can use.
    pub fn publish(&self) -> PublishedDefinition {
        let own = self.fields.iter().map(|field| PublishedField {
            name: field.name.into(),
            field_type: field.field_type,
            optional: field.optional || field.default.is_some(),
            label: field.label.map(Into::into),
            description: field.description.map(Into::into),
            user_editable: field.user_editable,
            copy_on_restart: field.copy_on_restart,
            concern: None,
        });
        let of_concerns = self.concerns.iter().flat_map(|concern| {
            concern.fields().iter().map(|field| PublishedField {
                name: field.name.into(),
                field_type: field.field_type,
                optional: true,
                label: field.label.map(Into::into),
                description: field.description.map(Into::into),
                user_editable: field.user_editable,
                copy_on_restart: field.copy_on_restart,
                concern: Some(concern.name().into()),
            })
        });
        PublishedDefinition {
            kind: self.kind.into(),
            aliases: self.aliases.iter().map(|alias| (*alias).into()).collect(),
            version: self.version,
            rust_type: self.rust_type.into(),
            about: self.about.map(Into::into),
            description: self.description.map(Into::into),
            priority: self.priority,
            keep_completed: self.keep_completed,
            expires_in_seconds: self.expires_in.map(|duration| duration.as_secs()),
            log_level: self.log_level,
            pausable: self.pausable,
            timeout_seconds: self.timeout.map(|duration| duration.as_secs()),
            on_lost_claim: self.on_lost_claim,
            max_lost_claims: self.max_lost_claims,
            fields: own.chain(of_concerns).collect(),
            concerns: self
                .concerns
                .iter()
                .map(|concern| concern.name().into())
                .collect(),
        }
    }
}

/// A [`Definition`] as it stands in a server's document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PublishedDefinition {
    /// The stable name.
    pub kind: String,
    /// Earlier names.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The version of the job's own fields.
    #[serde(default = "first_version")]
    pub version: u32,
    /// The Rust type in the server that published it.
    pub rust_type: String,
    /// What the kind does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// The description of a new job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The priority of a new job.
    pub priority: u8,
    /// Whether a completed job stays.
    #[serde(default)]
    pub keep_completed: bool,
    /// Seconds after which a new job expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<u64>,
    /// The log level of a new job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,
    /// Whether a running job may be paused.
    #[serde(default)]
    pub pausable: bool,
    /// Seconds after which `perform` is told to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// What follows when a job's server dies.
    #[serde(default)]
    pub on_lost_claim: LostClaim,
    /// How many servers may die with a job before it is failed.
    #[serde(default = "default_max_lost_claims")]
    pub max_lost_claims: u32,
    /// The fields, the job's own first, then those of its concerns.
    #[serde(default)]
    pub fields: Vec<PublishedField>,
    /// The names of the concerns.
    #[serde(default)]
    pub concerns: Vec<String>,
}

impl PublishedDefinition {
    /// The name and all aliases.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.kind)
            .chain(&self.aliases)
            .map(String::as_str)
    }
}

fn first_version() -> u32 {
    FIRST_VERSION
}

fn default_max_lost_claims() -> u32 {
    DEFAULT_MAX_LOST_CLAIMS
}

/// A field as it stands in a [`PublishedDefinition`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PublishedField {
    /// The stored name.
    pub name: String,
    /// The type in the store.
    pub field_type: FieldType,
    /// Whether a job may lack it.
    #[serde(default)]
    pub optional: bool,
    /// What people read in place of the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What it means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether people may edit it.
    #[serde(default)]
    pub user_editable: bool,
    /// Whether a successor inherits it.
    #[serde(default)]
    pub copy_on_restart: bool,
    /// The concern that it belongs to; absent for the job's own fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concern: Option<String>,
}
