use bson::{Bson, DateTime, Document, doc, oid::ObjectId};
use rocketjob_core::{Filter, JobDocument, JobStore, Query, ReadFrom, Sort, State, name};
use tempfile::TempDir;

use crate::{SqliteStore, row::Row, session::Session, sql};

const FIELDS: [&str; 9] = [
    name::KIND,
    name::STATE,
    name::PRIORITY,
    name::RUN_AT,
    name::CLAIM,
    name::READY,
    name::HOLD,
    name::SUB_STATE,
    name::SUCCESSORS,
];

/// Values that belong into some column, and others that belong into none.
fn values() -> Vec<Bson> {
    vec![
        Bson::Null,
        "Mail".into(),
        "queued".into(),
        "sleeping".into(),
        5.into(),
        5_i64.into(),
        5.0.into(),
        true.into(),
        DateTime::from_millis(5).into(),
        Bson::Symbol("Mail".into()),
        Bson::Array(vec!["Mail".into(), Bson::Null]),
        Bson::Array(Vec::new()),
        doc! { "a": 5 }.into(),
    ]
}

/// One sound document, and every field with every value.
fn documents() -> Vec<Document> {
    let sound = doc! { "_type": "Mail", "state": "queued", "priority": 7, "hold": "Mail" };
    let mut documents = vec![sound.clone()];
    for field in FIELDS {
        for value in values() {
            let mut document = sound.clone();
            document.insert(field, value);
            documents.push(document);
        }
    }
    for document in &mut documents {
        document.insert(name::ID, ObjectId::new());
    }
    documents
}

fn filters() -> Vec<Filter> {
    let mut filters = vec![Filter::all(), Filter::Or(Vec::new())];
    for field in FIELDS {
        for value in values() {
            filters.extend([
                Filter::eq(field, value.clone()),
                Filter::ne(field, value.clone()),
                Filter::is_in(field, [value.clone(), 5.into()]),
                Filter::lt(field, value.clone()),
                Filter::lte(field, value.clone()),
                Filter::gt(field, value.clone()),
                Filter::gte(field, value.clone()),
                Filter::state(State::Queued).and(Filter::ne(field, value.clone())),
                Filter::state(State::Failed).or(Filter::gte(field, value)),
            ]);
        }
        filters.extend([
            Filter::exists(field),
            Filter::missing(field),
            Filter::prefix(field, "Ma"),
            Filter::prefix(field, ""),
        ]);
    }
    filters
}

async fn filled(documents: &[Document]) -> (TempDir, SqliteStore) {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path().join("jobs.db"))
        .await
        .unwrap();
    for document in documents {
        store.insert_raw(document.clone()).await.unwrap();
    }
    (folder, store)
}

/// All documents as the store holds them, in the order of their ids.
async fn stored(store: &SqliteStore) -> Vec<Document> {
    store
        .read(|connection| {
            let rows = Session::new(connection).rows(&format!("{}ORDER BY id", sql::SELECT), [])?;
            Ok(rows.iter().map(Row::decode).collect())
        })
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_and_documents_meet_the_same_filters() {
    let (_folder, store) = filled(&documents()).await;
    let documents = stored(&store).await;
    for filter in filters() {
        let matching: Vec<_> = documents
            .iter()
            .filter(|document| filter.matches(document))
            .collect();
        let count = store.count(&filter, ReadFrom::Primary).await.unwrap();
        assert_eq!(count, matching.len() as u64, "count of {filter:?}");

        let by_state = store
            .count_by_state(&filter, ReadFrom::Primary)
            .await
            .unwrap();
        for state in State::ALL {
            let in_state = matching
                .iter()
                .filter(|document| {
                    document
                        .get_str(name::STATE)
                        .is_ok_and(|s| s == state.as_str())
                })
                .count();
            let counted = by_state.get(&state).copied().unwrap_or(0);
            assert_eq!(counted, in_state as u64, "{state} of {filter:?}");
        }

        let found = store
            .find(&Query {
                limit: 1_000,
                ..Query::new(filter.clone())
            })
            .await
            .unwrap();
        let found: Vec<_> = found.iter().map(JobDocument::id).collect();
        let readable: Vec<_> = matching
            .into_iter()
            .filter_map(|document| JobDocument::new(document.clone()).ok())
            .map(|job| job.id())
            .collect();
        assert_eq!(found, readable, "{filter:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_meets_the_same_filters() {
    let documents = documents();
    for filter in [
        Filter::exists(name::HOLD),
        Filter::exists(name::KIND),
        Filter::eq(name::PRIORITY, "Mail"),
        Filter::lt(name::PRIORITY, 7),
        Filter::gt(name::RUN_AT, DateTime::from_millis(1)),
    ] {
        let (_folder, store) = filled(&documents).await;
        let documents = stored(&store).await;
        let matching = documents.iter().filter(|document| filter.matches(document));
        let deleted = store.delete(&filter).await.unwrap();
        assert_eq!(deleted, matching.count() as u64, "{filter:?}");
        assert_eq!(store.count(&filter, ReadFrom::Primary).await.unwrap(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_match_behind_many_others_is_found_in_every_order() {
    let documents: Vec<_> = (0..500_i32)
        .map(|n| {
            let mut id = [0; 12];
            id[8..].copy_from_slice(&n.to_be_bytes());
            doc! {
                "_id": ObjectId::from_bytes(id), "_type": "Mail", "state": "queued",
                "priority": n % 3, "own": n,
            }
        })
        .collect();
    let (_folder, store) = filled(&documents).await;
    for descending in [false, true] {
        for sort in [Sort::Id, Sort::Priority, Sort::RunAt] {
            let query = Query {
                sort,
                descending,
                limit: 1,
                ..Query::new(Filter::is_in("own", [250, 251]))
            };
            let found = store.find(&query).await.unwrap();
            // Priorities 1 and 2, ids 250 and 251.
            let expected = if descending { 251 } else { 250 };
            assert_eq!(found[0].get("own"), Some(&Bson::Int32(expected)));
        }
    }
}
