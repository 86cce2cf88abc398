//! `jobs list`.

use bson::{Bson, DateTime, oid::ObjectId};
use rocketjob_core::{
    Cursor, Error, Filter, JobDocument, LOST_CLAIM, Query, SetAside, Sort, State, Store,
    UNDECODABLE, integer,
};
use serde_json::json;

use crate::{
    arguments::ListArguments,
    failure::Failure,
    output::Output,
    view::{COLUMNS, job_json, row},
};

/// The class of the last failure.
const CLASS: &str = "exception.class_name";

pub(super) async fn list(
    store: &Store,
    arguments: &ListArguments,
    output: &Output,
) -> Result<(), Failure> {
    let sort = Sort::from(arguments.sort);
    let after = match &arguments.after {
        Some(key) => Some(cursor(sort, key)?),
        None => None,
    };
    let query = Query {
        sort,
        descending: arguments.descending,
        // One more tells whether there is a next page.
        limit: arguments.limit.saturating_add(1),
        after,
        ..Query::new(filter(store, arguments)?)
    };
    let mut jobs = store.find(&query).await?;
    let has_more = jobs.len() > arguments.limit;
    jobs.truncate(arguments.limit);
    let unreadable = if arguments.undecodable {
        unreadable(store, arguments.limit).await?
    } else {
        Vec::new()
    };
    let next = jobs.last().filter(|_| has_more).map(|last| key(sort, last));
    if output.is_json() {
        let shown: Vec<_> = jobs.iter().map(job_json).collect();
        let mut shown = json!({ "jobs": shown, "next": next });
        if arguments.undecodable {
            let unreadable = unreadable.iter();
            shown["unreadable"] = unreadable
                .map(|found| json!({ "id": found.id, "problem": found.reason }))
                .collect();
        }
        return output.document(&shown);
    }
    for found in &unreadable {
        let reason = &found.reason;
        output.line(&format!("{} cannot be read: {reason}", found.id))?;
    }
    if jobs.is_empty() && !unreadable.is_empty() {
        return Ok(());
    }
    if jobs.is_empty() {
        output.note("no jobs");
        return Ok(());
    }
    let now = store.now();
    let rows: Vec<_> = jobs.iter().map(|job| row(job, now)).collect();
    output.line(&output.table(&COLUMNS, &rows))?;
    if let Some(next) = next {
        output.note(&format!("There are more: --after {next}"));
    }
    Ok(())
}

/// Documents that are no jobs at all; those that only their Rust types cannot be read from are in
/// the list itself.
async fn unreadable(store: &Store, limit: usize) -> Result<Vec<SetAside>, Failure> {
    let mut unreadable = Vec::new();
    for found in store.undecodable(limit).await? {
        let is_readable = match ObjectId::parse_str(&found.id) {
            Ok(id) => !matches!(store.get(id).await, Err(Error::Undecodable { .. })),
            Err(_) => false,
        };
        if !is_readable {
            unreadable.push(found);
        }
    }
    Ok(unreadable)
}

fn filter(store: &Store, arguments: &ListArguments) -> Result<Filter, Failure> {
    let mut filters = Vec::new();
    if let Some(condition) = &arguments.condition {
        filters.push(Filter::parse(condition, store.now())?);
    }
    let failed = |class: &str| Filter::state(State::Failed).and(Filter::eq(CLASS, class));
    let kinds = [
        (arguments.undecodable, UNDECODABLE),
        (arguments.poison, LOST_CLAIM),
    ];
    let kinds = kinds.into_iter().filter(|(wanted, _)| *wanted);
    let either: Vec<_> = kinds.map(|(_, class)| failed(class)).collect();
    if !either.is_empty() {
        filters.push(Filter::Or(either));
    }
    Ok(Filter::And(filters))
}

/// The key of the page behind `job`: its id, and where it is sorted by something else, that.
fn key(sort: Sort, job: &JobDocument) -> String {
    let id = job.id().to_hex();
    if sort == Sort::Id {
        return id;
    }
    match job.get(sort.field()) {
        Some(Bson::DateTime(date)) => format!("{id}:t{}", date.timestamp_millis()),
        Some(value) => format!("{id}:n{value}"),
        None => format!("{id}:"),
    }
}

fn cursor(sort: Sort, key: &str) -> Result<Cursor, Failure> {
    let read = || {
        let (id, value) = match key.split_once(':') {
            Some((id, value)) => (id, Some(value)),
            None => (key, None),
        };
        let id = ObjectId::parse_str(id).ok()?;
        let value = match (sort, value) {
            (Sort::Id, None) => Bson::ObjectId(id),
            (Sort::Id, Some(_)) | (_, None) => return None,
            (_, Some("")) => Bson::Null,
            (_, Some(value)) => match value.split_at_checked(1)? {
                ("t", millis) => DateTime::from_millis(millis.parse().ok()?).into(),
                ("n", number) => integer(number.parse().ok()?),
                _ => return None,
            },
        };
        Some(Cursor { value, id })
    };
    read().ok_or_else(|| {
        Failure::usage(format!(
            "--after `{key}` is not the key of a page in this order: use what the page before told"
        ))
    })
}
