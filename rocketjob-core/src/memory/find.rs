//! Lists of jobs, page by page.

use bson::{Bson, Document};

use super::{index::Key, jobs::Jobs};
use crate::{
    document::JobDocument,
    encoding::whole_number,
    filter::{Query, Sort},
    name,
};

/// A place in a list: a job without the field comes first, ties go by id.
type Place = (Option<i64>, Key);

pub(super) fn find(jobs: &Jobs, query: &Query) -> Vec<JobDocument> {
    let after = query.after.as_ref().map(|cursor| {
        let value = number(Some(&cursor.value), query.sort);
        (value, Key::Object(cursor.id))
    });
    let follows = |place: &Place| match &after {
        None => true,
        Some(after) if query.descending => place < after,
        Some(after) => place > after,
    };
    let mut found: Vec<(Place, &Document)> = jobs
        .matching(&query.filter)
        .map(|(key, document)| {
            let value = number(document.get(query.sort.field()), query.sort);
            ((value, key.clone()), document)
        })
        .filter(|(place, _)| follows(place))
        .collect();
    found.sort_by(|(left, _), (right, _)| left.cmp(right));
    if query.descending {
        found.reverse();
    }
    found
        .into_iter()
        .filter_map(|(_, document)| JobDocument::new(document.clone()).ok())
        .take(query.limit)
        .collect()
}

/// What is sorted by: all fields of [`Sort`] but the id are numbers or dates.
fn number(value: Option<&Bson>, sort: Sort) -> Option<i64> {
    match value {
        _ if sort.field() == name::ID => None,
        Some(Bson::DateTime(date)) => Some(date.timestamp_millis()),
        value => value.and_then(whole_number),
    }
}
