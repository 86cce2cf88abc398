//! Processing windows: a job starts only at certain times of the day, the week or the month.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    clock::later,
    concern::Concern,
    cron::Schedule,
    document::JobDocument,
    error::ValidationFailed,
    field::{FieldDefinition, FieldType, ScalarType},
    limit::Limit,
};

/// How often a job is looked at whose window cannot be told, or never opens again.
const LOOK: Duration = Duration::from_mins(1);

/// `#[processing_window(schedule = "30 8 * * * America/New_York", duration = "10h")]`: a job starts
/// only while the window is open. It opens at each time of the schedule, for the duration.
///
/// Outside of it a job waits with its `run_at` at the next opening: at its creation, after a retry
/// and a resume, and when a worker comes to it too late. One that runs when the window closes goes
/// on. The schedule and the duration stand on each job, where people may edit them.
#[derive(Debug, Clone, Copy)]
pub struct ProcessingWindow {
    schedule: &'static str,
    seconds: u64,
}

/// What a processing window keeps on each job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessingWindowState {
    /// When the window opens, as a cron schedule.
    pub processing_schedule: Option<String>,
    /// For how long, in seconds.
    pub processing_duration: Option<u64>,
}

const FIELDS: &[FieldDefinition] = &[
    field(
        "processing_schedule",
        ScalarType::String,
        "When the job's window opens, as a cron schedule.",
    ),
    field(
        "processing_duration",
        ScalarType::Integer,
        "For how long the job's window is open, in seconds.",
    ),
];

const fn field(
    name: &'static str,
    scalar: ScalarType,
    description: &'static str,
) -> FieldDefinition {
    FieldDefinition {
        name,
        field_type: FieldType::One(scalar),
        via_text: false,
        optional: true,
        label: None,
        description: Some(description),
        user_editable: true,
        copy_on_restart: true,
        default: None,
    }
}

impl ProcessingWindow {
    /// Opens at each time of `schedule` for so many seconds.
    pub const fn new(schedule: &'static str, seconds: u64) -> Self {
        Self { schedule, seconds }
    }
}

impl ProcessingWindowState {
    fn window(&self) -> Result<(Schedule, Duration), (&'static str, String)> {
        let schedule = self.processing_schedule.as_deref().unwrap_or_default();
        if schedule.is_empty() {
            return Err(("processing_schedule", "is required".into()));
        }
        let schedule = Schedule::parse(schedule)
            .map_err(|error| ("processing_schedule", error.to_string()))?;
        let seconds = self.processing_duration.unwrap_or(0);
        if seconds == 0 {
            let problem = "must be at least one second";
            return Err(("processing_duration", problem.into()));
        }
        Ok((schedule, Duration::from_secs(seconds)))
    }
}

/// When a window is open.
enum Opening {
    Now,
    At(Timestamp),
    Never,
}

impl Opening {
    fn of(schedule: &Schedule, duration: Duration, now: Timestamp) -> Self {
        let opened = schedule.previous(now);
        if opened.is_some_and(|opened| later(opened, duration) > now) {
            return Self::Now;
        }
        schedule.next_after(now).map_or(Self::Never, Self::At)
    }
}

impl Concern for ProcessingWindow {
    type State = ProcessingWindowState;

    fn name(&self) -> &'static str {
        "processing_window"
    }

    fn fields(&self) -> &'static [FieldDefinition] {
        FIELDS
    }

    fn initial_state(&self) -> ProcessingWindowState {
        ProcessingWindowState {
            processing_schedule: Some(self.schedule.to_owned()),
            processing_duration: Some(self.seconds),
        }
    }

    fn validate(
        &self,
        _job: &JobDocument,
        state: &ProcessingWindowState,
        problems: &mut ValidationFailed,
    ) {
        if let Err((field, problem)) = state.window() {
            problems.add(field, problem);
        }
    }

    fn not_before(
        &self,
        _job: &JobDocument,
        state: &ProcessingWindowState,
        due: Timestamp,
    ) -> Option<Timestamp> {
        let (schedule, duration) = state.window().ok()?;
        match Opening::of(&schedule, duration, due) {
            Opening::At(time) => Some(time),
            Opening::Now | Opening::Never => None,
        }
    }

    fn limits(
        &self,
        _job: &JobDocument,
        state: &ProcessingWindowState,
        now: Timestamp,
    ) -> Vec<Limit> {
        let limit = match state.window() {
            Ok((schedule, duration)) => match Opening::of(&schedule, duration, now) {
                Opening::Now => None,
                Opening::At(time) => Some(Limit::not_before(time)),
                Opening::Never => {
                    let key = format!("window:{schedule}: never opens again");
                    Some(Limit::closed(key, LOOK))
                }
            },
            // Whoever wrote it past all checks finds it there, with what is wrong.
            Err((field, problem)) => Some(Limit::closed(format!("{field} {problem}"), LOOK)),
        };
        limit.into_iter().collect()
    }
}
