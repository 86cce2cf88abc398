//! The filter language in MongoDB's words.

use bson::{Bson, Document, doc};
use rocketjob_core::{Error, Filter, Guard, Result, State, name};

/// The query that matches what `filter` matches.
pub(crate) fn query(filter: &Filter) -> Result<Document> {
    let on = |path: &str, operator: &str, value: Bson| doc! { path: { operator: value } };
    Ok(match filter {
        Filter::Eq(path, value) => on(path, "$eq", value.clone()),
        Filter::Ne(path, value) => on(path, "$ne", value.clone()),
        Filter::In(path, values) => on(path, "$in", Bson::Array(values.clone())),
        Filter::Lt(path, value) => on(path, "$lt", value.clone()),
        Filter::Lte(path, value) => on(path, "$lte", value.clone()),
        Filter::Gt(path, value) => on(path, "$gt", value.clone()),
        Filter::Gte(path, value) => on(path, "$gte", value.clone()),
        Filter::Exists(path, true) => on(path, "$ne", Bson::Null),
        Filter::Exists(path, false) => on(path, "$eq", Bson::Null),
        Filter::Prefix(path, text) => on(path, "$regex", Bson::String(anchored(text))),
        Filter::Contains(path, text) => on(path, "$regex", Bson::String(any_case(text))),
        Filter::Not(filter) => doc! { "$nor": [query(filter)?] },
        Filter::And(filters) => match filters.as_slice() {
            [] => Document::new(),
            [one] => query(one)?,
            several => doc! { "$and": queries(several)? },
        },
        Filter::Or(filters) => match filters.as_slice() {
            [] => nothing(),
            [one] => query(one)?,
            several => doc! { "$or": queries(several)? },
        },
        other => {
            return Err(Error::configuration(format!(
                "this version of the store does not know the filter {other:?}"
            )));
        }
    })
}

fn queries(filters: &[Filter]) -> Result<Vec<Bson>> {
    filters
        .iter()
        .map(|filter| query(filter).map(Bson::Document))
        .collect()
}

/// Matches nothing, and costs nothing.
fn nothing() -> Document {
    doc! { name::ID: { "$in": [] } }
}

/// A regular expression for text that begins with `text`, taken literally.
fn anchored(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 1);
    pattern.push('^');
    for character in text.chars() {
        push_literal(&mut pattern, character);
    }
    pattern
}

/// A regular expression for text that has `text` in it, whatever the case of ASCII letters: the
/// server's own option would ignore that of others as well.
fn any_case(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() * 4);
    for character in text.chars() {
        if character.is_ascii_alphabetic() {
            pattern.push('[');
            pattern.push(character.to_ascii_lowercase());
            pattern.push(character.to_ascii_uppercase());
            pattern.push(']');
        } else {
            push_literal(&mut pattern, character);
        }
    }
    pattern
}

fn push_literal(pattern: &mut String, character: char) {
    match character {
        // The server refuses a pattern with a null byte in it.
        '\0' => pattern.push_str(r"\x00"),
        literal if literal.is_ascii_punctuation() => {
            pattern.push('\\');
            pattern.push(literal);
        }
        literal => pattern.push(literal),
    }
}

/// The query for the document `id` on which `guard` holds.
pub(crate) fn guarded(id: impl Into<Bson>, guard: &Guard) -> Result<Document> {
    let mut query = doc! { name::ID: id };
    match guard.states.as_slice() {
        [] => {}
        [state] => {
            query.insert(name::STATE, state.as_str());
        }
        states => {
            let states: Vec<_> = states.iter().copied().map(State::as_str).collect();
            query.insert(name::STATE, doc! { "$in": states });
        }
    }
    if let Some(claim) = &guard.claim {
        query.insert(name::CLAIM, &claim.token);
        query.insert(name::WORKER_NAME, &claim.worker_name);
    }
    if let Some(filter) = &guard.matching {
        // Under `$and`, since the filter may name the same fields.
        query.insert("$and", vec![self::query(filter)?]);
    }
    Ok(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_taken_literally() {
        let query = query(&Filter::prefix("name", "a.b*\0é")).unwrap();
        assert_eq!(query, doc! { "name": { "$regex": r"^a\.b\*\x00é" } });
    }

    #[test]
    fn a_part_of_a_text_is_found_in_any_case() {
        let query = query(&!Filter::contains("name", "a.é")).unwrap();
        assert_eq!(
            query,
            doc! { "$nor": [{ "name": { "$regex": r"[aA]\.é" } }] }
        );
    }

    #[test]
    fn an_empty_or_matches_nothing_and_an_empty_and_everything() {
        assert_eq!(query(&Filter::all()).unwrap(), doc! {});
        assert_eq!(query(&Filter::Or(Vec::new())).unwrap(), nothing());
    }

    #[test]
    fn a_guard_keeps_its_own_state_beside_that_of_its_filter() {
        let guard = Guard::states([State::Failed]).matching(Filter::ne("state", "queued"));
        assert_eq!(
            guarded(1, &guard).unwrap(),
            doc! { "_id": 1, "state": "failed", "$and": [{ "state": { "$ne": "queued" } }] }
        );
    }
}
