//! Unique: of jobs of a kind that are alike, one at a time.

use std::fmt::Write as _;

use bson::{Bson, Document};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    change::Change,
    concern::{Concern, NoState, UniqueKey, UniqueScope},
    definition::Definition,
    document::JobDocument,
    encoding::{decode, default_value},
    error::{Result, ValidationFailed},
    job::Job,
    name,
    state::State,
};

/// How long a key's values may be before their digest stands in their place, in bytes.
const MAX_VALUES: usize = 150;

/// What becomes of a new job whose unique key another job holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// It is refused, with [`Error::Existing`](crate::Error::Existing).
    #[default]
    Reject,
    /// The other one stands for it.
    ReturnExisting,
    /// It takes the place of the other one, if that is queued; otherwise it is refused.
    Replace,
}

/// `#[unique(by = [customer, day])]`: of jobs of the kind that are alike, one at a time.
///
/// Held by a unique index and not by a look-up, so that it holds for any number of processes that
/// create jobs at once. A retry or resume while another such job holds the key is refused with
/// [`Error::Existing`](crate::Error::Existing), which has its id.
///
/// An edit of a field that the key is made of moves the key in the same write, and is refused when
/// another job holds the new one. What `perform` changes in its own fields does not move it.
#[derive(Debug, Clone, Copy)]
pub struct Unique {
    /// What makes two jobs alike.
    pub by: UniqueBy,
    /// While which states a job holds its key.
    pub scope: UniqueScope,
    /// What becomes of a second one.
    pub on_conflict: OnConflict,
}

/// What makes two jobs alike.
#[derive(Debug, Clone, Copy)]
pub enum UniqueBy {
    /// The values of these fields, by stored names, dotted into nested documents. Absent and null
    /// are one value.
    Fields(&'static [&'static str]),
    /// What the function makes of a job; a job of which it makes nothing, or null, is not held to
    /// it.
    Value(fn(&JobDocument) -> Option<Bson>),
}

impl UniqueBy {
    /// The canonical text of the values, and what people call them.
    fn values(&self, job: &JobDocument) -> Option<(String, String)> {
        match self {
            Self::Fields(fields) => {
                let mut values = String::new();
                for field in *fields {
                    let separator = if values.is_empty() { "" } else { "," };
                    let value = value_at(job.as_document(), field);
                    let _ = write!(values, "{separator}{field}=");
                    write_canonical(value.unwrap_or(&Bson::Null), &mut values);
                }
                Some((values, fields.join(" and ")))
            }
            Self::Value(value) => {
                let value = value(job).filter(|value| *value != Bson::Null)?;
                let mut values = String::new();
                write_canonical(&value, &mut values);
                Some((values, "key".to_owned()))
            }
        }
    }
}

impl Concern for Unique {
    type State = NoState;

    fn name(&self) -> &'static str {
        "unique"
    }

    fn unique_key(&self, job: &JobDocument, _state: &NoState) -> Option<UniqueKey> {
        let (values, called) = self.by.values(job)?;
        let states = match self.scope {
            UniqueScope::Active => "queued or running",
            UniqueScope::Unfinished => "queued, running, paused or failed",
        };
        Some(UniqueKey {
            key: format!("unique:{}:{}", job.kind(), shortened(values)),
            scope: self.scope,
            reason: format!("State Another job with the same {called} is already {states}"),
        })
    }

    fn on_conflict(&self) -> OnConflict {
        self.on_conflict
    }
}

/// What a function of the job's own type makes of a document. For the code that the derive writes.
#[doc(hidden)]
pub fn unique_value<T: Job, V: Serialize>(
    document: &JobDocument,
    by: impl Fn(&T) -> V,
) -> Option<Bson> {
    // Whoever creates or edits a job has checked that it can be decoded.
    let job = decode::<T>(T::DEFINITION, document.as_document()).ok()?;
    Some(default_value(&by(&job)))
}

/// A unique key of a job, where it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) field: &'static str,
    pub(crate) key: String,
    pub(crate) reason: String,
    pub(crate) on_conflict: OnConflict,
}

impl Mark {
    /// The unique keys that the concerns of `definition` give to `job`.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) when two concerns would have to share one place.
    pub(crate) fn of(definition: &Definition, job: &JobDocument) -> Result<Vec<Self>> {
        let mut marks: Vec<(&str, Self)> = Vec::new();
        for concern in definition.concerns {
            let Some(unique) = concern.unique_key(job)? else {
                continue;
            };
            let field = match unique.scope {
                UniqueScope::Active => name::UNIQUE_KEY,
                UniqueScope::Unfinished => name::UNFINISHED_KEY,
            };
            if let Some((other, _)) = marks.iter().find(|(_, mark)| mark.field == field) {
                let mut problems = ValidationFailed::new();
                let message = format!(
                    "holds a unique key while the job is in the same states as concern `{other}` does, and a job has room for one: give one of them other states"
                );
                problems.add(concern.name(), message);
                problems.into_result()?;
            }
            let mark = Self {
                field,
                key: unique.key,
                reason: unique.reason,
                on_conflict: concern.on_conflict(),
            };
            marks.push((concern.name(), mark));
        }
        Ok(marks.into_iter().map(|(_, mark)| mark).collect())
    }

    /// Whether `job` holds this key now.
    pub(crate) fn is_held_by(&self, job: &JobDocument) -> bool {
        let counts = match self.field {
            name::UNIQUE_KEY => matches!(job.state(), State::Queued | State::Running),
            _ => !job.state().is_end(),
        };
        let held = job.get(self.field).and_then(Bson::as_str);
        counts && held == Some(self.key.as_str())
    }
}

/// Adds the unique keys of a new job.
pub(crate) fn mark_unique(
    definition: &Definition,
    job: &JobDocument,
    change: &mut Change,
) -> Result<()> {
    let marks = Mark::of(definition, job)?;
    put_marks(&marks, change);
    Ok(())
}

/// Moves the unique keys that an edit of `before` to `after` changes, in the same write.
pub(crate) fn move_unique(
    definition: &Definition,
    before: &JobDocument,
    after: &JobDocument,
    change: &mut Change,
) -> Result<()> {
    let (old, new) = (Mark::of(definition, before)?, Mark::of(definition, after)?);
    if old == new {
        return Ok(());
    }
    for mark in &old {
        change.take(mark.field);
    }
    put_marks(&new, change);
    Ok(())
}

fn put_marks(marks: &[Mark], change: &mut Change) {
    for mark in marks {
        change.put(mark.field, mark.key.as_str());
    }
    let reasons: Vec<&str> = marks.iter().map(|mark| mark.reason.as_str()).collect();
    if !reasons.is_empty() {
        change.put(name::UNIQUE_REASON, reasons.join(", or "));
    }
}

/// Whether the key of `job` may be made of its own fields: then only the program that has the kind
/// can tell whether an edit moves it.
pub(crate) fn may_depend_on_fields(job: &JobDocument) -> bool {
    [name::UNIQUE_KEY, name::UNFINISHED_KEY]
        .iter()
        .filter_map(|field| job.get(field).and_then(Bson::as_str))
        .any(|key| !key.starts_with(crate::singleton::KEY_PREFIX))
}

fn value_at<'d>(document: &'d Document, path: &str) -> Option<&'d Bson> {
    match path.split_once('.') {
        None => document.get(path),
        Some((head, rest)) => value_at(document.get_document(head).ok()?, rest),
    }
}

/// The values themselves where they are short, so that people can read them; otherwise their digest.
fn shortened(values: String) -> String {
    if values.len() <= MAX_VALUES {
        return values;
    }
    let mut digest = String::from("sha256:");
    for byte in Sha256::digest(values) {
        let _ = write!(digest, "{byte:02x}");
    }
    digest
}

/// Writes a value so that two texts are the same just when stores hold the values for the same:
/// whatever the width of a number, and the order of the fields of a document.
fn write_canonical(value: &Bson, text: &mut String) {
    let _ = match value {
        Bson::String(value) | Bson::Symbol(value) => {
            write!(text, "{}", serde_json::Value::from(value.as_str()))
        }
        Bson::Boolean(value) => write!(text, "{value}"),
        Bson::Null | Bson::Undefined => write!(text, "null"),
        Bson::Int32(number) => write!(text, "{number}"),
        Bson::Int64(number) => write!(text, "{number}"),
        // Whole ones as whole numbers are written, and 0 without its sign.
        Bson::Double(number) => write!(text, "{}", number + 0.0),
        Bson::DateTime(date) => write!(text, "@{}", date.timestamp_millis()),
        Bson::ObjectId(id) => write!(text, "#{id}"),
        Bson::Array(items) => {
            text.push('[');
            for item in items {
                write_canonical(item, text);
                text.push(',');
            }
            write!(text, "]")
        }
        Bson::Document(document) => {
            let mut fields: Vec<_> = document.iter().collect();
            fields.sort_by_key(|(field, _)| *field);
            text.push('{');
            for (field, value) in fields {
                let _ = write!(text, "{}:", serde_json::Value::from(field.as_str()));
                write_canonical(value, text);
                text.push(',');
            }
            write!(text, "}}")
        }
        other => write!(text, "{other}"),
    };
}

#[cfg(test)]
mod tests {
    use bson::{doc, oid::ObjectId};

    use super::*;

    fn key(by: &'static [&'static str], fields: Document) -> String {
        let mut document = doc! { "_id": ObjectId::new(), "_type": "Report", "state": "queued" };
        document.extend(fields);
        let unique = Unique {
            by: UniqueBy::Fields(by),
            scope: UniqueScope::Active,
            on_conflict: OnConflict::Reject,
        };
        let job = JobDocument::new(document).unwrap();
        Concern::unique_key(&unique, &job, &NoState {}).unwrap().key
    }

    #[test]
    fn equal_values_make_one_key_and_others_another() {
        let same = |left: Bson, right: Bson| {
            key(&["a"], doc! { "a": left }) == key(&["a"], doc! { "a": right })
        };
        assert!(same(Bson::Int32(5), Bson::Int64(5)));
        assert!(same(Bson::Int32(5), Bson::Double(5.0)));
        assert!(same(Bson::Double(0.0), Bson::Double(-0.0)));
        let nested = || (doc! { "x": 1, "y": 2 }, doc! { "y": 2_i64, "x": 1 });
        assert!(same(nested().0.into(), nested().1.into()));
        assert!(!same("5".into(), 5.into()));
        assert!(!same("null".into(), Bson::Null));
        assert!(!same(vec!["a", "b"].into(), vec!["a,b"].into()));
        assert_eq!(key(&["a"], doc! {}), key(&["a"], doc! { "a": Bson::Null }));
        assert_ne!(
            key(&["a", "b"], doc! { "a": "x\",b=\"y", "b": "z" }),
            key(&["a", "b"], doc! { "a": "x", "b": "y\",b=\"z" }),
        );
    }

    #[test]
    fn keys_can_be_read_while_they_are_short() {
        let fields = doc! { "customer": { "id": 7 }, "day": "Monday" };
        assert_eq!(
            key(&["customer.id", "day"], fields),
            "unique:Report:customer.id=7,day=\"Monday\""
        );
        let long = |end: &str| key(&["a"], doc! { "a": "long ".repeat(1000) + end });
        assert!(long("").starts_with("unique:Report:sha256:"));
        assert_eq!(long("").len(), "unique:Report:sha256:".len() + 64);
        assert_ne!(long("one"), long("two"));
        assert_eq!(long("one"), long("one"));
    }
}
