//! A job's next instance: a new job of the kind with the fields that are copied on restart.

use bson::{Bson, Document, doc, oid::ObjectId};
use jiff::Timestamp;

use crate::{
    clock::later,
    concern::Concern,
    conclusion::Conclusion,
    definition::Definition,
    document::JobDocument,
    encoding::{date, integer, timestamp},
    error::Result,
    field::{FieldDefinition, FieldType, ScalarType},
    name,
    new_job::completed_document,
    state::{State, Transition},
    version::{FIRST_VERSION, is_other, upgraded, version_of},
};

/// The fields of the envelope that the next instance inherits.
const INHERITED: [&str; 6] = [
    name::DESCRIPTION,
    name::PRIORITY,
    name::DESTROY_ON_COMPLETE,
    name::EXPIRES_AT,
    name::LOG_LEVEL,
    name::THROTTLE_GROUP,
];

/// The next instance of the job that stands as `document` at the store's time `now`, with
/// `overrides` in place of what it would have; `None` when the time of the job's chain is over.
pub(crate) fn next_instance(
    definition: &Definition,
    document: &Document,
    id: ObjectId,
    now: Timestamp,
    overrides: &Document,
) -> Result<Option<JobDocument>> {
    let upgraded = is_other(definition, document).then(|| upgraded(definition, document));
    let document = upgraded.as_ref().unwrap_or(document);
    let mut next = doc! {
        name::ID: id,
        name::KIND: definition.kind,
        name::STATE: State::Queued.as_str(),
        name::FAILURE_COUNT: 0,
        name::PERCENT_COMPLETE: 0,
        name::CREATED_AT: date(now),
    };
    for concern in definition.concerns {
        next.extend(concern.initial_state()?);
    }
    let of_concerns = definition
        .concerns
        .iter()
        .flat_map(|concern| concern.fields());
    let copied = definition.fields.iter().chain(of_concerns);
    let copied = copied.filter(|field| field.copy_on_restart);
    for field in INHERITED.into_iter().chain(copied.map(|field| field.name)) {
        next.insert(field, document.get(field).cloned().unwrap_or(Bson::Null));
    }
    let version = version_of(document);
    if version > FIRST_VERSION {
        next.insert(name::PAYLOAD_VERSION, integer(version.into()));
    }
    next.extend(overrides.clone());
    let starts_at = time(&next, name::RUN_AT).unwrap_or(now);
    if let Some(expires_in) = definition.expires_in {
        // Each instance has the time that its kind gives it.
        next.insert(name::EXPIRES_AT, date(later(starts_at, expires_in)));
    } else if time(&next, name::EXPIRES_AT).is_some_and(|end| end <= starts_at) {
        return Ok(None);
    }
    completed_document(definition, next, now).map(Some)
}

fn time(document: &Document, field: &str) -> Option<Timestamp> {
    document
        .get_datetime(field)
        .ok()
        .copied()
        .and_then(timestamp)
}

/// `#[restart]`: when an instance completes, fails or is aborted, the next one is created.
///
/// The next instance inherits the fields that are marked `copy_on_restart`, as they stand at the
/// end, and what the job's description, priority, expiry, log level, throttle group and
/// `keep_completed` were. It is a successor: it exists exactly once, whatever server dies. A failed
/// instance has its successor: when it is retried it makes no second one. The chain ends when the job
/// has expired, or is deleted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Restart;

/// What [`Restart`] keeps on a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct RestartState {
    /// Whether the next instance has been made.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub restarted: bool,
}

const FIELDS: &[FieldDefinition] = &[FieldDefinition {
    name: "restarted",
    field_type: FieldType::One(ScalarType::Boolean),
    via_text: false,
    optional: true,
    label: None,
    description: Some("Whether the next instance has been made."),
    user_editable: false,
    copy_on_restart: false,
    default: Some(|| Bson::Boolean(false)),
}];

impl Concern for Restart {
    type State = RestartState;

    fn name(&self) -> &'static str {
        "restart"
    }

    fn fields(&self) -> &'static [FieldDefinition] {
        FIELDS
    }

    fn conclude(&self, conclusion: &mut Conclusion<'_>, state: &mut RestartState) -> Result<()> {
        let ends = matches!(
            conclusion.transition(),
            Transition::Complete | Transition::Fail | Transition::Abort
        );
        if !ends || state.restarted {
            return Ok(());
        }
        state.restarted = true;
        if let Some(next) = conclusion.restarted(&Document::new())? {
            conclusion.add_successor(next);
        } else {
            let job = conclusion.job();
            tracing::info!(id = %job.id(), kind = job.kind(), "expired: there is no next instance");
        }
        Ok(())
    }
}
