//! The mapping of Rust to BSON types, which is the original's.
//!
//! | Rust | stored |
//! |---|---|
//! | `String`, `&str`, `char`, paths | string |
//! | `i8` … `i64`, `u8` … `u64` | int32 where it fits, else int64; larger than `i64::MAX` is refused |
//! | `f32`, `f64` | double |
//! | `bool` | bool |
//! | `jiff::Timestamp`, `bson::DateTime` | date, to the millisecond (rounded towards the past) |
//! | `jiff::civil::Date` | date at midnight UTC |
//! | `ObjectId`, `bson::Binary`, `bson::Document` | themselves |
//! | `Option<T>` | as `T`; `None` is absent on insert, null where it was set before |
//! | `Vec<T>`, sets | array |
//! | maps with string keys, structs | document |
//! | enums, everything else | what serde makes of it |
//!
//! Timestamps and days are recognised in fields, and in arrays and maps that are fields; a struct
//! nested in a field keeps what its serializer makes (text for a time stamp).

use bson::{Bson, DateTime, Document};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    definition::Definition,
    error::{Error, Result},
    field::{FieldDefinition, FieldType, ScalarType},
    name, version,
};

/// The stored form of a job's own fields. `None` becomes null here; who inserts leaves it out.
///
/// # Errors
/// [`Error::Unstorable`] when the struct does not serialize to a document, or to one that uses a
/// name of the envelope.
pub fn encode<T: Serialize>(definition: &Definition, job: &T) -> Result<Document> {
    let payload = encode_fields(definition.kind, definition.fields, job)?;
    match payload
        .keys()
        .find(|key| name::is_envelope(key) || is_of_concern(definition, key))
    {
        None => Ok(payload),
        Some(reserved) => Err(Error::Unstorable {
            kind: definition.kind.into(),
            reason: format!(
                "it has a field `{reserved}`, which belongs to the envelope or to a concern of the job: rename it"
            ),
        }),
    }
}

/// The stored form of any struct whose fields are known.
pub(crate) fn encode_fields<T: Serialize>(
    kind: &str,
    fields: &[FieldDefinition],
    value: &T,
) -> Result<Document> {
    let unstorable = |reason: String| Error::Unstorable {
        kind: kind.into(),
        reason,
    };
    let mut payload =
        bson::serialize_to_document(value).map_err(|error| unstorable(error.to_string()))?;
    for value in payload.iter_mut().map(|(_, value)| value) {
        narrow_integers(value);
    }
    for field in fields {
        if let Some(value) = payload.get_mut(field.name) {
            each_scalar(field, value, &mut |scalar, value| {
                text_to_date(scalar, value)
            })
            .map_err(|reason| unstorable(format!("field `{}`: {reason}", field.name)))?;
        }
    }
    Ok(payload)
}

/// The struct from a document, which may hold the envelope and fields of a newer version as well.
///
/// A field that the document lacks gets its default from the definition. Fields that an earlier version
/// of the kind wrote are upgraded first; see [`Upgrade`](crate::Upgrade).
///
/// # Errors
/// [`Error::Undecodable`] names the field that does not fit.
pub fn decode<T: DeserializeOwned>(definition: &Definition, document: &Document) -> Result<T> {
    let mut own = without_foreign(definition, document);
    version::upgrade(definition, document, &mut own)
        .and_then(|()| decode_fields(definition.fields, own))
        .map_err(|reason| Error::Undecodable {
            id: document.get(name::ID).map(id_text).unwrap_or_default(),
            kind: definition.kind.into(),
            reason,
        })
}

/// What of `document` belongs neither to the envelope nor to a concern.
pub(crate) fn without_foreign(definition: &Definition, document: &Document) -> Document {
    document
        .iter()
        .filter(|(key, _)| !name::is_envelope(key) && !is_of_concern(definition, key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Any struct whose fields are known, from its stored form.
pub(crate) fn decode_fields<T: DeserializeOwned>(
    fields: &[FieldDefinition],
    mut payload: Document,
) -> Result<T, String> {
    for field in fields {
        match payload.get_mut(field.name) {
            // An optional field that was cleared is null, and stays so.
            Some(Bson::Null) if field.optional => {}
            Some(value) if !matches!(value, Bson::Null) => {
                // What is no date stays as it is: the decoder then says what is wrong.
                let _: Result<(), String> = each_scalar(field, value, &mut |scalar, value| {
                    date_to_text(scalar, value);
                    Ok(())
                });
            }
            _ => match field.default {
                Some(default) => {
                    payload.insert(field.name, default());
                }
                None => {
                    payload.remove(field.name);
                }
            },
        }
    }
    bson::deserialize_from_document(payload).map_err(|error| error.to_string())
}

fn is_of_concern(definition: &Definition, key: &str) -> bool {
    definition
        .concerns
        .iter()
        .any(|concern| concern.fields().iter().any(|field| field.name == key))
}

/// The form of a field's default that the decoder reads; null when it does not serialize.
pub fn default_value<T: Serialize>(value: &T) -> Bson {
    bson::serialize_to_bson(value).unwrap_or(Bson::Null)
}

/// The text of an id of any type.
pub fn id_text(id: &Bson) -> String {
    match id {
        Bson::ObjectId(id) => id.to_hex(),
        other => other.to_string(),
    }
}

/// A time as the store keeps it.
pub fn date(time: Timestamp) -> Bson {
    Bson::DateTime(DateTime::from_millis(time.as_millisecond()))
}

/// A stored time, or `None` when it lies outside what can be told.
pub fn timestamp(date: DateTime) -> Option<Timestamp> {
    Timestamp::from_millisecond(date.timestamp_millis()).ok()
}

/// A whole number as the store keeps it.
pub fn integer(number: i64) -> Bson {
    i32::try_from(number).map_or(Bson::Int64(number), Bson::Int32)
}

/// The number in `value`, if it is a whole one.
pub fn whole_number(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        _ => None,
    }
}

/// A value with its whole numbers as the store keeps them.
pub(crate) fn narrowed(mut value: Bson) -> Bson {
    narrow_integers(&mut value);
    value
}

pub(crate) fn narrow_integers(value: &mut Bson) {
    match value {
        Bson::Int64(number) => *value = integer(*number),
        Bson::Array(items) => items.iter_mut().for_each(narrow_integers),
        Bson::Document(document) => document
            .iter_mut()
            .for_each(|(_, value)| narrow_integers(value)),
        _ => {}
    }
}

fn each_scalar(
    field: &FieldDefinition,
    value: &mut Bson,
    act: &mut impl FnMut(ScalarType, &mut Bson) -> Result<(), String>,
) -> Result<(), String> {
    if !field.via_text {
        return Ok(());
    }
    match (field.field_type, value) {
        (FieldType::One(scalar), value) => act(scalar, value),
        (FieldType::Array(scalar), Bson::Array(items)) => {
            items.iter_mut().try_for_each(|item| act(scalar, item))
        }
        (FieldType::Map(scalar), Bson::Document(map)) => {
            map.iter_mut().try_for_each(|(_, item)| act(scalar, item))
        }
        _ => Ok(()),
    }
}

pub(crate) fn text_to_date(scalar: ScalarType, value: &mut Bson) -> Result<(), String> {
    let Bson::String(text) = value else {
        return Ok(());
    };
    let time = match scalar {
        ScalarType::Time => text
            .parse::<Timestamp>()
            .map_err(|error| error.to_string())?,
        ScalarType::Date => {
            let day = text.parse::<Date>().map_err(|error| error.to_string())?;
            day.to_zoned_datetime(TimeZone::UTC)
                .map_err(|error| error.to_string())?
                .timestamp()
        }
        _ => return Ok(()),
    };
    // Rounded towards the past on both sides of 1970, so that a time read back is never later.
    let millis = i64::try_from(time.as_nanosecond().div_euclid(1_000_000))
        .map_err(|error| error.to_string())?;
    *value = Bson::DateTime(DateTime::from_millis(millis));
    Ok(())
}

fn date_to_text(scalar: ScalarType, value: &mut Bson) {
    let Bson::DateTime(stored) = value else {
        return;
    };
    let Some(time) = timestamp(*stored) else {
        return;
    };
    match scalar {
        ScalarType::Time => *value = Bson::String(time.to_string()),
        ScalarType::Date => {
            *value = Bson::String(time.to_zoned_datetime(TimeZone::UTC).date().to_string());
        }
        _ => {}
    }
}
