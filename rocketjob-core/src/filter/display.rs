//! A condition as text that reads back as the same condition.

use std::fmt::{self, Display, Formatter, Write};

use bson::Bson;

use super::{
    Filter,
    value::{Meaning, Value, guess, meaning},
};
use crate::{encoding::timestamp, name, state::State};

/// The text form; see [`Filter::parse`]. Values that no text stands for, such as documents, are
/// shown and do not read back.
impl Display for Filter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::And(filters) => joined(f, filters, " ", "*"),
            Self::Or(filters) => joined(f, filters, " or ", "not *"),
            Self::Not(filter) => {
                f.write_str("not ")?;
                grouped(f, filter)
            }
            Self::Eq(path, value) => condition(f, path, "", value),
            Self::Ne(path, value) => condition(f, path, "!=", value),
            Self::Lt(path, value) => condition(f, path, "<", value),
            Self::Lte(path, value) => condition(f, path, "<=", value),
            Self::Gt(path, value) => condition(f, path, ">", value),
            Self::Gte(path, value) => condition(f, path, ">=", value),
            Self::In(path, values) => list(f, path, values),
            Self::Exists(path, wanted) => {
                f.write_str(if *wanted { "" } else { "not " })?;
                field(f, path)?;
                f.write_char('*')
            }
            Self::Prefix(path, text) => {
                field(f, path)?;
                quoted(f, text)?;
                f.write_char('*')
            }
            Self::Contains(path, text) => {
                field(f, path)?;
                f.write_char('~')?;
                quoted(f, text)
            }
        }
    }
}

fn joined(f: &mut Formatter<'_>, filters: &[Filter], with: &str, none: &str) -> fmt::Result {
    if filters.is_empty() {
        return f.write_str(none);
    }
    for (index, filter) in filters.iter().enumerate() {
        if index > 0 {
            f.write_str(with)?;
        }
        grouped(f, filter)?;
    }
    Ok(())
}

fn grouped(f: &mut Formatter<'_>, filter: &Filter) -> fmt::Result {
    match filter {
        Filter::And(filters) | Filter::Or(filters) if filters.len() != 1 => write!(f, "({filter})"),
        _ => filter.fmt(f),
    }
}

fn condition(f: &mut Formatter<'_>, path: &str, operator: &str, wanted: &Bson) -> fmt::Result {
    field(f, path)?;
    f.write_str(operator)?;
    value(f, path, wanted)
}

/// A list of one has no form of its own; none at all is nothing.
fn list(f: &mut Formatter<'_>, path: &str, values: &[Bson]) -> fmt::Result {
    if values.is_empty() {
        return f.write_str("not *");
    }
    field(f, path)?;
    for (index, wanted) in values.iter().enumerate() {
        if index > 0 {
            f.write_char(',')?;
        }
        value(f, path, wanted)?;
    }
    Ok(())
}

fn field(f: &mut Formatter<'_>, path: &str) -> fmt::Result {
    match path {
        name::KIND => f.write_str("kind")?,
        name::ID => f.write_str("id")?,
        "kind" | "id" | "worker" | "error" => quoted(f, path)?,
        path if is_plain(path) => f.write_str(path)?,
        path => quoted(f, path)?,
    }
    f.write_char(':')
}

fn value(f: &mut Formatter<'_>, path: &str, value: &Bson) -> fmt::Result {
    match value {
        Bson::String(text) => {
            let stands_for_itself = match meaning(path) {
                Meaning::Text => true,
                Meaning::State => State::from_name(text).is_some(),
                Meaning::Any => {
                    guess(text, jiff::Timestamp::UNIX_EPOCH) == Value::One(value.clone())
                }
                _ => false,
            };
            if is_plain(text) && text != "null" && stands_for_itself {
                f.write_str(text)
            } else {
                quoted(f, text)
            }
        }
        Bson::DateTime(date) => match timestamp(*date) {
            Some(time) => write!(f, "{time}"),
            None => write!(f, "{date}"),
        },
        Bson::ObjectId(id) => f.write_str(&id.to_hex()),
        Bson::Double(number) => write!(f, "{number:?}"),
        other => write!(f, "{other}"),
    }
}

/// Whether a text can stand without quotation marks.
fn is_plain(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
        && !text.contains("..")
}

fn quoted(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            f.write_char('\\')?;
        }
        f.write_char(character)?;
    }
    f.write_char('"')
}
