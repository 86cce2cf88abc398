//! The original's form of conditions: a safe subset of MongoDB's operators, as JSON.

use bson::Bson;
use jiff::Timestamp;
use serde_json::{Map, Value as Json};

use super::{
    Filter,
    text::{FilterError, MOST_LEVELS, only},
    value::{Meaning, Value, meaning, read},
};
use crate::encoding::narrowed;

const KNOWN: &str = "$eq, $ne, $in, $nin, $lt, $lte, $gt, $gte, $exists, $not, $regex (`^text` \
                     alone), $and, $or, $nor";

/// Reads the JSON form, at the time `now`.
pub(super) fn parse(text: &str, now: Timestamp) -> Result<Filter, FilterError> {
    let json: Json = serde_json::from_str(text).map_err(|error| FilterError {
        position: character(text, error.line(), error.column()),
        problem: format!("no valid JSON: {error}"),
    })?;
    let reader = Reader { now };
    let read = match &json {
        Json::Object(conditions) => reader.all(conditions, 0),
        _ => Err("expected an object".to_owned()),
    };
    read.map_err(|problem| FilterError {
        position: 1,
        problem,
    })
}

struct Reader {
    now: Timestamp,
}

impl Reader {
    fn all(&self, conditions: &Map<String, Json>, level: usize) -> Result<Filter, String> {
        if level > MOST_LEVELS {
            return Err(format!("nested deeper than {MOST_LEVELS} levels"));
        }
        let mut all = Vec::new();
        for (key, value) in conditions {
            match key.as_str() {
                "$and" => all.push(only(self.each(key, value, level)?, Filter::And)),
                "$or" => all.push(only(self.each(key, value, level)?, Filter::Or)),
                "$nor" => all.push(!only(self.each(key, value, level)?, Filter::Or)),
                operator if operator.starts_with('$') => return Err(unknown(operator)),
                path => all.push(self.field(path, value, level)?),
            }
        }
        Ok(only(all, Filter::And))
    }

    fn each(&self, operator: &str, value: &Json, level: usize) -> Result<Vec<Filter>, String> {
        let list = value.as_array().filter(|list| !list.is_empty());
        let list = list.ok_or_else(|| format!("`{operator}` takes a list of conditions"))?;
        let each = list.iter().map(|one| match one {
            Json::Object(conditions) => self.all(conditions, level + 1),
            other => Err(format!("`{operator}` takes conditions, and not {other}")),
        });
        each.collect()
    }

    /// What is asked of one field: a value, or operators.
    fn field(&self, path: &str, value: &Json, level: usize) -> Result<Filter, String> {
        if level > MOST_LEVELS {
            return Err(format!("nested deeper than {MOST_LEVELS} levels"));
        }
        let operators = value
            .as_object()
            .filter(|object| !object.is_empty() && object.keys().all(|key| is_operator(key)));
        let Some(operators) = operators else {
            return Ok(self.value(path, value)?.compared(path, "="));
        };
        let mut all = Vec::new();
        for (operator, value) in operators {
            all.push(self.operator(path, operator, value, level)?);
        }
        Ok(only(all, Filter::And))
    }

    fn operator(
        &self,
        path: &str,
        operator: &str,
        value: &Json,
        level: usize,
    ) -> Result<Filter, String> {
        let compared = |sign| Ok(self.value(path, value)?.compared(path, sign));
        match operator {
            "$eq" => compared("="),
            "$ne" => compared("!="),
            "$lt" => compared("<"),
            "$lte" => compared("<="),
            "$gt" => compared(">"),
            "$gte" => compared(">="),
            "$in" => self.one_of(path, value),
            "$nin" => Ok(!self.one_of(path, value)?),
            "$exists" => match value {
                Json::Bool(wanted) => Ok(Filter::Exists(path.into(), *wanted)),
                other => Err(format!(
                    "`$exists` of `{path}` takes true or false, and not {other}"
                )),
            },
            "$not" => Ok(!self.field(path, value, level + 1)?),
            "$regex" => regex(path, value),
            other => Err(unknown(other)),
        }
    }

    fn one_of(&self, path: &str, value: &Json) -> Result<Filter, String> {
        let list = value
            .as_array()
            .ok_or_else(|| format!("`$in` and `$nin` of `{path}` take a list, and not {value}"))?;
        let either: Vec<Filter> = list
            .iter()
            .map(|value| Ok(self.value(path, value)?.compared(path, "=")))
            .collect::<Result<_, String>>()?;
        let values: Option<Vec<Bson>> = either
            .iter()
            .map(|filter| match filter {
                Filter::Eq(_, value) => Some(value.clone()),
                _ => None,
            })
            .collect();
        Ok(match values {
            Some(values) => Filter::is_in(path, values),
            None => Filter::Or(either),
        })
    }

    /// A value. Text for a field that keeps a time or an id is read as one.
    fn value(&self, path: &str, json: &Json) -> Result<Value, String> {
        if let (Json::String(text), Meaning::Time | Meaning::Id | Meaning::State) =
            (json, meaning(path))
        {
            return read(meaning(path), path, text, self.now);
        }
        let value = Bson::try_from(json.clone())
            .map_err(|error| format!("the value of `{path}`: {error}"))?;
        Ok(Value::One(narrowed(value)))
    }
}

/// Whether a key of a value says what to do with it; those of extended JSON are values.
fn is_operator(key: &str) -> bool {
    let is_value = [
        "$oid",
        "$date",
        "$numberInt",
        "$numberLong",
        "$numberDouble",
        "$numberDecimal",
        "$binary",
        "$uuid",
    ];
    key.starts_with('$') && !is_value.contains(&key)
}

/// Only what stores find by their indexes, and what cannot take for ever.
fn regex(path: &str, value: &Json) -> Result<Filter, String> {
    let literal = value
        .as_str()
        .and_then(|pattern| pattern.strip_prefix('^'))
        .filter(|text| !text.contains(|c: char| r"\.[](){}*+?|^$".contains(c)));
    match literal {
        Some(text) => Ok(Filter::prefix(path, text)),
        None => Err(format!(
            "`$regex` of `{path}` takes `^text` alone; the text form has `{path}:~text`"
        )),
    }
}

fn unknown(operator: &str) -> String {
    format!("the operator `{operator}` is not known: expected one of {KNOWN}")
}

fn character(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text
        .lines()
        .take(line.saturating_sub(1))
        .map(|line| line.chars().count() + 1)
        .sum();
    before + column.max(1)
}
