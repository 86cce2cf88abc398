//! The stored form of a job: one document, envelope and own fields side by side.

use bson::{Bson, Document, doc, oid::ObjectId};
use jiff::Timestamp;

use crate::{
    claim::Claim,
    definition::{DEFAULT_PRIORITY, LogLevel},
    encoding::{self, whole_number},
    error::{Error, Result},
    failure::JobFailure,
    name,
    state::State,
};

/// A job's document, with its envelope checked and its own fields undecoded.
///
/// Absent and null mean the same. The document keeps every field that it came with, also those
/// that this version does not know.
#[derive(Debug, Clone, PartialEq)]
pub struct JobDocument {
    id: ObjectId,
    state: State,
    document: Document,
}

impl JobDocument {
    /// Checks the envelope of `document`.
    ///
    /// # Errors
    /// [`Error::Undecodable`] when a field of the envelope is missing or of the wrong type; the
    /// text names it.
    pub fn new(document: Document) -> Result<Self> {
        let wrong = |field: &str, expected: &str| {
            let found = document.get(field).map_or("nothing".to_owned(), |value| {
                format!("{:?}", value.element_type())
            });
            Error::Undecodable {
                id: document
                    .get(name::ID)
                    .map(encoding::id_text)
                    .unwrap_or_default(),
                kind: document
                    .get(name::KIND)
                    .map(encoding::id_text)
                    .unwrap_or_default(),
                reason: format!("field `{field}` must be {expected}, found {found}"),
            }
        };
        let Some(Bson::ObjectId(id)) = document.get(name::ID) else {
            return Err(wrong(name::ID, "an ObjectId"));
        };
        let id = *id;
        if !matches!(document.get(name::KIND), Some(Bson::String(_))) {
            return Err(wrong(name::KIND, "a string"));
        }
        let state = match document.get(name::STATE) {
            Some(Bson::String(text)) => State::from_name(text),
            _ => None,
        };
        let Some(state) = state else {
            return Err(wrong(name::STATE, "the name of a state"));
        };
        for (field, value) in &document {
            if let Some((expected, fits)) = envelope_type(field)
                && *value != Bson::Null
                && !fits(value)
            {
                return Err(wrong(field, expected));
            }
        }
        Ok(Self {
            id,
            state,
            document,
        })
    }

    /// The id.
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// The kind.
    pub fn kind(&self) -> &str {
        self.text(name::KIND).unwrap_or_default()
    }

    /// The state.
    pub fn state(&self) -> State {
        self.state
    }

    /// 1 (first) to 100 (last).
    pub fn priority(&self) -> i64 {
        self.number(name::PRIORITY)
            .unwrap_or(i64::from(DEFAULT_PRIORITY))
    }

    /// Free text for people.
    pub fn description(&self) -> Option<&str> {
        self.text(name::DESCRIPTION)
    }

    /// Whether the document goes when the job completes.
    pub fn destroy_on_complete(&self) -> bool {
        self.document
            .get_bool(name::DESTROY_ON_COMPLETE)
            .unwrap_or(true)
    }

    /// Not to be started before.
    pub fn run_at(&self) -> Option<Timestamp> {
        self.time(name::RUN_AT)
    }

    /// Not to be started after.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.time(name::EXPIRES_AT)
    }

    /// From which level on the job's own log lines are kept.
    pub fn log_level(&self) -> Option<LogLevel> {
        self.text(name::LOG_LEVEL).and_then(LogLevel::from_name)
    }

    /// When the job was created.
    pub fn created_at(&self) -> Option<Timestamp> {
        self.time(name::CREATED_AT)
    }

    /// When a worker last began.
    pub fn started_at(&self) -> Option<Timestamp> {
        self.time(name::STARTED_AT)
    }

    /// When the job completed, failed, was paused or aborted.
    pub fn completed_at(&self) -> Option<Timestamp> {
        self.time(name::COMPLETED_AT)
    }

    /// How often the job failed.
    pub fn failure_count(&self) -> i64 {
        self.number(name::FAILURE_COUNT).unwrap_or(0)
    }

    /// How many workers died with the job.
    pub fn lost_claims(&self) -> i64 {
        self.number(name::LOST_CLAIMS).unwrap_or(0)
    }

    /// Whether it was noted that `perform` has begun under the present claim; see
    /// [`name::BEGUN_CLAIM`].
    pub fn is_begun(&self) -> bool {
        self.text(name::BEGUN_CLAIM)
            .is_some_and(|token| self.token() == Some(token))
    }

    /// The token of the claim under which the job is, or last was, held; also where no worker is
    /// named.
    pub(crate) fn token(&self) -> Option<&str> {
        self.text(name::CLAIM)
    }

    /// The worker that holds, or last held, the job.
    pub fn worker_name(&self) -> Option<&str> {
        self.text(name::WORKER_NAME)
    }

    /// Progress, 0 to 100.
    pub fn percent_complete(&self) -> i64 {
        self.number(name::PERCENT_COMPLETE).unwrap_or(0)
    }

    /// The last failure.
    pub fn exception(&self) -> Option<JobFailure> {
        self.document
            .get_document(name::EXCEPTION)
            .ok()
            .map(JobFailure::from_document)
    }

    /// The group whose running jobs are counted together.
    pub fn throttle_group(&self) -> Option<&str> {
        self.text(name::THROTTLE_GROUP)
    }

    /// Whether a worker may take the job now, as far as the mark tells; see [`name::READY`].
    pub fn is_ready(&self) -> bool {
        self.document.get_bool(name::READY).unwrap_or(false)
    }

    /// Why a queued job is not ready.
    pub fn hold(&self) -> Option<&str> {
        self.text(name::HOLD)
    }

    /// The claim under which the job runs, or last ran.
    pub fn claim(&self) -> Option<Claim> {
        Some(Claim {
            token: self.token()?.into(),
            worker_name: self.worker_name()?.into(),
        })
    }

    /// Queued for a time that has not come yet, judged at the store's time `now`.
    pub fn is_scheduled(&self, now: Timestamp) -> bool {
        self.state == State::Queued && self.run_at().is_some_and(|run_at| run_at > now)
    }

    /// Whether the job's time is over, judged at the store's time `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at().is_some_and(|expires_at| expires_at < now)
    }

    /// A field of the envelope or of the job, by its stored name.
    pub fn get(&self, field: &str) -> Option<&Bson> {
        self.document
            .get(field)
            .filter(|value| !matches!(value, Bson::Null))
    }

    /// The whole document.
    pub fn as_document(&self) -> &Document {
        &self.document
    }

    /// The whole document, given away.
    pub fn into_document(self) -> Document {
        self.document
    }

    fn text(&self, field: &str) -> Option<&str> {
        self.document.get_str(field).ok()
    }

    fn number(&self, field: &str) -> Option<i64> {
        self.document.get(field).and_then(whole_number)
    }

    fn time(&self, field: &str) -> Option<Timestamp> {
        self.document
            .get_datetime(field)
            .ok()
            .and_then(|date| encoding::timestamp(*date))
    }
}

type Fits = fn(&Bson) -> bool;

/// What a field of the envelope must be, besides those that every job has. Own fields may be
/// anything.
fn envelope_type(field: &str) -> Option<(&'static str, Fits)> {
    Some(match field {
        name::DESCRIPTION
        | name::LOG_LEVEL
        | name::WORKER_NAME
        | name::THROTTLE_GROUP
        | name::CLAIM
        | name::HOLD
        | name::UNIQUE_KEY
        | name::UNFINISHED_KEY
        | name::BEGUN_CLAIM => ("a string", is_text),
        name::PRIORITY | name::FAILURE_COUNT | name::PERCENT_COMPLETE | name::LOST_CLAIMS => {
            ("a whole number", is_number)
        }
        name::DESTROY_ON_COMPLETE => ("true or false", is_boolean),
        name::RUN_AT
        | name::EXPIRES_AT
        | name::CREATED_AT
        | name::STARTED_AT
        | name::COMPLETED_AT => ("a date", is_date),
        name::EXCEPTION => ("a document", is_document),
        name::SLOTS | name::SUCCESSORS => ("an array", is_array),
        name::FOLLOWS | name::REPLACEMENT => ("an id", is_id),
        _ => return None,
    })
}

fn is_text(value: &Bson) -> bool {
    // BSON symbols are what very old Ruby processes wrote.
    matches!(value, Bson::String(_) | Bson::Symbol(_))
}

fn is_id(value: &Bson) -> bool {
    matches!(value, Bson::ObjectId(_))
}

fn is_number(value: &Bson) -> bool {
    whole_number(value).is_some()
}

fn is_boolean(value: &Bson) -> bool {
    matches!(value, Bson::Boolean(_))
}

fn is_date(value: &Bson) -> bool {
    matches!(value, Bson::DateTime(_))
}

fn is_document(value: &Bson) -> bool {
    matches!(value, Bson::Document(_))
}

fn is_array(value: &Bson) -> bool {
    matches!(value, Bson::Array(_))
}

/// What makes a failure's document, as the original writes it.
impl JobFailure {
    /// The stored form.
    pub fn to_document(&self) -> Document {
        let mut document = doc! {
            "_id": ObjectId::new(),
            "backtrace": self.backtrace.clone(),
            "class_name": &self.class_name,
            "message": &self.message,
        };
        if let Some(worker_name) = &self.worker_name {
            document.insert("worker_name", worker_name);
        }
        document
    }

    /// Reads what a store holds; what is missing or of another type reads as empty.
    pub fn from_document(document: &Document) -> Self {
        let text = |field: &str| document.get_str(field).unwrap_or_default().to_owned();
        let backtrace = document.get_array("backtrace").map(|lines| {
            lines
                .iter()
                .filter_map(|line| line.as_str().map(ToOwned::to_owned))
                .collect()
        });
        Self {
            class_name: text("class_name"),
            message: text("message"),
            backtrace: backtrace.unwrap_or_default(),
            worker_name: document.get_str("worker_name").ok().map(ToOwned::to_owned),
        }
    }
}
