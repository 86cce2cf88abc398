//! Values as people write them: what a word means for a field.

use std::time::Duration;

use bson::{Bson, DateTime, oid::ObjectId};
use jiff::{
    Timestamp,
    civil::{Date, DateTime as CivilDateTime},
    tz::TimeZone,
};

use super::Filter;
use crate::{clock::in_milliseconds, encoding::integer, name, state::State};

/// What the words for a field are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Whatever they look like.
    Any,
    /// Text.
    Text,
    /// The name of a state.
    State,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A point in time.
    Time,
    /// An ObjectId.
    Id,
}

/// What a word stands for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// A single value.
    One(Bson),
    /// A day: from its first moment to that of the next.
    Day(DateTime, DateTime),
}

impl Value {
    /// The condition that the field at `path` compares so with it.
    pub(super) fn compared(self, path: &str, operator: &str) -> Filter {
        let (value, next) = match self {
            Self::One(value) => (value.clone(), value),
            Self::Day(start, next) => return day(path, operator, start, next),
        };
        match operator {
            "!=" => Filter::ne(path, value),
            "<" => Filter::lt(path, value),
            "<=" => Filter::lte(path, next),
            ">" => Filter::gt(path, next),
            ">=" => Filter::gte(path, value),
            _ => Filter::eq(path, value),
        }
    }
}

/// A day is before, on or after another; only as a whole.
fn day(path: &str, operator: &str, start: DateTime, next: DateTime) -> Filter {
    let on = || Filter::And(vec![Filter::gte(path, start), Filter::lt(path, next)]);
    match operator {
        "!=" => !on(),
        "<" => Filter::lt(path, start),
        "<=" => Filter::lt(path, next),
        ">" => Filter::gte(path, next),
        ">=" => Filter::gte(path, start),
        _ => on(),
    }
}

/// A point in time as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// This moment.
    At(DateTime),
    /// The day that begins at this moment, in UTC.
    Day(DateTime),
}

impl Moment {
    /// The moment, or that at which the day begins.
    pub fn start(self) -> DateTime {
        match self {
            Self::At(start) | Self::Day(start) => start,
        }
    }
}

/// The time in `text`, as in conditions: `2d` (two days before `now`), `+1h`, `now`, `tomorrow`,
/// `2026-01-31`, `2026-01-31T12:00`.
pub fn moment(text: &str, now: Timestamp) -> Option<Moment> {
    match named_time(text, now).or_else(|| time(text, now))? {
        Value::One(Bson::DateTime(time)) => Some(Moment::At(time)),
        Value::Day(start, _) => Some(Moment::Day(start)),
        Value::One(_) => None,
    }
}

/// What the words for the field at `path` mean.
pub(super) fn meaning(path: &str) -> Meaning {
    match path {
        name::STATE => Meaning::State,
        name::ID => Meaning::Id,
        name::KIND
        | name::DESCRIPTION
        | name::LOG_LEVEL
        | name::WORKER_NAME
        | name::THROTTLE_GROUP
        | name::SUB_STATE
        | name::HOLD
        | name::CLAIM
        | name::UNIQUE_KEY
        | name::UNFINISHED_KEY
        | "exception.class_name"
        | "exception.message" => Meaning::Text,
        name::PRIORITY
        | name::FAILURE_COUNT
        | name::PERCENT_COMPLETE
        | name::LOST_CLAIMS
        | name::RECORD_COUNT => Meaning::Number,
        name::READY | name::DESTROY_ON_COMPLETE => Meaning::Boolean,
        name::RUN_AT
        | name::EXPIRES_AT
        | name::CREATED_AT
        | name::STARTED_AT
        | name::COMPLETED_AT => Meaning::Time,
        _ => Meaning::Any,
    }
}

/// The value of `word` for a field, at the time `now`; or what is wrong with it.
pub(super) fn read(
    meaning: Meaning,
    path: &str,
    word: &str,
    now: Timestamp,
) -> Result<Value, String> {
    if word == "null" && meaning != Meaning::Text {
        return Ok(Value::One(Bson::Null));
    }
    let one = |value: Option<Bson>, expected: &str| {
        let wrong = || format!("`{path}` takes {expected}, and not `{word}`");
        value.map(Value::One).ok_or_else(wrong)
    };
    match meaning {
        Meaning::Text => Ok(Value::One(word.into())),
        Meaning::State => state(word).map(Value::One),
        Meaning::Number => one(number(word), "a number"),
        Meaning::Boolean => one(boolean(word), "`true` or `false`"),
        Meaning::Id => one(id(word), "an id of 24 hexadecimal digits"),
        Meaning::Time => named_time(word, now)
            .or_else(|| time(word, now))
            .ok_or_else(|| {
                format!(
                    "`{path}` takes a time such as `2d` (two days ago), `+1h`, `2026-01-31` or \
                     `2026-01-31T12:00`, and not `{word}`"
                )
            }),
        Meaning::Any => Ok(guess(word, now)),
    }
}

/// What a word for a field looks like of which nothing is known.
pub(super) fn guess(word: &str, now: Timestamp) -> Value {
    let plain = boolean(word).or_else(|| id(word)).or_else(|| number(word));
    plain
        .map(Value::One)
        .or_else(|| time(word, now))
        .unwrap_or_else(|| Value::One(word.into()))
}

fn state(word: &str) -> Result<Bson, String> {
    State::from_name(word)
        .map(|state| state.as_str().into())
        .ok_or_else(|| {
            let names: Vec<_> = State::ALL.into_iter().map(State::as_str).collect();
            format!(
                "`{word}` is no state: expected one of {}, or `scheduled` alone",
                names.join(", ")
            )
        })
}

fn boolean(word: &str) -> Option<Bson> {
    word.parse().ok().map(Bson::Boolean)
}

fn id(word: &str) -> Option<Bson> {
    ObjectId::parse_str(word).ok().map(Bson::ObjectId)
}

fn number(word: &str) -> Option<Bson> {
    // `inf`, `nan` and the like are words.
    let digits = word.strip_prefix(['-', '+']).unwrap_or(word);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let whole = word.parse().ok().map(integer);
    whole.or_else(|| {
        let number: f64 = word.parse().ok()?;
        number.is_finite().then_some(Bson::Double(number))
    })
}

fn named_time(word: &str, now: Timestamp) -> Option<Value> {
    let today = now.to_zoned_datetime(TimeZone::UTC).date();
    match word {
        "now" => Some(at(now)),
        "today" => whole_day(today),
        "yesterday" => whole_day(today.yesterday().ok()?),
        "tomorrow" => whole_day(today.tomorrow().ok()?),
        _ => None,
    }
}

/// A date, a moment, or a time before now (`2d`, `1h30m`) or after it (`+2d`).
pub(super) fn time(word: &str, now: Timestamp) -> Option<Value> {
    if let Some(ahead) = word.strip_prefix('+') {
        return Some(at(now.checked_add(length(ahead)?).ok()?));
    }
    if let Some(ago) = length(word) {
        return Some(at(now.checked_sub(ago).ok()?));
    }
    if let Ok(time) = word.parse::<Timestamp>() {
        return Some(at(time));
    }
    if !word.contains(['T', 't']) {
        return whole_day(word.parse::<Date>().ok()?);
    }
    let civil: CivilDateTime = word.parse().ok()?;
    Some(at(civil.to_zoned_datetime(TimeZone::UTC).ok()?.timestamp()))
}

/// How long `1h30m` is.
fn length(word: &str) -> Option<Duration> {
    let mut rest = word;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        let (unit, behind) = rest.get(digits..)?.split_at_checked(1)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            "w" => 604_800,
            _ => return None,
        };
        total = total.checked_add(Duration::from_secs(number.checked_mul(seconds)?))?;
        rest = behind;
    }
    (!word.is_empty()).then_some(total)
}

fn at(time: Timestamp) -> Value {
    let millis = in_milliseconds(time).as_millisecond();
    Value::One(Bson::DateTime(DateTime::from_millis(millis)))
}

fn whole_day(day: Date) -> Option<Value> {
    let start = |day: Date| -> Option<DateTime> {
        let start = day.to_zoned_datetime(TimeZone::UTC).ok()?.timestamp();
        Some(DateTime::from_millis(start.as_millisecond()))
    };
    Some(Value::Day(start(day)?, start(day.tomorrow().ok()?)?))
}
