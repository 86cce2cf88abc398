//! Values of fields as people give them, as JSON or as text, in the form in which they are stored.

use bson::{Bson, DateTime};
use jiff::Timestamp;

use crate::{
    encoding::{narrow_integers, text_to_date},
    field::{FieldType, ScalarType},
    filter::{Moment, moment},
};

/// A value of JSON for a field of this type, as it is stored.
///
/// # Errors
/// What the field takes, as the second half of a sentence.
pub(crate) fn stored(field: FieldType, mut value: Bson) -> Result<Bson, String> {
    narrow_integers(&mut value);
    match (field, value) {
        (_, Bson::Null) => Ok(Bson::Null),
        (FieldType::One(scalar), value) => one(scalar, value),
        (FieldType::Array(scalar), Bson::Array(items)) => items
            .into_iter()
            .map(|item| one(scalar, item))
            .collect::<Result<_, _>>()
            .map(Bson::Array),
        (FieldType::Map(scalar), Bson::Document(map)) => map
            .into_iter()
            .map(|(key, item)| Ok((key, one(scalar, item)?)))
            .collect::<Result<_, String>>()
            .map(Bson::Document),
        (FieldType::Array(_), other) => Err(format!("takes a list, and not {other}")),
        (FieldType::Map(_), other) => Err(format!("takes an object, and not {other}")),
    }
}

fn one(scalar: ScalarType, value: Bson) -> Result<Bson, String> {
    let expected = match (scalar, &value) {
        (_, Bson::Null)
        | (ScalarType::Any, _)
        | (ScalarType::String, Bson::String(_))
        | (ScalarType::Integer, Bson::Int32(_) | Bson::Int64(_))
        | (ScalarType::Float, Bson::Double(_))
        | (ScalarType::Boolean, Bson::Boolean(_))
        | (ScalarType::Time | ScalarType::Date, Bson::DateTime(_))
        | (ScalarType::ObjectId, Bson::ObjectId(_))
        | (ScalarType::Binary, Bson::Binary(_))
        | (ScalarType::Document, Bson::Document(_)) => return Ok(value),
        (ScalarType::Float, Bson::Int32(number)) => return Ok(f64::from(*number).into()),
        (ScalarType::ObjectId, Bson::String(text)) => {
            if let Ok(id) = text.parse() {
                return Ok(Bson::ObjectId(id));
            }
            "an id of 24 hexadecimal digits"
        }
        (ScalarType::Time | ScalarType::Date, Bson::String(_)) => {
            let mut date = value.clone();
            if text_to_date(scalar, &mut date).is_ok() {
                return Ok(date);
            }
            "a date such as 2026-01-31, for a time with 12:00:00Z behind it"
        }
        (ScalarType::String, _) => "a text",
        (ScalarType::Integer, _) => "a whole number",
        (ScalarType::Float, _) => "a number",
        (ScalarType::Boolean, _) => "true or false",
        (ScalarType::Time, _) => "a time",
        (ScalarType::Date, _) => "a date",
        (ScalarType::ObjectId, _) => "an id of 24 hexadecimal digits",
        (ScalarType::Binary, _) => "bytes in extended JSON",
        (ScalarType::Document, _) => "an object",
    };
    Err(format!("takes {expected}, and not {value}"))
}

/// A text that somebody typed for a field of this type, as it is stored. `null` takes the value
/// away; times may be relative to `now`, as in conditions.
///
/// # Errors
/// What the field takes, as the second half of a sentence.
pub(crate) fn typed(field: FieldType, text: &str, now: Timestamp) -> Result<Bson, String> {
    if text == "null" {
        return Ok(Bson::Null);
    }
    let json = || {
        let value: Option<serde_json::Value> = serde_json::from_str(text).ok();
        value.map(Bson::try_from)
    };
    let value = match field {
        FieldType::One(ScalarType::String) => {
            return Ok(match json() {
                // Quoted, for a text such as `null`.
                Some(Ok(Bson::String(quoted))) => quoted.into(),
                _ => text.into(),
            });
        }
        FieldType::One(ScalarType::Time) => match moment(text, now) {
            Some(Moment::At(time) | Moment::Day(time)) => return Ok(Bson::DateTime(time)),
            None => Bson::String(text.into()),
        },
        FieldType::One(ScalarType::Date) => match moment(text, now) {
            Some(Moment::Day(day)) => return Ok(Bson::DateTime(day)),
            _ => Bson::String(text.into()),
        },
        _ => match json() {
            Some(Ok(value)) => value,
            _ => Bson::String(text.into()),
        },
    };
    stored(field, value)
}

/// The date in a value.
pub(crate) fn date_of(value: &Bson) -> Option<DateTime> {
    match value {
        Bson::DateTime(date) => Some(*date),
        _ => None,
    }
}
