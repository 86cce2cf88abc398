//! Changing fields of jobs by their names: what people may edit on a job that waits.

use bson::{Bson, oid::ObjectId};
use jiff::Timestamp;

use crate::{
    change::{Change, Guard, Patch},
    conclusion::Saving,
    definition::Definition,
    document::JobDocument,
    error::{Error, Result, ValidationFailed},
    field::{FieldType, ScalarType},
    handle::{due_of, hold_of, written},
    kinds::Kinds,
    name,
    new_job::validate_envelope,
    plain_value::{date_of, typed},
    state::State,
    store::Store,
    transition,
    unique::{may_depend_on_fields, move_unique},
    version::{upgrade_stored, version_of},
};

/// The states of jobs that may be edited: nobody performs them, and they are not over.
pub const EDITABLE: [State; 3] = [State::Failed, State::Paused, State::Queued];

/// Fields and their new values, as they were typed: `null` takes a value away, times may be relative
/// as in conditions, lists and objects are JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits(Vec<(String, String)>);

impl Edits {
    /// Nothing is changed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `field` becomes what `text` stands for.
    #[must_use]
    pub fn set(mut self, field: impl Into<String>, text: impl Into<String>) -> Self {
        self.0.push((field.into(), text.into()));
        self
    }

    /// What is written to a job of `kind`, at the time `now`.
    fn change(&self, kinds: &Kinds, kind: &str, now: Timestamp) -> Result<Change> {
        let mut change = Change::new();
        let mut problems = ValidationFailed::new();
        for (field, text) in &self.0 {
            let value = match field_type(kinds, kind, field) {
                Ok((stored, of)) => typed(of, text, now).map(|value| (stored, value)),
                Err(problem) => Err(problem),
            };
            match value {
                Ok((stored, value)) => change.put(stored, value),
                Err(problem) => problems.add(field, problem),
            }
        }
        problems.into_result()?;
        if change.set.get(name::PRIORITY) == Some(&Bson::Null) {
            let mut problems = ValidationFailed::new();
            problems.add(name::PRIORITY, "must lie between 1 and 100");
            problems.into_result()?;
        }
        if let Some(Bson::Boolean(keep)) = change.set.remove(KEEP_COMPLETED) {
            change.put(name::DESTROY_ON_COMPLETE, !keep);
        }
        Ok(change)
    }
}

/// What people call the opposite of [`name::DESTROY_ON_COMPLETE`].
const KEEP_COMPLETED: &str = "keep_completed";

/// The stored name and the type of a field that may be edited.
fn field_type<'f>(
    kinds: &Kinds,
    kind: &str,
    field: &'f str,
) -> Result<(&'f str, FieldType), String> {
    let scalar = match field {
        name::PRIORITY => ScalarType::Integer,
        name::DESCRIPTION | name::LOG_LEVEL | name::THROTTLE_GROUP => ScalarType::String,
        name::RUN_AT | name::EXPIRES_AT => ScalarType::Time,
        name::DESTROY_ON_COMPLETE | KEEP_COMPLETED => ScalarType::Boolean,
        _ => {
            let definition = kinds.published(kind).ok_or_else(|| {
                format!("cannot be edited: kind `{kind}` is not known to any server")
            })?;
            let known = definition.fields.iter().find(|known| known.name == field);
            return match known {
                Some(known) if known.user_editable => Ok((field, known.field_type)),
                Some(_) => Err("may not be edited: its kind does not allow it".into()),
                None => Err(format!("is not known: {}", editable(kinds, kind))),
            };
        }
    };
    Ok((field, FieldType::One(scalar)))
}

fn editable(kinds: &Kinds, kind: &str) -> String {
    let mut names = vec![
        name::PRIORITY,
        name::DESCRIPTION,
        name::RUN_AT,
        name::EXPIRES_AT,
        name::LOG_LEVEL,
        KEEP_COMPLETED,
    ];
    let own = kinds.published(kind).into_iter();
    let own = own.flat_map(|definition| &definition.fields);
    names.extend(
        own.filter(|field| field.user_editable)
            .map(|field| field.name.as_str()),
    );
    format!("of `{kind}` may be edited `{}`", names.join("`, `"))
}

/// Changes fields of a job that waits, is paused or has failed, and returns the job after it. Of one
/// whose envelope cannot be read, the fields of the envelope can be set right.
///
/// # Errors
/// [`Error::Invalid`] with all fields that may not be edited or do not fit, [`Error::NotFound`],
/// [`Error::Configuration`] when the job is in another state.
pub async fn edit(
    store: &Store,
    kinds: &Kinds,
    id: ObjectId,
    edits: &Edits,
) -> Result<JobDocument> {
    loop {
        let job = match store.get(id).await {
            Err(Error::Undecodable { .. }) => return repair(store, id, edits).await,
            job => job?.ok_or(Error::NotFound { id })?,
        };
        if !EDITABLE.contains(&job.state()) {
            return Err(Error::configuration(format!(
                "job {id} is {} and may not be edited: only a job that waits, is paused or has failed may",
                job.state()
            )));
        }
        let change = edited(kinds, &job, edits, store.now())?;
        let guard = Guard::states([job.state()]);
        match store.update(Patch { id, guard, change }).await? {
            Err(crate::change::Refusal::State(_)) => {}
            outcome => {
                let after = written(outcome, id)?;
                tracing::info!(%id, kind = after.kind(), "edited");
                return Ok(after);
            }
        }
    }
}

/// Changes fields of the envelope of a job that cannot be read, so that it can be again.
async fn repair(store: &Store, id: ObjectId, edits: &Edits) -> Result<JobDocument> {
    let change = edits.change(&Kinds::default(), "", store.now())?;
    check_level(&change)?;
    let guard = Guard::states(EDITABLE);
    let after = written(store.update(Patch { id, guard, change }).await?, id)?;
    tracing::info!(%id, kind = after.kind(), "repaired");
    Ok(after)
}

/// What `edits` write to `job`, validated.
fn edited(kinds: &Kinds, job: &JobDocument, edits: &Edits, now: Timestamp) -> Result<Change> {
    let mut change = edits.change(kinds, job.kind(), now)?;
    check_level(&change)?;
    let own = own_of_other_version(kinds, job, &change);
    if !own.is_empty() {
        let Some(definition) = kinds.definition(job.kind()) else {
            return Err(of_other_version(kinds, job, &own));
        };
        let edits = std::mem::replace(&mut change, upgrade_stored(definition, job.as_document()));
        change.add(edits);
    }
    let mut after = job.as_document().clone();
    change.apply(&mut after);
    let mut after = JobDocument::new(after)?;
    if let Some(definition) = kinds.definition(job.kind()) {
        after = saved(definition, job, after, &mut change, now)?;
    }
    if let Some(handler) = kinds.handler(job.kind()) {
        handler.check(&after)?;
    } else {
        let mut problems = ValidationFailed::new();
        validate_envelope(&after, &mut problems);
        problems.into_result()?;
    }
    match kinds.definition(job.kind()) {
        Some(definition) => move_unique(definition, job, &after, &mut change)?,
        None => check_unique(job, &change)?,
    }
    let is_rescheduled = change.set.contains_key(name::RUN_AT) && job.state() == State::Queued;
    if is_rescheduled {
        let run_at = change.set.get(name::RUN_AT).and_then(date_of);
        let hold = match kinds.definition(job.kind()) {
            Some(definition) => hold_of(definition, &after, now)?,
            None => None,
        };
        let mut run_at = run_at.and_then(crate::encoding::timestamp);
        if let Some(definition) = kinds.definition(job.kind()) {
            let due = due_of(definition, &after, run_at, now)?;
            if due != run_at {
                change.put(name::RUN_AT, due.map(crate::encoding::date));
                run_at = due;
            }
        }
        transition::mark(&mut change, run_at, hold, now);
    }
    Ok(change)
}

/// The edited job with what its concerns add.
fn saved(
    definition: &Definition,
    job: &JobDocument,
    mut after: JobDocument,
    change: &mut Change,
    now: Timestamp,
) -> Result<JobDocument> {
    for concern in definition.concerns {
        let mut added = Change::new();
        concern.before_save(&mut Saving {
            definition,
            before: Some(job),
            job: &after,
            now,
            change: &mut added,
        })?;
        let mut document = after.into_document();
        added.apply(&mut document);
        after = JobDocument::new(document)?;
        for (field, value) in added.set {
            change.put(field, value);
        }
        added.unset.into_iter().for_each(|field| change.take(field));
    }
    Ok(after)
}

/// Of a kind that is not compiled in, nobody here can tell which fields a unique key is made of.
fn check_unique(job: &JobDocument, change: &Change) -> Result<()> {
    let mut problems = ValidationFailed::new();
    if may_depend_on_fields(job) {
        for field in change.set.keys().filter(|field| !name::is_envelope(field)) {
            problems.add(
                field,
                "may be part of the job's unique key: edit it with the program that performs the kind",
            );
        }
    }
    problems.into_result()
}

/// The own fields that `change` sets where the job's fields are of another version than the one that
/// is known, by whose names and types they are edited.
fn own_of_other_version<'c>(
    kinds: &Kinds,
    job: &JobDocument,
    change: &'c Change,
) -> Vec<&'c String> {
    let Some(known) = kinds.published(job.kind()) else {
        return Vec::new();
    };
    if version_of(job.as_document()) == known.version {
        return Vec::new();
    }
    let is_own = |field: &&String| {
        let mut fields = known.fields.iter().filter(|known| known.concern.is_none());
        fields.any(|known| known.name == **field)
    };
    change.set.keys().filter(is_own).collect()
}

fn of_other_version(kinds: &Kinds, job: &JobDocument, own: &[&String]) -> Error {
    let kind = job.kind();
    let stored = version_of(job.as_document());
    let known = kinds.published(kind).map_or(0, |known| known.version);
    let mut problems = ValidationFailed::new();
    for field in own {
        problems.add(
            field.as_str(),
            format!(
                "cannot be edited: the job's fields are of version {stored} of `{kind}`, and those of version {known} are known; edit it with the program that performs the kind, which can upgrade it"
            ),
        );
    }
    Error::Invalid(problems)
}

fn check_level(change: &Change) -> Result<()> {
    match change.set.get(name::LOG_LEVEL) {
        Some(Bson::String(level)) if crate::definition::LogLevel::from_name(level).is_none() => {
            let mut problems = ValidationFailed::new();
            let known = crate::definition::LogLevel::ALL.map(crate::definition::LogLevel::as_str);
            problems.add(
                name::LOG_LEVEL,
                format!("takes one of {}, and not `{level}`", known.join(", ")),
            );
            problems.into_result()
        }
        _ => Ok(()),
    }
}
