//! The filter language: conditions on stored fields that every store translates.
//!
//! People write it as text (`text.rs`), or in the original's JSON (`json.rs`).
//!
//! Its meaning is MongoDB's: absent and null are one value, a number equals a number of another
//! width, a condition on an array holds when it holds for the whole or for one element, and a
//! range compares only values of one type.

mod display;
mod json;
mod query;
mod text;
mod value;

use std::{cmp::Ordering, ops::Not};

use bson::{Bson, Document, oid::ObjectId};
use serde::{Deserialize, Serialize};

use crate::{name, state::State};

pub use query::{Cursor, DEFAULT_LIMIT, Query, ReadFrom, Sort};
pub use text::FilterError;
pub use value::{Moment, moment};

/// A condition on a job's document. Paths are stored names, dotted into nested documents.
///
/// ```
/// use rocketjob_core::Filter;
///
/// let filter = Filter::eq("customer.country", "CH").and(Filter::gte("amount", 100));
/// assert!(filter.matches(&bson::doc! { "customer": { "country": "CH" }, "amount": 150.5 }));
/// assert!(!filter.matches(&bson::doc! { "customer": { "country": "CH" }, "amount": "150" }));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Filter {
    /// Equal; equal to null means absent or null.
    Eq(String, Bson),
    /// Not equal.
    Ne(String, Bson),
    /// Equal to one of these.
    In(String, Vec<Bson>),
    /// Less than.
    Lt(String, Bson),
    /// Less than or equal.
    Lte(String, Bson),
    /// Greater than.
    Gt(String, Bson),
    /// Greater than or equal.
    Gte(String, Bson),
    /// Present and not null, or the opposite.
    Exists(String, bool),
    /// Text that begins with this.
    Prefix(String, String),
    /// Text that has this somewhere in it, whatever the case of its ASCII letters.
    Contains(String, String),
    /// Not this.
    Not(Box<Filter>),
    /// All of these; none at all matches everything.
    And(Vec<Filter>),
    /// At least one of these; none at all matches nothing.
    Or(Vec<Filter>),
}

impl Filter {
    /// Matches every job.
    pub const fn all() -> Self {
        Self::And(Vec::new())
    }

    /// `path` equals `value`.
    pub fn eq(path: impl Into<String>, value: impl Into<Bson>) -> Self {
        Self::Eq(path.into(), value.into())
    }

    /// `path` differs from `value`.
    pub fn ne(path: impl Into<String>, value: impl Into<Bson>) -> Self {
        Self::Ne(path.into(), value.into())
    }

    /// `path` equals one of `values`.
    pub fn is_in<V: Into<Bson>>(
        path: impl Into<String>,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        Self::In(path.into(), values.into_iter().map(Into::into).collect())
    }

    /// `path` is less than `value`.
    pub fn lt(path: impl Into<String>, value: impl Into<Bson>) -> Self {
        Self::Lt(path.into(), value.into())
    }

    /// `path` is at most `value`.
    pub fn lte(path: impl Into<String>, value: impl Into<Bson>) -> Self {
        Self::Lte(path.into(), value.into())
    }

    /// `path` is greater than `value`.
    pub fn gt(path: impl Into<String>, value: impl Into<Bson>) -> Self {
        Self::Gt(path.into(), value.into())
    }

    /// `path` is at least `value`.
    pub fn gte(path: impl Into<String>, value: impl Into<Bson>) -> Self {
        Self::Gte(path.into(), value.into())
    }

    /// `path` is present and not null.
    pub fn exists(path: impl Into<String>) -> Self {
        Self::Exists(path.into(), true)
    }

    /// `path` is absent or null.
    pub fn missing(path: impl Into<String>) -> Self {
        Self::Exists(path.into(), false)
    }

    /// `path` is text that begins with `text`.
    pub fn prefix(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Prefix(path.into(), text.into())
    }

    /// `path` is text that has `text` somewhere in it, whatever the case of its ASCII letters.
    pub fn contains(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Contains(path.into(), text.into())
    }

    /// The job is in `state`.
    pub fn state(state: State) -> Self {
        Self::eq(name::STATE, state.as_str())
    }

    /// The job is in one of `states`.
    pub fn states(states: impl IntoIterator<Item = State>) -> Self {
        Self::is_in(name::STATE, states.into_iter().map(State::as_str))
    }

    /// The job is of one of these kinds.
    pub fn kinds<K: Into<Bson>>(kinds: impl IntoIterator<Item = K>) -> Self {
        Self::is_in(name::KIND, kinds)
    }

    /// The job has one of these ids.
    pub fn ids(ids: impl IntoIterator<Item = ObjectId>) -> Self {
        Self::is_in(name::ID, ids)
    }

    /// Both this and `other`.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::And(mut all), Self::And(more)) => {
                all.extend(more);
                Self::And(all)
            }
            (Self::And(mut all), one) => {
                all.push(one);
                Self::And(all)
            }
            (one, Self::And(mut all)) => {
                all.insert(0, one);
                Self::And(all)
            }
            (one, other) => Self::And(vec![one, other]),
        }
    }

    /// This or `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match self {
            Self::Or(mut any) => {
                any.push(other);
                Self::Or(any)
            }
            one => Self::Or(vec![one, other]),
        }
    }

    /// Whether `document` meets the condition; the definition of the language's meaning.
    pub fn matches(&self, document: &Document) -> bool {
        match self {
            Self::Eq(path, value) => any_value(document, path, &|found| equal(found, value)),
            Self::Ne(path, value) => !any_value(document, path, &|found| equal(found, value)),
            Self::In(path, values) => any_value(document, path, &|found| {
                values.iter().any(|value| equal(found, value))
            }),
            Self::Lt(path, value) => any_value(document, path, &|found| {
                compare(found, value) == Some(Ordering::Less)
            }),
            Self::Lte(path, value) => any_value(document, path, &|found| {
                compare(found, value).is_some_and(Ordering::is_le)
            }),
            Self::Gt(path, value) => any_value(document, path, &|found| {
                compare(found, value) == Some(Ordering::Greater)
            }),
            Self::Gte(path, value) => any_value(document, path, &|found| {
                compare(found, value).is_some_and(Ordering::is_ge)
            }),
            // `$ne: null` of MongoDB: no element is null either.
            Self::Exists(path, wanted) => {
                any_value(document, path, &|found| *found == Bson::Null) != *wanted
            }
            Self::Prefix(path, text) => any_value(document, path, &|found| match found {
                Bson::String(found) => found.starts_with(text.as_str()),
                _ => false,
            }),
            Self::Contains(path, text) => any_value(document, path, &|found| match found {
                Bson::String(found) => contains(found, text),
                _ => false,
            }),
            Self::Not(filter) => !filter.matches(document),
            Self::And(filters) => filters.iter().all(|filter| filter.matches(document)),
            Self::Or(filters) => filters.iter().any(|filter| filter.matches(document)),
        }
    }
}

/// `!filter`: the opposite, in the simplest form that has the same meaning.
impl Not for Filter {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::Eq(path, value) => Self::Ne(path, value),
            Self::Ne(path, value) => Self::Eq(path, value),
            Self::Exists(path, wanted) => Self::Exists(path, !wanted),
            Self::Not(filter) => *filter,
            Self::And(filters) if filters.is_empty() => Self::Or(filters),
            Self::Or(filters) if filters.is_empty() => Self::And(filters),
            other => Self::Not(Box::new(other)),
        }
    }
}

fn contains(found: &str, text: &str) -> bool {
    found
        .to_ascii_lowercase()
        .contains(&text.to_ascii_lowercase())
}

/// Whether `test` holds for the value at `path`, or for one of its elements; absent counts as null.
fn any_value(document: &Document, path: &str, test: &dyn Fn(&Bson) -> bool) -> bool {
    let (head, rest) = match path.split_once('.') {
        Some((head, rest)) => (head, Some(rest)),
        None => (path, None),
    };
    match (document.get(head), rest) {
        (Some(value), None) => match value {
            Bson::Array(items) => test(value) || items.iter().any(test),
            value => test(value),
        },
        (Some(Bson::Document(inner)), Some(rest)) => any_value(inner, rest, test),
        (Some(Bson::Array(items)), Some(rest)) => in_array(items, rest, test),
        // Nothing there, or nothing that a path leads into.
        _ => test(&Bson::Null),
    }
}

/// A path that leads into an array means its documents, or the element of that number.
fn in_array(items: &[Bson], path: &str, test: &dyn Fn(&Bson) -> bool) -> bool {
    let (head, rest) = path
        .split_once('.')
        .map_or((path, None), |(head, rest)| (head, Some(rest)));
    let numbered = head
        .parse::<usize>()
        .ok()
        .and_then(|index| items.get(index))
        .is_some_and(|item| match (item, rest) {
            (item, None) => test(item),
            (Bson::Document(inner), Some(rest)) => any_value(inner, rest, test),
            _ => false,
        });
    numbered
        || items
            .iter()
            .any(|item| matches!(item, Bson::Document(inner) if any_value(inner, path, test)))
}

/// Equality as stores see it: numbers by value, everything else by type and value.
pub fn equal(left: &Bson, right: &Bson) -> bool {
    match compare(left, right) {
        Some(ordering) => ordering.is_eq(),
        None => left == right,
    }
}

/// The order of two values of one type; `None` where there is none.
pub fn compare(left: &Bson, right: &Bson) -> Option<Ordering> {
    match (left, right) {
        (Bson::String(left), Bson::String(right)) => Some(left.cmp(right)),
        (Bson::Boolean(left), Bson::Boolean(right)) => Some(left.cmp(right)),
        (Bson::DateTime(left), Bson::DateTime(right)) => Some(left.cmp(right)),
        (Bson::ObjectId(left), Bson::ObjectId(right)) => Some(left.cmp(right)),
        (Bson::Double(left), Bson::Double(right)) => left.partial_cmp(right),
        (Bson::Double(left), right) => whole(right).and_then(|right| left.partial_cmp(&right)),
        (left, Bson::Double(right)) => whole(left).and_then(|left| left.partial_cmp(right)),
        (left, right) => {
            Some(crate::encoding::whole_number(left)?.cmp(&crate::encoding::whole_number(right)?))
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a comparison with a double is no more exact than a double"
)]
fn whole(value: &Bson) -> Option<f64> {
    crate::encoding::whole_number(value).map(|number| number as f64)
}

#[cfg(test)]
mod tests;
