//! The text form of the filter language, as people type it.
//!
//! ```text
//! any       := all ("or" all)*
//! all       := one (["and"] one)*
//! one       := ("not" | "-" | "!") one | "(" any ")" | "*" | [path ":"] values
//! values    := operator value | value ("," value)* | [value] ".." [value] | "*"
//! operator  := "=" | "!=" | "<" | "<=" | ">" | ">=" | "~"
//! value     := "quoted text" | word, each with "*" behind it for a beginning
//! ```

mod scan;

use bson::{Bson, oid::ObjectId};
use jiff::Timestamp;

use super::{
    Filter, json,
    value::{Meaning, Value, meaning, read},
};
use crate::name;

/// Deeper than this nobody nests conditions, and a parser that follows runs out of stack.
pub(super) const MOST_LEVELS: usize = 64;

/// Where a condition makes no sense, and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the condition makes no sense at character {position}: {problem}")]
pub struct FilterError {
    /// The character at which it begins to make no sense, counted from 1.
    pub position: usize,
    /// What was found and what was expected.
    pub problem: String,
}

impl From<FilterError> for crate::error::Error {
    fn from(error: FilterError) -> Self {
        Self::configuration(error.to_string())
    }
}

impl Filter {
    /// Reads a condition as people write it, at the store's time `now`; in braces, the original's
    /// JSON form. Conditions one after the other must all hold.
    ///
    /// | text | meaning |
    /// |---|---|
    /// | `kind:Import` `state:failed,paused` | equal to this, or to one of these |
    /// | `priority:<10` `priority:10..20` `priority:90..` | compared; a range with both its ends |
    /// | `created_at:>2d` `run_at:<+1h` | later than two days ago; earlier than in an hour |
    /// | `created_at:2026-01-31` | on that day, in UTC; `2026-01-31T12:00` is a moment |
    /// | `name:Mar*` `name:~arth` | begins with, has somewhere in it |
    /// | `customer.id:42` `"odd name":1` | a path into a document; a field taken literally |
    /// | `rows:*` `not rows:*` | present, absent |
    /// | `order:"42"` | text and not a number |
    /// | `error:timeout` | the class or the message of the last failure has it |
    /// | `timeout` `"time out"` | the description or the last failure has it |
    /// | `not a:1` `-a:1` `a:1 or b:2` `(a:1 or b:2) c:3` | the opposite, either, grouped |
    ///
    /// `kind`, `id` and `worker` stand for `_type`, `_id` and `worker_name`; `state:scheduled` for
    /// queued jobs whose time has not come.
    ///
    /// ```
    /// use rocketjob_core::{Clock, Filter, ManualClock};
    ///
    /// let now = ManualClock::default().now();
    /// let filter = Filter::parse("kind:Import priority:<10", now)?;
    /// assert_eq!(filter, Filter::eq("_type", "Import").and(Filter::lt("priority", 10)));
    /// assert_eq!(Filter::parse(r#"{"_type": "Import", "priority": {"$lt": 10}}"#, now)?, filter);
    ///
    /// let error = Filter::parse("state:faild", now).unwrap_err();
    /// assert_eq!(error.position, 7);
    /// assert!(error.to_string().contains("`faild` is no state"));
    /// # Ok::<_, rocketjob_core::FilterError>(())
    /// ```
    ///
    /// # Errors
    /// [`FilterError`] says where it makes no sense and what was expected.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, FilterError> {
        if text.trim_start().starts_with('{') {
            return json::parse(text, now);
        }
        let mut parser = Parser {
            text,
            at: 0,
            now,
            levels: 0,
        };
        parser.skip_space();
        if parser.is_at_end() {
            return Ok(Self::all());
        }
        let filter = parser.any()?;
        if parser.is_at_end() {
            Ok(filter)
        } else {
            Err(parser.expected("a condition"))
        }
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    now: Timestamp,
    levels: usize,
}

/// A value as it was written.
struct Written {
    text: String,
    is_quoted: bool,
    /// Only the beginning of a text.
    is_prefix: bool,
    at: usize,
}

impl Parser<'_> {
    fn any(&mut self) -> Result<Filter, FilterError> {
        self.levels += 1;
        if self.levels > MOST_LEVELS {
            return Err(self.problem(format!("nested deeper than {MOST_LEVELS} levels")));
        }
        let mut either = vec![self.all()?];
        while self.word("or") {
            either.push(self.all()?);
        }
        self.levels -= 1;
        Ok(only(either, Filter::Or))
    }

    fn all(&mut self) -> Result<Filter, FilterError> {
        let mut all = vec![self.one()?];
        loop {
            let is_joined = self.word("and");
            if !is_joined && (self.is_at_end() || self.rest().starts_with(')') || self.sees("or")) {
                return Ok(only(all, Filter::And));
            }
            all.push(self.one()?);
        }
    }

    fn one(&mut self) -> Result<Filter, FilterError> {
        let mut is_opposite = false;
        while self.word("not") || self.takes("-") || self.takes("!") {
            is_opposite = !is_opposite;
            self.skip_space();
        }
        let filter = self.plain()?;
        self.skip_space();
        Ok(if is_opposite { !filter } else { filter })
    }

    fn plain(&mut self) -> Result<Filter, FilterError> {
        if self.takes("(") {
            self.skip_space();
            let filter = self.any()?;
            return if self.takes(")") {
                Ok(filter)
            } else {
                Err(self.expected("`)`"))
            };
        }
        if self.takes("*") {
            return Ok(Filter::all());
        }
        if self.is_at_end() || self.sees("or") || self.sees("and") {
            return Err(self.expected("a condition"));
        }
        let at = self.at;
        let (path, is_literal) = if self.rest().starts_with('"') {
            (self.quoted()?, true)
        } else {
            let path = self.until(|c| c.is_whitespace() || "():\"".contains(c));
            (path.to_owned(), false)
        };
        if !self.takes(":") {
            return self.free_text(&path, is_literal, at);
        }
        if path.is_empty() {
            self.at = at;
            return Err(self.expected("the name of a field before `:`"));
        }
        match path.as_str() {
            "error" if !is_literal => self.error(),
            "kind" if !is_literal => self.condition(name::KIND),
            "id" if !is_literal => self.condition(name::ID),
            "worker" if !is_literal => self.condition(name::WORKER_NAME),
            _ => self.condition(&path),
        }
    }

    /// A text without the name of a field: an id, or something to look for.
    fn free_text(&mut self, text: &str, is_quoted: bool, at: usize) -> Result<Filter, FilterError> {
        if text.is_empty() {
            self.at = at;
            return Err(self.expected("a condition such as `state:failed`"));
        }
        if !is_quoted && let Ok(id) = ObjectId::parse_str(text) {
            return Ok(Filter::eq(name::ID, id));
        }
        let places = [name::DESCRIPTION, CLASS, MESSAGE];
        Ok(Filter::Or(
            places
                .into_iter()
                .map(|place| Filter::contains(place, text))
                .collect(),
        ))
    }

    /// What is asked of the last failure.
    fn error(&mut self) -> Result<Filter, FilterError> {
        if self.takes("*") {
            return Ok(Filter::exists(name::EXCEPTION));
        }
        if self.operator().is_some() {
            return Err(self.problem("`error` takes a text to look for, and no comparison".into()));
        }
        let mut either = Vec::new();
        loop {
            let text = self.written()?.text;
            either.push(Filter::contains(CLASS, text.clone()));
            either.push(Filter::contains(MESSAGE, text));
            if !self.takes(",") {
                return Ok(Filter::Or(either));
            }
        }
    }

    /// What is asked of the field at `path`.
    fn condition(&mut self, path: &str) -> Result<Filter, FilterError> {
        match self.operator() {
            Some("~") => {
                let written = self.written()?;
                return Ok(Filter::contains(path, written.text));
            }
            Some(operator) => {
                let written = self.written()?;
                let value = self.value(path, &written)?;
                return Ok(value.compared(path, operator));
            }
            None => {}
        }
        if self.takes("..") {
            let end = self.written()?;
            return Ok(self.value(path, &end)?.compared(path, "<="));
        }
        if self.rest().starts_with('*') && self.ends_behind(1) {
            self.at += 1;
            return Ok(Filter::exists(path));
        }
        let first = self.written()?;
        if self.takes("..") {
            return self.range(path, &first);
        }
        if self.rest().starts_with(',') {
            return self.list(path, &first);
        }
        if path == name::STATE && first.text == "scheduled" && !first.is_quoted {
            let later = Filter::gt(name::RUN_AT, crate::encoding::date(self.now));
            return Ok(Filter::And(vec![
                Filter::state(crate::state::State::Queued),
                later,
            ]));
        }
        self.equal(path, &first)
    }

    fn equal(&self, path: &str, written: &Written) -> Result<Filter, FilterError> {
        if written.is_prefix {
            return Ok(Filter::prefix(path, written.text.clone()));
        }
        Ok(self.value(path, written)?.compared(path, "="))
    }

    fn range(&mut self, path: &str, first: &Written) -> Result<Filter, FilterError> {
        let start = self.value(path, first)?.compared(path, ">=");
        if self.ends_behind(0) {
            return Ok(start);
        }
        let last = self.written()?;
        let end = self.value(path, &last)?.compared(path, "<=");
        Ok(Filter::And(vec![start, end]))
    }

    /// One of several values; where each is a single one, as one condition.
    fn list(&mut self, path: &str, first: &Written) -> Result<Filter, FilterError> {
        let mut either = vec![self.equal(path, first)?];
        while self.takes(",") {
            let written = self.written()?;
            either.push(self.equal(path, &written)?);
        }
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

    fn value(&self, path: &str, written: &Written) -> Result<Value, FilterError> {
        let meaning = if written.is_quoted {
            Meaning::Text
        } else {
            meaning(path)
        };
        if written.is_prefix {
            return Err(self.problem_at(
                written.at,
                "a beginning (`text*`) cannot be compared or be the end of a range".into(),
            ));
        }
        if written.is_quoted {
            return Ok(Value::One(Bson::String(written.text.clone())));
        }
        read(meaning, path, &written.text, self.now)
            .map_err(|problem| self.problem_at(written.at, problem))
    }

    /// The value that stands here.
    fn written(&mut self) -> Result<Written, FilterError> {
        let at = self.at;
        let is_quoted = self.rest().starts_with('"');
        let mut text = if is_quoted {
            self.quoted()?
        } else {
            self.bare()
        };
        let mut is_prefix = false;
        if is_quoted {
            is_prefix = self.takes("*");
        } else if let Some(start) = text.strip_suffix('*').filter(|start| !start.is_empty()) {
            text = start.to_owned();
            is_prefix = true;
        }
        if text.is_empty() && !is_quoted {
            return Err(self.expected("a value"));
        }
        Ok(Written {
            text,
            is_quoted,
            is_prefix,
            at,
        })
    }
}

/// The class of the last failure.
const CLASS: &str = "exception.class_name";
/// The message of the last failure.
const MESSAGE: &str = "exception.message";

/// The one filter there is, or all of them joined.
pub(super) fn only(mut filters: Vec<Filter>, join: impl Fn(Vec<Filter>) -> Filter) -> Filter {
    match filters.len() {
        1 => filters.remove(0),
        _ => join(filters),
    }
}

#[cfg(test)]
mod tests;
