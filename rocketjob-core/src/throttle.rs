//! Throttle: at most so many jobs of a kind, of a group, or with one value of a field run at a time.

use bson::Bson;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    concern::Concern,
    document::JobDocument,
    encoding::id_text,
    field::{FieldDefinition, FieldType, ScalarType},
    limit::Limit,
};

/// `#[throttle(running = 25)]`: at most so many jobs run at any moment, across all servers.
///
/// Those of the kind are counted together; with `group = "…"` all of the group, of whatever kinds;
/// with `by = field` those with the same value of the field. A job whose document names a
/// `throttle_group` counts in that group in place of all this.
///
/// A job takes a place as it is claimed, and a unique index sees to it that no two have the same: the
/// number is never exceeded, not even for a moment. Jobs without a place are held, keep their order,
/// and cost nothing. [`set_limit`](crate::set_limit) changes the number for all at once; the field
/// `throttle_running_jobs` does so for one job.
#[derive(Debug, Clone, Copy)]
pub struct Throttle {
    kind: &'static str,
    running: u32,
    group: Option<&'static str>,
    by: Option<&'static str>,
}

/// What a throttle keeps on each job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThrottleState {
    /// How many may run when this job starts, itself included; 0 for any number. The attribute's
    /// number counts where there is none.
    pub throttle_running_jobs: Option<u32>,
}

const FIELDS: &[FieldDefinition] = &[FieldDefinition {
    name: "throttle_running_jobs",
    field_type: FieldType::One(ScalarType::Integer),
    via_text: false,
    optional: true,
    label: None,
    description: Some("How many jobs may run at a time when this one starts; 0 for any number."),
    user_editable: true,
    copy_on_restart: true,
    default: None,
}];

impl Throttle {
    /// At most `running` jobs of `kind` at a time.
    pub const fn new(kind: &'static str, running: u32) -> Self {
        Self {
            kind,
            running,
            group: None,
            by: None,
        }
    }

    /// All jobs of the group are counted together.
    #[must_use]
    pub const fn group(mut self, group: &'static str) -> Self {
        self.group = Some(group);
        self
    }

    /// Jobs of the kind are counted apart for each value of the stored field `by`.
    #[must_use]
    pub const fn by(mut self, by: &'static str) -> Self {
        self.by = Some(by);
        self
    }

    fn key(&self, job: &JobDocument) -> String {
        match (job.throttle_group().or(self.group), self.by) {
            (Some(group), _) => throttle_group_key(group),
            (None, Some(by)) => format!("{}:{}", throttle_key(self.kind), value_of(job, by)),
            (None, None) => throttle_key(self.kind),
        }
    }
}

impl Concern for Throttle {
    type State = ThrottleState;

    fn name(&self) -> &'static str {
        "throttle"
    }

    fn fields(&self) -> &'static [FieldDefinition] {
        FIELDS
    }

    fn limits(&self, job: &JobDocument, state: &ThrottleState, _now: Timestamp) -> Vec<Limit> {
        let running = state.throttle_running_jobs.unwrap_or(self.running);
        let running = if running == 0 { u32::MAX } else { running };
        vec![Limit::running(self.key(job), running)]
    }
}

/// The limit of a throttled kind, for [`set_limit`](crate::set_limit). With `by = field` the value is
/// added behind a colon: `throttle:ReportJob:acme`.
pub fn throttle_key(kind: &str) -> String {
    format!("throttle:{kind}")
}

/// The limit of a group of throttled jobs, for [`set_limit`](crate::set_limit).
pub fn throttle_group_key(group: &str) -> String {
    format!("throttle_group:{group}")
}

/// The value of a stored field as part of a key; nothing where there is none.
pub(crate) fn value_of(job: &JobDocument, field: &str) -> String {
    match job.get(field) {
        None | Some(Bson::Null) => String::new(),
        Some(Bson::String(text)) => text.clone(),
        Some(value) => id_text(value),
    }
}
