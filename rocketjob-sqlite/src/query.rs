//! Filters as SQL, as far as the columns can tell exactly; the remainder is matched in Rust.
//!
//! What the columns say is only exact for rows that are no misfits. Whoever uses the conditions
//! therefore looks at the documents of misfits, of which there are hardly any.

use bson::{Bson, Document};
use rocketjob_core::{Filter, State, name, whole_number};
use rusqlite::types::Value;

use crate::row::{COLUMNS, Column, Kind, Row, key};

/// More values than this are compared in Rust: a statement takes only so many.
const MOST_VALUES: usize = 1_000;

/// A filter, split into what SQL decides and what it does not.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    /// Conditions joined by AND, `1` if there are none.
    pub(crate) sql: String,
    /// The values in `sql`.
    pub(crate) values: Vec<Value>,
    /// What must hold besides.
    rest: Option<Filter>,
    filter: Filter,
}

impl Condition {
    pub(crate) fn new(filter: &Filter) -> Self {
        let mut conjuncts = Vec::new();
        flatten(filter, &mut conjuncts);
        let mut parts = Vec::new();
        let mut values = Vec::new();
        let mut rest = Vec::new();
        for conjunct in conjuncts {
            match translate(conjunct) {
                Some((sql, more)) if values.len() + more.len() <= MOST_VALUES => {
                    parts.push(sql);
                    values.extend(more);
                }
                _ => rest.push(conjunct.clone()),
            }
        }
        if parts.is_empty() {
            parts.push("1".into());
        }
        Self {
            sql: parts.join(" AND "),
            values,
            rest: (!rest.is_empty()).then_some(Filter::And(rest)),
            filter: filter.clone(),
        }
    }

    /// Whether SQL decides alone, misfits aside.
    pub(crate) fn is_exact(&self) -> bool {
        self.rest.is_none()
    }

    /// Whether a row that SQL found meets the filter.
    pub(crate) fn matches(&self, row: &Row, document: &Document) -> bool {
        if row.is_misfit() {
            return self.filter.matches(document);
        }
        self.rest.as_ref().is_none_or(|rest| rest.matches(document))
    }
}

fn flatten<'f>(filter: &'f Filter, conjuncts: &mut Vec<&'f Filter>) {
    match filter {
        Filter::And(filters) => filters.iter().for_each(|filter| flatten(filter, conjuncts)),
        filter => conjuncts.push(filter),
    }
}

type Translation = Option<(String, Vec<Value>)>;

/// The same condition on columns, or `None` where they cannot tell.
fn translate(filter: &Filter) -> Translation {
    match filter {
        Filter::Eq(path, Bson::Null) => exists(path, false),
        Filter::Ne(path, Bson::Null) => exists(path, true),
        Filter::Exists(path, wanted) => exists(path, *wanted),
        Filter::Eq(path, value) => compare(path, "=", value),
        Filter::Ne(path, value) => compare(path, "IS NOT", value),
        Filter::Lt(path, value) => compare(path, "<", value),
        Filter::Lte(path, value) => compare(path, "<=", value),
        Filter::Gt(path, value) => compare(path, ">", value),
        Filter::Gte(path, value) => compare(path, ">=", value),
        Filter::In(path, values) => one_of(path, values),
        Filter::Prefix(path, text) => prefix(path, text),
        Filter::Not(filter) => {
            let (sql, values) = translate(filter)?;
            // What SQL does not know does not hold, so that its opposite does.
            Some((format!("NOT ifnull({sql}, 0)"), values))
        }
        Filter::And(filters) => join(filters, " AND ", "1"),
        Filter::Or(filters) => join(filters, " OR ", "0"),
        _ => None,
    }
}

fn join(filters: &[Filter], separator: &str, none: &str) -> Translation {
    let mut parts = Vec::new();
    let mut values = Vec::new();
    for filter in filters {
        let (sql, more) = translate(filter)?;
        parts.push(sql);
        values.extend(more);
    }
    let sql = if parts.is_empty() {
        none.to_owned()
    } else {
        format!("({})", parts.join(separator))
    };
    Some((sql, values))
}

/// The column of a field, unless the envelope allows values in it that it cannot express.
fn column(path: &str) -> Option<&'static Column> {
    COLUMNS
        .iter()
        .find(|column| column.field == path)
        .filter(|column| !matches!(column.field, name::READY | name::SUB_STATE))
}

fn exists(path: &str, wanted: bool) -> Translation {
    let sql = match (path, wanted) {
        (name::SUCCESSORS, true) => "successors = 1".to_owned(),
        (name::SUCCESSORS, false) => "successors IS NULL".to_owned(),
        (_, true) => format!("{} IS NOT NULL", column(path)?.name),
        (_, false) => format!("{} IS NULL", column(path)?.name),
    };
    Some((sql, Vec::new()))
}

fn compare(path: &str, operator: &str, value: &Bson) -> Translation {
    // As a literal: the planner then sees that a partial index will do.
    if path == name::STATE && operator == "=" {
        return Some((format!("state = {}", state(value)?), Vec::new()));
    }
    let (name, value) = operand(path, value)?;
    Some((format!("{name} {operator} ?"), vec![value]))
}

fn one_of(path: &str, values: &[Bson]) -> Translation {
    if path == name::STATE {
        let states: Option<Vec<_>> = values.iter().map(state).collect();
        return Some((format!("state IN ({})", states?.join(", ")), Vec::new()));
    }
    let mut name = column_name(path)?;
    let mut operands = Vec::with_capacity(values.len());
    for value in values {
        let (found, operand) = operand(path, value)?;
        name = found;
        operands.push(operand);
    }
    let marks = vec!["?"; operands.len()].join(", ");
    Some((format!("{name} IN ({marks})"), operands))
}

fn prefix(path: &str, text: &str) -> Translation {
    let column = column(path).filter(|column| column.kind == Kind::Text)?;
    let name = column.name;
    let start = Value::Text(text.to_owned());
    Some(match behind_prefix(text) {
        Some(end) => (
            format!("({name} >= ? AND {name} < ?)"),
            vec![start, Value::Text(end)],
        ),
        None => (format!("{name} >= ?"), vec![start]),
    })
}

/// The least text that is greater than all that begin with `prefix`.
fn behind_prefix(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        let next = match last {
            '\u{D7FF}' => Some('\u{E000}'),
            last => char::from_u32(u32::from(last) + 1),
        };
        if let Some(next) = next {
            end.push(next);
            return Some(end);
        }
    }
    None
}

fn column_name(path: &str) -> Option<&'static str> {
    if path == name::ID {
        return Some("id");
    }
    Some(column(path)?.name)
}

/// A column and a value of its type.
fn operand(path: &str, value: &Bson) -> Option<(&'static str, Value)> {
    if path == name::ID {
        return match value {
            Bson::ObjectId(_) => Some(("id", Value::Blob(key(value).ok()?))),
            _ => None,
        };
    }
    let column = column(path)?;
    let value = match (column.kind, value) {
        (Kind::Text, Bson::String(text)) => Value::Text(text.clone()),
        (Kind::Integer, value) => Value::Integer(whole_number(value)?),
        (Kind::Time, Bson::DateTime(time)) => Value::Integer(time.timestamp_millis()),
        _ => return None,
    };
    Some((column.name, value))
}

/// The name of a state as a literal.
fn state(value: &Bson) -> Option<String> {
    let state = State::from_name(value.as_str()?)?;
    Some(format!("'{state}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sql(filter: &Filter) -> (String, bool) {
        let condition = Condition::new(filter);
        (condition.sql.clone(), condition.is_exact())
    }

    #[test]
    fn simple_conditions_become_sql() {
        let filter = Filter::state(State::Failed)
            .and(Filter::kinds(["A", "B"]))
            .and(Filter::gte("priority", 10))
            .and(Filter::missing("hold"));
        assert_eq!(
            sql(&filter),
            (
                "state = 'failed' AND kind IN (?, ?) AND priority >= ? AND hold IS NULL".into(),
                true
            )
        );
    }

    #[test]
    fn what_columns_cannot_tell_is_left_to_the_filter() {
        for filter in [
            Filter::eq("recipient", "ann"),
            Filter::eq("priority", 5.5),
            Filter::eq("priority", "high"),
            Filter::eq("state", "sleeping"),
            Filter::eq("sub_state", "processing"),
        ] {
            assert_eq!(sql(&filter), ("1".into(), false), "{filter:?}");
        }
        let mixed = Filter::state(State::Queued).and(Filter::eq("recipient", "ann"));
        assert_eq!(sql(&mixed), ("state = 'queued'".into(), false));
        let either = Filter::state(State::Queued).or(Filter::eq("recipient", "ann"));
        assert_eq!(sql(&either), ("1".into(), false));
    }

    #[test]
    fn the_opposite_of_what_sql_does_not_know_holds() {
        let filter = !Filter::lt("priority", 10).or(Filter::state(State::Failed));
        let translated = "NOT ifnull((priority < ? OR state = 'failed'), 0)";
        assert_eq!(sql(&filter), (translated.into(), true));
        assert_eq!(sql(&!Filter::contains("own", "x")), ("1".into(), false));
    }

    #[test]
    fn the_end_of_a_prefix_is_the_next_text() {
        assert_eq!(behind_prefix("ab").as_deref(), Some("ac"));
        assert_eq!(behind_prefix("a\u{D7FF}").as_deref(), Some("a\u{E000}"));
        assert_eq!(behind_prefix("a\u{10FFFF}").as_deref(), Some("b"));
        assert_eq!(behind_prefix("\u{10FFFF}"), None);
        assert_eq!(behind_prefix(""), None);
    }
}
