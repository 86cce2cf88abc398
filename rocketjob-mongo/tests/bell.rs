//! The change stream: what it survives, and what is done without one.

#![expect(clippy::unwrap_used, reason = "tests panic: that is how they fail")]

use bson::{Document, doc};
use rocketjob_core::Store;
use rocketjob_mongo::MongoStore;
use rocketjob_testing::{
    eventually, job,
    mongod::{Mongod, Options, database},
};

async fn open(url: &str) -> (MongoStore, Store) {
    let mongo = MongoStore::connect(url).await.unwrap();
    (mongo.clone(), Store::new(mongo))
}

/// Somebody waits, as an idle server does.
fn wait(store: &Store) -> tokio::task::JoinHandle<()> {
    let store = store.clone();
    tokio::spawn(async move {
        let mut known = store.bells();
        loop {
            known = store.work_ready(known).await;
        }
    })
}

async fn hears(store: &Store, others: bool) {
    eventually(&format!("hears others: {others}"), async || {
        (store.hears_others() == others).then_some(())
    })
    .await;
}

/// A job that is created on one handle rings on the other.
async fn rings_from_to(one: &Store, other: &Store) {
    let before = other.bells();
    job("A").insert(one).await;
    eventually("the bell rings", async || {
        (other.bells().ready > before.ready).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_server_that_comes_back_is_heard_again() {
    let mut mongod = Mongod::start(Options::replica_set("rs")).await;
    let url = mongod.url("jobs");
    let ((_, one), (_, other)) = (open(&url).await, open(&url).await);
    let _waiting = wait(&other);
    hears(&other, true).await;
    rings_from_to(&one, &other).await;
    let before = other.bells();
    mongod.kill();
    hears(&other, false).await;
    mongod.restart().await;
    hears(&other, true).await;
    assert!(other.bells().ready > before.ready, "for what was missed");
    rings_from_to(&one, &other).await;
}

#[tokio::test]
async fn nobody_listens_where_nobody_waits() {
    let database = database("bell::nobody_listens_where_nobody_waits").await;
    let ((mongo, store), (_, other)) = (open(database.url()).await, open(database.url()).await);
    assert!(!store.hears_others());
    for _ in 0..3 {
        let waiting = wait(&store);
        hears(&store, true).await;
        rings_from_to(&other, &store).await;
        waiting.abort();
        // The request that is under way is answered with the next change, and is the last.
        job("A").insert(&other).await;
        hears(&store, false).await;
        let before = store.bells();
        job("A").insert(&other).await;
        assert_eq!(store.bells(), before);
        // Who waits again is told at once that something may have been missed.
        let heard = store.work_ready(before).await;
        assert!(heard.ready > before.ready);
    }
    drop((mongo, store));
    database.drop().await;
}

#[tokio::test]
async fn a_collection_that_is_dropped_is_followed_by_the_next() {
    let database = database("bell::a_collection_that_is_dropped").await;
    let ((mongo, one), (_, other)) = (open(database.url()).await, open(database.url()).await);
    let _waiting = wait(&other);
    hears(&other, true).await;
    let before = other.bells();
    let jobs = mongo.database().collection::<Document>("rocket_job.jobs");
    jobs.drop().await.unwrap();
    eventually("the stream is opened again", async || {
        (other.bells().waiting > before.waiting && other.hears_others()).then_some(())
    })
    .await;
    rings_from_to(&one, &other).await;
    database.drop().await;
}

#[tokio::test]
async fn what_the_original_writes_is_told_as_well() {
    let database = database("bell::what_the_original_writes").await;
    let (mongo, store) = open(database.url()).await;
    let _waiting = wait(&store);
    hears(&store, true).await;
    let jobs = mongo.database().collection::<Document>("rocket_job.jobs");
    let rang = async |known: u64, what: &str| {
        eventually(what, async || (store.bells().waiting > known).then_some(())).await;
    };
    let known = store.bells().waiting;
    let created = doc! { "_type": "A", "state": "queued", "priority": 50 };
    let id = jobs.insert_one(created).await.unwrap().inserted_id;
    rang(known, "created").await;
    let failed = doc! { "$set": { "state": "failed" } };
    jobs.update_one(doc! { "_id": &id }, failed).await.unwrap();
    let known = store.bells().waiting;
    let queued = doc! { "$set": { "state": "queued" } };
    jobs.update_one(doc! { "_id": &id }, queued).await.unwrap();
    rang(known, "retried").await;
    let later = doc! { "$set": { "run_at": bson::DateTime::MAX, "hold": "scheduled" } };
    jobs.update_one(doc! { "_id": &id }, later).await.unwrap();
    let known = store.bells().waiting;
    let now = doc! { "$unset": { "run_at": "" } };
    jobs.update_one(doc! { "_id": &id }, now).await.unwrap();
    rang(known, "to run now").await;
    database.drop().await;
}

#[tokio::test]
async fn a_standalone_server_is_not_heard_and_does_its_work() {
    let mongod = Mongod::start(Options::standalone()).await;
    let (_, store) = open(&mongod.url("jobs")).await;
    let known = store.bells();
    let waiting = wait(&store);
    // It rings once it is known that there is no change stream.
    let heard = store.work_ready(known).await;
    assert!(heard.ready > known.ready);
    assert!(!store.hears_others());
    assert!(!waiting.is_finished());
    let known = store.bells();
    job("A").insert(&store).await;
    assert!(store.work_ready(known).await.ready > known.ready);
}
