//! The filter language, as the store translates it; what it means is `Filter::matches`.

use bson::{Bson, DateTime, Document, doc, oid::ObjectId};
use rocketjob_core::{
    Filter, JobDocument, MemoryStore, Query, ReadFrom, State, Store, date, later, name,
};

use super::HOUR;
use crate::{Harness, ids, job};

/// Own fields of the jobs that every condition is tried on.
fn payloads() -> Vec<Document> {
    vec![
        doc! {},
        doc! { "v": null },
        doc! { "v": 0 },
        doc! { "v": 5 },
        doc! { "v": 5_i64 },
        doc! { "v": 5.0 },
        doc! { "v": 5.5 },
        doc! { "v": -7 },
        doc! { "v": 5_000_000_000_i64 },
        doc! { "v": 9_007_199_254_740_993_i64 },
        doc! { "v": "5" },
        doc! { "v": "" },
        doc! { "v": "report" },
        doc! { "v": "reports" },
        doc! { "v": "Report" },
        doc! { "v": "re%ort_" },
        doc! { "v": "it's \"é\" \u{1f680}" },
        doc! { "v": true },
        doc! { "v": false },
        doc! { "v": DateTime::from_millis(1_000) },
        doc! { "v": DateTime::from_millis(-1_000) },
        doc! { "v": ObjectId::from_bytes([1; 12]) },
        doc! { "v": [] },
        doc! { "v": [1, 5] },
        doc! { "v": [1, 5, "report"] },
        doc! { "v": [null, 1] },
        doc! { "v": {} },
        doc! { "v": { "w": 5 } },
        doc! { "v": { "w": "report", "deep": { "er": [1, 2] } } },
        doc! { "v": [{ "w": 1 }, { "w": 5 }] },
        doc! { "v": [{ "x": 1 }] },
        doc! { "other": 5, "v'": 1 },
    ]
}

fn operands() -> Vec<Bson> {
    vec![
        Bson::Int32(0),
        Bson::Int32(5),
        Bson::Int64(5),
        Bson::Double(5.0),
        Bson::Double(5.25),
        Bson::Int64(5_000_000_000),
        Bson::Int64(9_007_199_254_740_993),
        "5".into(),
        "".into(),
        "report".into(),
        "it's \"é\" \u{1f680}".into(),
        true.into(),
        false.into(),
        DateTime::from_millis(1_000).into(),
        ObjectId::from_bytes([1; 12]).into(),
    ]
}

const PATHS: [&str; 6] = ["v", "v.w", "v.deep.er", "v.0", "v.1.w", "other"];

/// Tries every condition on a job with each of the payloads.
async fn means(harness: &impl Harness, filters: impl IntoIterator<Item = Filter>) {
    let store = harness.store();
    let jobs = payloads().into_iter().map(|payload| {
        let mut document = job("A").document(&store);
        document.extend(payload);
        JobDocument::new(document).unwrap()
    });
    compare(&store, jobs.collect(), filters).await;
}

/// Tries every condition on every job, and compares with what it means.
async fn compare(store: &Store, jobs: Vec<JobDocument>, filters: impl IntoIterator<Item = Filter>) {
    store.insert(jobs.clone()).await.unwrap();
    let mut wrong = Vec::new();
    for filter in filters {
        let found = store.find(&Query::new(filter.clone())).await.unwrap();
        let counted = store.count(&filter, ReadFrom::Primary).await.unwrap();
        let expected: Vec<JobDocument> = jobs
            .iter()
            .filter(|job| filter.matches(job.as_document()))
            .cloned()
            .collect();
        if ids(&found) != ids(&expected) {
            let (found, expected) = (own_fields(&found), own_fields(&expected));
            wrong.push(format!("{filter:?} finds {found:?} and not {expected:?}"));
        }
        if counted != u64::try_from(expected.len()).unwrap() {
            wrong.push(format!("{filter:?} counts {counted}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The jobs in a difference, without what they all have.
fn own_fields(jobs: &[JobDocument]) -> Vec<Document> {
    let common = job("A").build(&Store::new(MemoryStore::new()));
    let own = |job: &JobDocument| {
        let document = job.as_document().clone();
        document
            .into_iter()
            .filter(|(field, value)| {
                let usual = common.as_document().get(field);
                let is_always_new = [name::ID, name::CREATED_AT].contains(&field.as_str());
                !is_always_new && usual != Some(value)
            })
            .collect()
    };
    jobs.iter().map(own).collect()
}

fn each(make: impl Fn(&'static str, Bson) -> Filter) -> Vec<Filter> {
    PATHS
        .into_iter()
        .flat_map(|path| operands().into_iter().map(move |value| (path, value)))
        .map(|(path, value)| make(path, value))
        .collect()
}

/// Equality, of null too.
pub async fn finds_what_is_equal(harness: &impl Harness) {
    let mut filters = each(Filter::eq);
    filters.extend(PATHS.map(|path| Filter::eq(path, Bson::Null)));
    filters.push(Filter::eq("v", vec![1, 5]));
    filters.push(Filter::eq("v", doc! { "w": 5 }));
    filters.push(Filter::eq("v'", 1));
    means(harness, filters).await;
}

/// Inequality, which absent fields meet as well.
pub async fn finds_what_differs(harness: &impl Harness) {
    let mut filters = each(Filter::ne);
    filters.extend(PATHS.map(|path| Filter::ne(path, Bson::Null)));
    means(harness, filters).await;
}

/// Membership in a list, also an empty one, and one with null in it.
pub async fn finds_what_is_in_a_list(harness: &impl Harness) {
    let lists: [&[Bson]; 5] = [
        &[],
        &[Bson::Int32(5)],
        &[Bson::Int32(0), "report".into(), true.into()],
        &[Bson::Null],
        &[Bson::Null, Bson::Double(5.5)],
    ];
    let filters = PATHS
        .into_iter()
        .flat_map(|path| lists.map(|list| Filter::is_in(path, list.iter().cloned())));
    means(harness, filters).await;
}

/// Ranges compare values of one type only.
pub async fn finds_what_lies_in_a_range(harness: &impl Harness) {
    let mut filters = each(Filter::lt);
    filters.extend(each(Filter::lte));
    filters.extend(each(Filter::gt));
    filters.extend(each(Filter::gte));
    means(harness, filters).await;
}

/// Presence: null is absent.
pub async fn finds_what_exists(harness: &impl Harness) {
    let filters = PATHS
        .into_iter()
        .flat_map(|path| [Filter::exists(path), Filter::missing(path)]);
    means(harness, filters).await;
}

/// Beginnings of text, with any characters, in the case in which they are written.
pub async fn finds_what_begins_with_a_text(harness: &impl Harness) {
    let texts = [
        "",
        "re",
        "Re",
        "report",
        "reports!",
        "re%",
        "re_",
        ".*",
        "it's \"",
        "it's \"é",
    ];
    let filters = PATHS
        .into_iter()
        .flat_map(|path| texts.map(|text| Filter::prefix(path, text)));
    means(harness, filters).await;
}

/// Parts of text, with any characters, whatever the case of ASCII letters.
pub async fn finds_what_contains_a_text(harness: &impl Harness) {
    let texts = [
        "",
        "EPO",
        "re",
        "t",
        "%",
        "_",
        ".*",
        "S \"É",
        "s \"é\"",
        "5",
        "\u{1f680}",
    ];
    let filters = PATHS
        .into_iter()
        .flat_map(|path| texts.map(|text| Filter::contains(path, text)));
    means(harness, filters).await;
}

/// The opposite of a condition finds exactly what the condition does not.
pub async fn finds_the_opposite(harness: &impl Harness) {
    let five = || Filter::eq("v", 5);
    let text = || Filter::prefix("v", "re");
    let mut filters = each(|path, value| !Filter::lt(path, value));
    filters.extend([
        !Filter::all(),
        !text(),
        !Filter::contains("v", "EP"),
        !Filter::is_in("v", [Bson::Null, Bson::Int32(5)]),
        !(five().and(text())),
        !(five().or(text())),
        !(five().or(!text())),
        !Filter::gt("v", 4).and(Filter::missing("other")),
        !Filter::lt(name::PRIORITY, 50),
        !Filter::gt(name::RUN_AT, date(later(harness.store().now(), HOUR))),
        !Filter::prefix(name::HOLD, "limit:"),
        !(Filter::lt(name::COMPLETED_AT, 5).or(Filter::state(State::Failed))),
        !Filter::state(State::Queued).and(!five()),
    ]);
    means(harness, filters).await;
}

/// Conditions joined, nested, and empty ones.
pub async fn joins_conditions(harness: &impl Harness) {
    let five = || Filter::eq("v", 5);
    let text = || Filter::prefix("v", "re");
    let filters = [
        Filter::all(),
        Filter::And(vec![five()]),
        Filter::Or(Vec::new()),
        Filter::Or(vec![text()]),
        five().and(text()),
        five().or(text()),
        five().or(text()).and(Filter::gt("v", 4)),
        Filter::And(vec![five().or(text()), Filter::Or(Vec::new())]),
        Filter::Or(vec![
            five().and(Filter::missing("other")),
            Filter::Or(vec![text()]),
        ]),
        Filter::kinds(["A", "B"]).and(Filter::exists("v.w")),
        Filter::kinds(["B"]).or(five()),
        Filter::gte("v", 0).and(Filter::lt("v", 6)),
    ];
    means(harness, filters).await;
}

/// The envelope is searched like any other field, however a store keeps it.
pub async fn reaches_the_envelope(harness: &impl Harness) {
    let store = harness.store();
    let now = store.now();
    let hour = |hours: i64| date(now + jiff::SignedDuration::from_hours(hours));
    let jobs = vec![
        job("A").priority(1),
        job("A").priority(2).scheduled(later(now, HOUR)),
        job("B").held("limit:x").set(name::RUN_AT, hour(-1)),
        job("B").held("limit:y").set(name::RUN_AT, Bson::Null),
        job("AB").unmarked().set(name::DESCRIPTION, "a report"),
        job("A")
            .state(State::Running)
            .set(name::CLAIM, "0123456789abcdef01234567:1")
            .set(name::WORKER_NAME, "host:1:1")
            .set(name::STARTED_AT, hour(0))
            .set(name::SLOTS, vec!["x:0", "y:3"]),
        job("A")
            .state(State::Failed)
            .set(name::COMPLETED_AT, hour(-2))
            .set(name::WORKER_NAME, Bson::Null)
            .set(name::EXCEPTION, super::failure().to_document())
            .set(name::LOST_CLAIMS, 2),
        job("C").state(State::Aborted).unique("key").keep(),
    ];
    let jobs: Vec<JobDocument> = jobs.into_iter().map(|job| job.build(&store)).collect();
    let id = |index: usize| jobs[index].id();
    let filters = vec![
        Filter::eq(name::ID, id(3)),
        Filter::ids([id(0), id(5), store.next_id()]),
        Filter::gt(name::ID, id(4)),
        Filter::lte(name::ID, id(1)),
        Filter::ne(name::ID, id(2)),
        Filter::kinds(["A", "C"]),
        Filter::prefix(name::KIND, "A"),
        Filter::state(State::Queued),
        Filter::states([State::Running, State::Failed]),
        Filter::gte(name::STATE, "queued"),
        Filter::ne(name::STATE, "queued"),
        Filter::lt(name::PRIORITY, 50),
        Filter::eq(name::PRIORITY, 50),
        Filter::eq(name::READY, true),
        Filter::ne(name::READY, true),
        Filter::missing(name::READY),
        Filter::exists(name::HOLD),
        Filter::prefix(name::HOLD, "limit:"),
        Filter::gt(name::HOLD, "limit:x"),
        Filter::lte(name::RUN_AT, hour(0)),
        Filter::gt(name::RUN_AT, hour(0)),
        Filter::missing(name::RUN_AT),
        Filter::eq(name::RUN_AT, Bson::Null),
        Filter::gte(name::STARTED_AT, hour(0)),
        Filter::missing(name::STARTED_AT),
        Filter::lt(name::COMPLETED_AT, hour(-1)),
        Filter::lte(name::CREATED_AT, hour(1)),
        Filter::prefix(name::CLAIM, "0123456789abcdef01234567:"),
        Filter::eq(name::WORKER_NAME, "host:1:1"),
        Filter::missing(name::WORKER_NAME),
        Filter::eq(name::SLOTS, "y:3"),
        Filter::prefix(name::SLOTS, "x:"),
        Filter::eq("exception.class_name", "Broken"),
        Filter::eq(name::LOST_CLAIMS, 2),
        Filter::gte(name::LOST_CLAIMS, 0),
        Filter::eq(name::DESTROY_ON_COMPLETE, false),
        Filter::eq(name::UNIQUE_KEY, "key"),
        Filter::prefix(name::DESCRIPTION, "a rep"),
    ];
    compare(&store, jobs, filters).await;
}
