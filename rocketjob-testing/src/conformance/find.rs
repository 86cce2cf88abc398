//! `JobStore::get` and `JobStore::find`: order and pages.

use bson::{Bson, oid::ObjectId};
use rocketjob_core::{Cursor, Filter, JobDocument, Query, Sort, date, later, name};

use super::HOUR;
use crate::{Harness, JobBuilder, ids, insert_all, job};

/// Only the job with this id.
pub async fn gets_a_job_by_its_id(harness: &impl Harness) {
    let store = harness.store();
    let inserted = insert_all(&store, [job("A"), job("B")]).await;
    let found = store.get(inserted[1]).await.unwrap().unwrap();
    assert_eq!((found.id(), found.kind()), (inserted[1], "B"));
    assert_eq!(store.get(store.next_id()).await.unwrap(), None);
}

/// Without a word on the order, jobs come in the order of their arrival.
pub async fn lists_jobs_in_the_order_of_arrival(harness: &impl Harness) {
    let store = harness.store();
    let jobs = (0..5).map(|number| job("A").priority(50 - number));
    let inserted = insert_all(&store, jobs).await;
    let query = Query::new(Filter::all());
    assert_eq!(ids(&store.find(&query).await.unwrap()), inserted);
    let none = Query::new(Filter::Or(Vec::new()));
    assert_eq!(store.find(&none).await.unwrap(), []);
}

/// Not more than the limit.
pub async fn lists_at_most_the_limit(harness: &impl Harness) {
    let store = harness.store();
    let inserted = insert_all(&store, (0..5).map(|_| job("A"))).await;
    let query = Query {
        limit: 3,
        ..Query::new(Filter::all())
    };
    assert_eq!(ids(&store.find(&query).await.unwrap()), inserted[..3]);
    for (limit, expected) in [(0, &inserted[..0]), (usize::MAX, &inserted[..])] {
        let query = Query {
            limit,
            ..Query::new(Filter::all())
        };
        assert_eq!(ids(&store.find(&query).await.unwrap()), expected);
    }
}

/// Sorted by id.
pub async fn pages_by_id(harness: &impl Harness) {
    pages(harness, Sort::Id, |job, _| job).await;
}

/// Sorted by priority.
pub async fn pages_by_priority(harness: &impl Harness) {
    pages(harness, Sort::Priority, |job, place| {
        set(
            job,
            name::PRIORITY,
            place.map(|place| Bson::from(10 + place)),
        )
    })
    .await;
}

/// Sorted by when the job was created.
pub async fn pages_by_created_at(harness: &impl Harness) {
    pages_by_date(harness, Sort::CreatedAt).await;
}

/// Sorted by when a worker began.
pub async fn pages_by_started_at(harness: &impl Harness) {
    pages_by_date(harness, Sort::StartedAt).await;
}

/// Sorted by when the job ended or stopped.
pub async fn pages_by_completed_at(harness: &impl Harness) {
    pages_by_date(harness, Sort::CompletedAt).await;
}

/// Sorted by the time for which the job is scheduled.
pub async fn pages_by_run_at(harness: &impl Harness) {
    pages_by_date(harness, Sort::RunAt).await;
}

async fn pages_by_date(harness: &impl Harness, sort: Sort) {
    let now = harness.store().now();
    pages(harness, sort, |job, place| {
        let time = place.map(|place| later(now, HOUR * u32::try_from(place).unwrap()));
        set(job, sort.field(), time.map(date))
    })
    .await;
}

fn set(job: JobBuilder, field: &str, value: Option<Bson>) -> JobBuilder {
    match value {
        Some(value) => job.set(field, value),
        None => job.set(field, Bson::Null),
    }
}

/// Reads all pages of two jobs each in both directions: with ties, and with jobs that lack the
/// field, as null or altogether, which come first and are one value.
async fn pages(
    harness: &impl Harness,
    sort: Sort,
    placed: impl Fn(JobBuilder, Option<i32>) -> JobBuilder,
) {
    let store = harness.store();
    let places = [
        Some(2),
        None,
        Some(1),
        Some(2),
        None,
        Some(3),
        Some(1),
        None,
    ];
    let documents: Vec<JobDocument> = places
        .iter()
        .enumerate()
        .map(|(index, place)| {
            let mut document = placed(job("A"), *place).document(&store);
            if index == 4 && sort != Sort::Id {
                document.remove(sort.field());
            }
            JobDocument::new(document).unwrap()
        })
        .collect();
    // What does not match the filter is in between.
    insert_all(&store, [placed(job("B"), Some(1)), placed(job("B"), None)]).await;
    let mut expected: Vec<(Option<i32>, ObjectId)> = documents
        .iter()
        .zip(places)
        .map(|(job, place)| (place.filter(|_| sort != Sort::Id), job.id()))
        .collect();
    expected.sort_unstable();
    store.insert(documents).await.unwrap();
    for descending in [false, true] {
        if descending {
            expected.reverse();
        }
        let mut query = Query {
            sort,
            descending,
            limit: 2,
            ..Query::new(Filter::kinds(["A"]))
        };
        let mut found = Vec::new();
        loop {
            let page = store.find(&query).await.unwrap();
            found.extend(ids(&page));
            assert!(found.len() <= expected.len(), "a page repeats");
            let Some(last) = page.last() else {
                break;
            };
            let value = last.get(sort.field()).cloned().unwrap_or(Bson::Null);
            query.after = Some(Cursor {
                value,
                id: last.id(),
            });
        }
        let expected: Vec<ObjectId> = expected.iter().map(|(_, id)| *id).collect();
        assert_eq!(found, expected, "descending: {descending}");
    }
}

/// A broken document is in nobody's way, and does not make a page look like the last one.
pub async fn leaves_undecodable_documents_out(harness: &impl Harness) {
    let store = harness.store();
    for _ in 0..3 {
        let broken = job("A").set(name::FAILURE_COUNT, "many");
        harness.put_raw(broken.document(&store)).await;
    }
    let good = insert_all(&store, [job("A"), job("A")]).await;
    let query = Query {
        limit: 2,
        ..Query::new(Filter::kinds(["A"]))
    };
    assert_eq!(ids(&store.find(&query).await.unwrap()), good);
}
