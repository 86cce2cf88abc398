//! Dependencies: a job does not start while jobs of other kinds run.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    concern::Concern,
    document::JobDocument,
    error::ValidationFailed,
    field::{FieldDefinition, FieldType, ScalarType},
    limit::Limit,
};

/// `#[depends_on(FirstJob, SecondJob)]`: a job starts only while none of these kinds runs.
///
/// It is decided as the job is claimed: none of these runs then, on any server. One that starts
/// later runs beside it; whoever must not be disturbed by it depends in turn on this kind. Jobs of
/// the other kinds that wait, are paused or have failed are in nobody's way.
///
/// The kinds stand on each job as `dependent_jobs`, where people may edit them.
#[derive(Debug, Clone, Copy)]
pub struct DependsOn {
    kinds: &'static [fn() -> &'static str],
}

/// What a dependency keeps on each job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DependsOnState {
    /// The kinds of which none may run when the job starts.
    pub dependent_jobs: Option<Vec<String>>,
}

const FIELDS: &[FieldDefinition] = &[FieldDefinition {
    name: "dependent_jobs",
    field_type: FieldType::Array(ScalarType::String),
    via_text: false,
    optional: true,
    label: None,
    description: Some("The kinds of which none may run when the job starts."),
    user_editable: true,
    copy_on_restart: true,
    default: None,
}];

impl DependsOn {
    /// Waits for these kinds; functions, since two kinds may wait for each other.
    pub const fn new(kinds: &'static [fn() -> &'static str]) -> Self {
        Self { kinds }
    }

    fn own(&self) -> impl Iterator<Item = &'static str> {
        self.kinds.iter().map(|kind| kind())
    }
}

impl Concern for DependsOn {
    type State = DependsOnState;

    fn name(&self) -> &'static str {
        "depends_on"
    }

    fn fields(&self) -> &'static [FieldDefinition] {
        FIELDS
    }

    fn initial_state(&self) -> DependsOnState {
        DependsOnState {
            dependent_jobs: Some(self.own().map(ToOwned::to_owned).collect()),
        }
    }

    fn validate(&self, job: &JobDocument, state: &DependsOnState, problems: &mut ValidationFailed) {
        if state
            .dependent_jobs
            .iter()
            .flatten()
            .any(|kind| kind == job.kind())
        {
            problems.add(
                "dependent_jobs",
                "cannot have the job's own kind: `#[throttle(running = 1)]` lets one run at a time",
            );
        }
    }

    fn limits(&self, _job: &JobDocument, state: &DependsOnState, _now: Timestamp) -> Vec<Limit> {
        let kinds = state.dependent_jobs.iter().flatten();
        kinds.map(Limit::while_none_runs).collect()
    }

    fn waits_for(&self) -> Vec<&'static str> {
        self.own().collect()
    }
}
