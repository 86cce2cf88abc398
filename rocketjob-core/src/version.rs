//! Versions of a kind's fields: documents of earlier ones are upgraded when they are read, and those
//! of later ones wait for a server that knows them.

use std::collections::BTreeSet;

use bson::Document;

use crate::{
    change::Change,
    definition::Definition,
    document::JobDocument,
    encoding::{whole_number, without_foreign},
    failure::{JobFailure, JobResult},
    job::Probe,
    limit::Limit,
    name,
};

/// The version of a kind that says nothing, and of a document that has none.
pub const FIRST_VERSION: u32 = 1;

/// Turns the fields of a document that an earlier version of the kind has written into those of the
/// present one. For a kind with `#[rocketjob(version = …)]`; what `#[serde(default)]` or
/// `#[serde(alias = "…")]` can do needs no version.
///
/// A document is upgraded whenever it is read: by who performs the job, by handles, and by concerns
/// that look at its fields. It is written upgraded with the first change of its fields, such as the
/// outcome of `perform`; until then it stays as it was, so that servers of the earlier version can go
/// on with it while a deployment is under way. Jobs of a later version are not performed by them:
/// they wait for a server that knows it.
///
/// # Examples
/// ```
/// use bson::{Document, doc};
/// use rocketjob_core::{JobResult, Upgrade};
///
/// // `#[derive(RocketJob, …)] #[rocketjob(version = 2)]`; version 1 had a `name`.
/// struct GreetJob {
///     first_name: String,
///     last_name: String,
/// }
///
/// impl Upgrade for GreetJob {
///     fn upgrade(from: u32, fields: &mut Document) -> JobResult {
///         if from == 1 {
///             let name = fields.remove("name");
///             let name = name.as_ref().and_then(|name| name.as_str()).ok_or("no `name`")?;
///             let (first, last) = name.split_once(' ').unwrap_or((name, ""));
///             fields.insert("first_name", first);
///             fields.insert("last_name", last);
///         }
///         Ok(())
///     }
/// }
///
/// let mut fields = doc! { "name": "Ada Lovelace" };
/// GreetJob::upgrade(1, &mut fields)?;
/// assert_eq!(fields, doc! { "first_name": "Ada", "last_name": "Lovelace" });
/// # Ok::<_, rocketjob_core::JobError>(())
/// ```
pub trait Upgrade {
    /// Changes `fields`, the job's own as version `from` stored them, into those of the present
    /// version. `from` is lower than that.
    ///
    /// # Errors
    /// When that cannot be done: the job fails as one that cannot be decoded, its document untouched.
    fn upgrade(from: u32, fields: &mut Document) -> JobResult;
}

/// [`Upgrade::upgrade`] of some type.
pub type UpgradeFn = fn(u32, &mut Document) -> JobResult;

/// What the derive finds for a type with an upgrade.
impl<T: Upgrade> Probe<T> {
    /// How its documents are upgraded.
    pub const UPGRADE: Option<UpgradeFn> = Some(T::upgrade);
}

/// What it finds for a type without.
pub trait NoUpgrade {
    /// Not at all.
    const UPGRADE: Option<UpgradeFn> = None;
}

impl<T> NoUpgrade for Probe<T> {}

/// The version of the kind that wrote the fields of `document`.
pub fn version_of(document: &Document) -> u32 {
    let version = document.get(name::PAYLOAD_VERSION).and_then(whole_number);
    let version = version.and_then(|version| u32::try_from(version).ok());
    version.unwrap_or(FIRST_VERSION)
}

/// Brings `fields`, the own ones of a job that `document` is of, to the version of `definition`.
pub(crate) fn upgrade(
    definition: &Definition,
    document: &Document,
    fields: &mut Document,
) -> Result<(), String> {
    let (from, to) = (version_of(document), definition.version);
    if from > to {
        return Err(format!(
            "its fields are of version {from} of the kind, and this program knows version {to}: let a newer program read it"
        ));
    }
    match definition.upgrade {
        Some(upgrade) if from < to => upgrade(from, fields).map_err(|error| {
            let JobFailure { message, .. } = error.into_failure();
            format!("its fields cannot be upgraded from version {from} to {to}: {message}")
        }),
        _ => Ok(()),
    }
}

/// Whether the fields of `document` are of another version than that of `definition`.
pub(crate) fn is_other(definition: &Definition, document: &Document) -> bool {
    version_of(document) != definition.version
}

/// `document` with its fields in the version of `definition`; as it is where they are already, or
/// cannot be brought there.
pub(crate) fn upgraded(definition: &Definition, document: &Document) -> Document {
    let mut after = document.clone();
    upgrade_stored(definition, document).apply(&mut after);
    after
}

/// What brings the stored fields of `document` to the version of `definition`. Nothing where they are
/// there already, or cannot be brought there.
pub(crate) fn upgrade_stored(definition: &Definition, document: &Document) -> Change {
    let mut change = Change::new();
    if !is_other(definition, document) {
        return change;
    }
    let before = without_foreign(definition, document);
    let mut after = before.clone();
    if upgrade(definition, document, &mut after).is_err() {
        return change;
    }
    let stay: BTreeSet<&String> = after.keys().collect();
    for field in before.keys().filter(|field| !stay.contains(field)) {
        change.take(field);
    }
    for (field, value) in &after {
        if before.get(field) != Some(value) {
            change.put(field, value.clone());
        }
    }
    change.put(
        name::PAYLOAD_VERSION,
        crate::encoding::integer(definition.version.into()),
    );
    change
}

/// What a job waits for whose fields are of a later version than this program knows.
pub(crate) fn limit(definition: &Definition, job: &JobDocument) -> Option<Limit> {
    let version = version_of(job.as_document());
    (version > definition.version).then(|| Limit::version(job.kind(), version))
}
