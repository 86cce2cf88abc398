//! Creating jobs without their Rust type: from JSON, by what is known of the kind.

use bson::{Bson, Document, doc};
use jiff::Timestamp;
use tracing::{Instrument as _, field};

use crate::{
    callbacks::OWN_CALLBACKS,
    change::Insertion,
    concern::Concern,
    creation::place,
    definition::{Definition, LogLevel, PublishedDefinition},
    document::JobDocument,
    encoding::{date, integer},
    error::{Error, Result, ValidationFailed},
    kinds::Kinds,
    name,
    new_job::validate_envelope,
    plain_value::stored,
    retry::Retry,
    singleton::Singleton,
    state::State,
    store::Store,
    trace::current_trace,
    transition,
    version::FIRST_VERSION,
};

/// Concerns of ours that have nothing to say of a job before it is claimed.
const AT_THE_CLAIM: [&str; 2] = ["throttle", "rate_limit"];

/// What is said of a new job besides its own fields. What is left out, its kind says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NewJobOptions {
    /// 1 (first) to 100 (last).
    pub priority: Option<u8>,
    /// Free text for people.
    pub description: Option<String>,
    /// Not to be started before.
    pub run_at: Option<Timestamp>,
    /// Not to be started after.
    pub expires_at: Option<Timestamp>,
    /// From which level on the job's log lines are kept.
    pub log_level: Option<LogLevel>,
    /// Whether the job stays in the store when it completes.
    pub keep_completed: Option<bool>,
    /// The group whose running jobs are counted together.
    pub throttle_group: Option<String>,
}

impl NewJobOptions {
    fn to_envelope(&self) -> Document {
        let all = [
            (name::PRIORITY, self.priority.map(|n| Bson::Int32(n.into()))),
            (
                name::DESCRIPTION,
                self.description.as_deref().map(Into::into),
            ),
            (name::RUN_AT, self.run_at.map(date)),
            (name::EXPIRES_AT, self.expires_at.map(date)),
            (
                name::LOG_LEVEL,
                self.log_level.map(|level| level.as_str().into()),
            ),
            (
                name::DESTROY_ON_COMPLETE,
                self.keep_completed.map(|keep| (!keep).into()),
            ),
            (
                name::THROTTLE_GROUP,
                self.throttle_group.as_deref().map(Into::into),
            ),
        ];
        all.into_iter()
            .filter_map(|(field, value)| Some((field.to_owned(), value?)))
            .collect()
    }
}

/// The document of a new job of `kind`, from its fields as they stand in JSON: nothing is stored.
///
/// A kind that is compiled in is checked by its Rust type, rules and concerns included. For another
/// one the published definition tells its fields; the rules in its Rust type are then not known, and
/// a concern of its own program is refused, since it may have to be asked.
///
/// # Errors
/// [`Error::Configuration`] for a kind that is not known, [`Error::Invalid`] with all fields that
/// are not right, [`Error::Unstorable`].
pub fn prepare_job(
    store: &Store,
    kinds: &Kinds,
    kind: &str,
    fields: Document,
    options: &NewJobOptions,
) -> Result<JobDocument> {
    let definition = kinds.expect(kind)?;
    let mut problems = ValidationFailed::new();
    let mut own = Document::new();
    let mut envelope = options.to_envelope();
    for (field, value) in fields {
        let Some(known) = definition.fields.iter().find(|known| known.name == field) else {
            problems.add(field.clone(), unknown_field(definition));
            continue;
        };
        match (stored(known.field_type, value), &known.concern) {
            (Err(problem), _) => problems.add(field, problem),
            (Ok(value), Some(_)) => drop(envelope.insert(field, value)),
            (Ok(value), None) => drop(own.insert(field, value)),
        }
    }
    for field in missing(definition, &own) {
        problems.add(field, "is required");
    }
    problems.into_result()?;
    let (now, id) = (store.now(), store.next_id());
    if let Some(handler) = kinds.handler(kind) {
        return handler.prepare(&own, envelope, now, id);
    }
    let mut document = doc! { name::ID: id };
    document.extend(own);
    published(definition, document, envelope, now)
}

fn unknown_field(definition: &PublishedDefinition) -> String {
    let names: Vec<_> = definition
        .fields
        .iter()
        .map(|field| field.name.as_str())
        .collect();
    if names.is_empty() {
        format!("is not known: `{}` has no fields", definition.kind)
    } else {
        format!(
            "is not known: `{}` has `{}`",
            definition.kind,
            names.join("`, `")
        )
    }
}

fn missing<'d>(
    definition: &'d PublishedDefinition,
    own: &'d Document,
) -> impl Iterator<Item = &'d str> {
    let required = definition
        .fields
        .iter()
        .filter(|field| !field.optional && field.concern.is_none());
    required
        .map(|field| field.name.as_str())
        .filter(|field| matches!(own.get(field), None | Some(Bson::Null)))
}

/// A job of a kind of which only the published definition is known.
fn published(
    definition: &PublishedDefinition,
    mut document: Document,
    envelope: Document,
    now: Timestamp,
) -> Result<JobDocument> {
    let singleton = Singleton;
    let singleton_name = Concern::name(&singleton);
    let known = [
        singleton_name,
        Concern::name(&Retry::DEFAULT),
        OWN_CALLBACKS,
    ];
    let is_known = |name: &str| known.contains(&name) || AT_THE_CLAIM.contains(&name);
    if let Some(concern) = definition.concerns.iter().find(|name| !is_known(name)) {
        return Err(Error::configuration(format!(
            "kind `{}` has the concern `{concern}`, which only its own program knows: enqueue it with that program",
            definition.kind
        )));
    }
    document.extend(doc! {
        name::KIND: &definition.kind,
        name::STATE: State::Queued.as_str(),
        name::PRIORITY: i32::from(definition.priority),
        name::DESTROY_ON_COMPLETE: !definition.keep_completed,
        name::CREATED_AT: date(now),
        name::FAILURE_COUNT: 0,
        name::PERCENT_COMPLETE: 0,
    });
    if definition.version > FIRST_VERSION {
        document.insert(name::PAYLOAD_VERSION, integer(definition.version.into()));
    }
    document.extend(
        definition
            .description
            .as_ref()
            .map(|text| (name::DESCRIPTION.to_owned(), text.into())),
    );
    document.extend(
        definition
            .log_level
            .map(|level| (name::LOG_LEVEL.to_owned(), level.as_str().into())),
    );
    if let Some(seconds) = definition.expires_in_seconds {
        let expires_at = crate::clock::later(now, std::time::Duration::from_secs(seconds));
        document.insert(name::EXPIRES_AT, date(expires_at));
    }
    if let Some(trace) = current_trace() {
        document.insert(name::TRACE, trace);
    }
    document.extend(envelope);
    let document = document
        .into_iter()
        .filter(|(_, value)| *value != Bson::Null)
        .collect();
    let job = JobDocument::new(document)?;
    let mut problems = ValidationFailed::new();
    validate_envelope(&job, &mut problems);
    problems.into_result()?;
    let mut change = crate::change::Change::new();
    if definition
        .concerns
        .iter()
        .any(|name| name == singleton_name)
        && let Some(unique) = Concern::unique_key(&singleton, &job, &crate::concern::NoState {})
    {
        change.put(name::UNIQUE_KEY, unique.key);
        change.put(name::UNIQUE_REASON, unique.reason);
    }
    transition::mark(&mut change, job.run_at(), None, now);
    let mut document = job.into_document();
    change.apply(&mut document);
    JobDocument::new(document)
}

/// Of a kind that is not compiled in, whatever stands against its jobs refuses them.
const UNKNOWN: Definition = Definition::new("", "");

/// Creates a job of `kind` from its fields as they stand in JSON, and returns its document; where the
/// kind is `#[unique]`, it may be that of a job which was there before.
///
/// # Errors
/// As [`prepare_job`]; [`Error::Existing`] when a job with its unique key is active.
pub async fn enqueue(
    store: &Store,
    kinds: &Kinds,
    kind: &str,
    fields: Document,
    options: &NewJobOptions,
) -> Result<JobDocument> {
    let span = tracing::info_span!("enqueue", kind, id = field::Empty);
    let job = span.in_scope(|| prepare_job(store, kinds, kind, fields, options))?;
    span.record("id", field::display(job.id()));
    let created = async {
        let outcomes = store.insert(vec![job.clone()]).await?;
        let outcome = outcomes.first().copied().unwrap_or(Insertion::Inserted);
        let definition = kinds.definition(kind).unwrap_or(&UNKNOWN);
        place(store, definition, job, outcome).await
    };
    let job = created.instrument(span).await?.into_document();
    tracing::debug!(id = %job.id(), kind = job.kind(), "created");
    Ok(job)
}
