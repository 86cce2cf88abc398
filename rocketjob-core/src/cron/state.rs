//! What `#[cron]` keeps on a job.

use bson::Bson;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Schedule, ScheduleError};
use crate::field::{FieldDefinition, FieldType, ScalarType};

pub(super) const SCHEDULE: &str = "cron_schedule";
pub(super) const SINGLETON: &str = "cron_singleton";
pub(super) const AFTER_START: &str = "cron_after_start";
pub(super) const SLOT: &str = "cron_slot";

/// What [`Cron`](super::Cron) keeps on a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CronState {
    /// The [`Schedule`]; gone once the next instance has been made.
    pub cron_schedule: Option<String>,
    /// Whether at most one unfinished job of the kind has the same schedule.
    pub cron_singleton: bool,
    /// Whether the next instance is made when this one begins, and not when it has ended.
    pub cron_after_start: bool,
    /// The time of the schedule that this instance is for, whenever it is performed.
    pub cron_slot: Option<Timestamp>,
}

impl Default for CronState {
    fn default() -> Self {
        Self {
            cron_schedule: None,
            cron_singleton: true,
            cron_after_start: true,
            cron_slot: None,
        }
    }
}

impl CronState {
    /// The state of a job with this schedule.
    pub fn scheduled(schedule: impl Into<String>) -> Self {
        Self {
            cron_schedule: Some(schedule.into()),
            ..Self::default()
        }
    }

    /// The schedule, read.
    pub(super) fn schedule(&self) -> Option<Result<Schedule, ScheduleError>> {
        self.cron_schedule.as_deref().map(Schedule::parse)
    }
}

const fn field(
    name: &'static str,
    scalar: ScalarType,
    description: &'static str,
) -> FieldDefinition {
    FieldDefinition {
        name,
        field_type: FieldType::One(scalar),
        via_text: matches!(scalar, ScalarType::Time),
        optional: matches!(scalar, ScalarType::String | ScalarType::Time),
        label: None,
        description: Some(description),
        user_editable: true,
        copy_on_restart: true,
        default: None,
    }
}

pub(super) const FIELDS: &[FieldDefinition] = &[
    field(
        SCHEDULE,
        ScalarType::String,
        "When the job is performed: minute, hour, day of the month, month, weekday and time zone.",
    ),
    FieldDefinition {
        default: Some(|| Bson::Boolean(true)),
        ..field(
            SINGLETON,
            ScalarType::Boolean,
            "Whether at most one unfinished job of the kind has the same schedule.",
        )
    },
    FieldDefinition {
        default: Some(|| Bson::Boolean(true)),
        ..field(
            AFTER_START,
            ScalarType::Boolean,
            "Whether the next instance is made when this one begins, and not when it has ended.",
        )
    },
    FieldDefinition {
        user_editable: false,
        copy_on_restart: false,
        ..field(
            SLOT,
            ScalarType::Time,
            "The time of the schedule that this instance is for.",
        )
    },
];
