use bson::{Bson, DateTime, Document, doc, oid::ObjectId};
use rocketjob_core::{
    Change, Claim, Guard, JobStore, Patch, Refusal, SetAside, Settled, State, name,
};
use tempfile::TempDir;

use crate::{
    SqliteStore,
    row::{COLUMNS, Row},
    session::Session,
    sql,
    watch::Watch,
};

async fn open() -> (TempDir, SqliteStore) {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path().join("jobs.db"))
        .await
        .unwrap();
    (folder, store)
}

fn claim() -> Claim {
    Claim {
        token: "5f0000000000000000000001:1".into(),
        worker_name: "here:1:1".into(),
    }
}

/// A job that runs under the claim, with more fields.
fn running(store: &SqliteStore, more: Document) -> (ObjectId, Document) {
    let id = store.next_id();
    let mut document = doc! {
        "_id": id, "_type": "Mail", "state": "running", "priority": 50,
        "claim": claim().token, "worker_name": claim().worker_name,
        "started_at": DateTime::from_millis(5), "percent_complete": 0, "own": { "a": 1 },
    };
    document.extend(more);
    (id, document)
}

fn patch(id: ObjectId, change: Change) -> Patch {
    Patch {
        id,
        guard: Guard::claimed(claim()),
        change,
    }
}

fn to(state: State) -> Change {
    Change::new().set(name::STATE, state.as_str())
}

fn complete() -> Change {
    to(State::Completed)
        .set(name::COMPLETED_AT, DateTime::from_millis(9))
        .set(name::WORKER_NAME, Bson::Null)
        .set(name::PERCENT_COMPLETE, 100)
}

/// Changes of all sorts that the holder of a claim may make.
fn changes() -> Vec<Change> {
    let mut twice = complete();
    twice.unset.push("percent_complete".into());
    let aside = SetAside::undecodable("x", "broken");
    vec![
        complete(),
        complete().set("own", Bson::Null).set("new", vec![1, 2]),
        complete().set("own.a", 2).set("own.b.c", "deep"),
        complete().unset("own").unset("priority").unset("absent"),
        complete().unset("own.a"),
        complete().increment("failure_count", 1),
        complete().increment("own.a", 7),
        complete().set("successors", vec![doc! { "_id": ObjectId::new() }]),
        complete().unset("successors"),
        complete().unset("slots"),
        complete().set("slots", vec!["other:1"]),
        complete().set("priority", "high").set("hold", 7),
        complete().set("run_at", "tomorrow"),
        complete().set("unique_key", "new").unset("unfinished_key"),
        complete().set("_type", Bson::Symbol("Mail".into())),
        aside.fail(jiff::Timestamp::UNIX_EPOCH),
        to(State::Failed).unset(name::READY).unset(name::HOLD),
        to(State::Paused),
        to(State::Aborted).set("exception", doc! { "message": "no" }),
        to(State::Queued).set(name::READY, true),
        to(State::Running).set("percent_complete", 50),
        Change::new()
            .set("percent_complete", 50)
            .set("run_at", DateTime::from_millis(1)),
        twice,
    ]
}

/// Fields of all sorts that a running job may have.
fn fields() -> Vec<Document> {
    vec![
        doc! {},
        doc! { "slots": ["limit:slow:1", "limit:slow:2"] },
        doc! { "slots": null, "successors": [{ "a": 1 }] },
        doc! { "unique_key": "one", "unfinished_key": "two", "unique_reason": "only one" },
        doc! { "priority": "high", "hold": 7, "ready": true },
        doc! { "sub_state": "processing", "ready": true, "big": vec!["text"; 1000] },
    ]
}

async fn row(store: &SqliteStore, id: ObjectId) -> Option<Row> {
    let found = store
        .read(move |connection| Session::new(connection).row(&id.bytes()))
        .await;
    found.unwrap()
}

async fn slots(store: &SqliteStore) -> Vec<(String, i64)> {
    let found = store.read(|connection| {
        let mut statement = connection.prepare("SELECT key, number FROM slots ORDER BY 1, 2")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?)
    });
    found.await.unwrap()
}

#[tokio::test]
async fn whatever_way_a_change_takes_it_writes_what_it_means() {
    let (_folder, store) = open().await;
    for fields in fields() {
        for change in changes() {
            let (id, before) = running(&store, fields.clone());
            store.insert_raw(before.clone()).await.unwrap();
            let settled = store.settle(vec![patch(id, change.clone())]).await;
            let context = format!("{change:?}\n  on {before}");
            assert_eq!(settled.unwrap(), [Settled::Accepted], "{context}");

            let mut expected = before.clone();
            change.apply(&mut expected);
            let expected = Row::encode(expected).unwrap();
            let found = row(&store, id).await.unwrap();
            assert_eq!(found.decode(), expected.decode(), "{context}");
            assert_eq!(found.values, expected.values, "{context}");

            if found.is_running() {
                let delete = patch(id, Change::delete());
                store.settle(vec![delete]).await.unwrap();
            } else {
                store.change_raw(id, Change::delete()).await.unwrap();
            }
            assert_eq!(row(&store, id).await, None, "{context}");
            assert_eq!(slots(&store).await, [], "{context}");
        }
    }
}

#[tokio::test]
async fn a_job_that_goes_gives_back_its_places() {
    let (_folder, store) = open().await;
    for fields in fields() {
        let (id, document) = running(&store, fields);
        store.insert_raw(document).await.unwrap();
        let settled = store.settle(vec![patch(id, Change::delete())]).await;
        assert_eq!(settled.unwrap(), [Settled::Accepted]);
        assert_eq!(row(&store, id).await, None);
        assert_eq!(slots(&store).await, []);
    }
}

#[tokio::test]
async fn who_lost_the_claim_writes_nothing_and_is_told() {
    let (_folder, store) = open().await;
    for (lost, refusal) in [
        (
            doc! { "claim": "5f0000000000000000000001:2" },
            Refusal::ClaimLost,
        ),
        (doc! { "worker_name": "there:1:1" }, Refusal::ClaimLost),
        (doc! { "worker_name": null }, Refusal::ClaimLost),
        (doc! { "state": "aborted" }, Refusal::State(State::Aborted)),
        (doc! { "state": 7 }, Refusal::State(State::Failed)),
    ] {
        for change in [complete(), Change::delete()] {
            let (id, document) = running(&store, lost.clone());
            store.insert_raw(document).await.unwrap();
            let before = row(&store, id).await;
            let gone = patch(store.next_id(), change.clone());
            let settled = store.settle(vec![gone, patch(id, change)]).await.unwrap();
            let expected = [Refusal::NotFound, refusal].map(Settled::Refused);
            assert_eq!(settled, expected, "{lost}");
            assert_eq!(row(&store, id).await, before, "{lost}");
        }
    }
}

#[tokio::test]
async fn a_key_that_another_job_holds_is_not_taken() {
    let (_folder, store) = open().await;
    let (rival, document) = running(&store, doc! { "unfinished_key": "one" });
    store.insert_raw(document).await.unwrap();
    let (id, document) = running(&store, Document::new());
    store.insert_raw(document).await.unwrap();
    let before = row(&store, id).await;
    let take = to(State::Failed).set("unfinished_key", "one");
    assert_eq!(
        store.settle(vec![patch(id, take)]).await.unwrap(),
        [Settled::Refused(Refusal::Existing(rival))]
    );
    assert_eq!(row(&store, id).await, before);
}

#[tokio::test]
async fn a_rest_that_cannot_be_read_is_not_lost() {
    let (_folder, store) = open().await;
    let (id, document) = running(&store, Document::new());
    store.insert_raw(document).await.unwrap();
    let damage = store.write(move |session| {
        let mut statement = session.prepare("UPDATE jobs SET rest = x'010203' WHERE id = ?1")?;
        Ok(statement.execute([id.bytes().as_slice()])?)
    });
    assert_eq!(damage.await.unwrap(), 1);
    let settled = store.settle(vec![patch(id, complete())]).await;
    assert_eq!(settled.unwrap(), [Settled::Accepted]);
    let after = store.raw(id).await.unwrap().unwrap();
    assert_eq!(after.get_str("state").unwrap(), "completed");
    assert_eq!(after.get_binary_generic("unreadable").unwrap(), &[1, 2, 3]);
}

#[tokio::test]
async fn a_plain_end_reads_no_job() {
    let (folder, store) = open().await;
    let mut patches = Vec::new();
    for change in [complete(), Change::delete(), complete().set("own", 2)] {
        let (id, document) = running(&store, Document::new());
        store.insert_raw(document).await.unwrap();
        patches.push(patch(id, change));
    }
    let watch = Watch::of(&folder.path().join("jobs.db"));
    watch.reset();
    let settled = store.settle(patches).await.unwrap();
    assert_eq!(settled, [Settled::Accepted; 3]);
    assert_eq!(watch.runs(sql::JOB), 0);
    assert_eq!(watch.runs(sql::DELETE_CLAIMED), 1);
}

#[test]
fn every_column_can_be_written_by_its_name() {
    assert!(COLUMNS.iter().all(|column| super::is_plain(column.field)));
}
