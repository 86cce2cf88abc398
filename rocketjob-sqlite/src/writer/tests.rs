use std::sync::mpsc;

use bson::doc;
use futures_util::future::join_all;
use rocketjob_core::{Filter, JobDocument, JobStore, ReadFrom};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{SqliteStore, error::Failure, watch::Watch};

struct Fixture {
    folder: TempDir,
    store: SqliteStore,
}

impl Fixture {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let store = SqliteStore::open(folder.path().join("jobs.db"))
            .await
            .unwrap();
        Self { folder, store }
    }

    fn watch(&self) -> std::sync::Arc<Watch> {
        Watch::of(&self.folder.path().join("jobs.db"))
    }

    async fn count(&self) -> u64 {
        self.store
            .count(&Filter::all(), ReadFrom::Primary)
            .await
            .unwrap()
    }

    /// Keeps the writer busy, within a transaction, until the sender is used.
    async fn busy(&self) -> (mpsc::Sender<()>, JoinHandle<()>) {
        let (go_on, wait) = mpsc::channel();
        let (begun, has_begun) = oneshot::channel();
        let store = self.store.clone();
        let task = tokio::spawn(async move {
            let waited = store.write(move |_session| {
                begun.send(()).unwrap();
                wait.recv().unwrap();
                Ok(())
            });
            waited.await.unwrap();
        });
        has_begun.await.unwrap();
        (go_on, task)
    }
}

fn job(store: &SqliteStore) -> JobDocument {
    let document =
        doc! { "_id": store.next_id(), "_type": "Mail", "state": "queued", "ready": true };
    JobDocument::new(document).unwrap()
}

/// Polls `future` once, so that what it asks for is in the queue.
macro_rules! begin {
    ($future:ident) => {
        let mut $future = std::pin::pin!($future);
        assert!(futures_util::poll!(&mut $future).is_pending());
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_come_during_a_transaction_share_the_next_one() {
    let fixture = Fixture::new().await;
    let (go_on, busy) = fixture.busy().await;
    let watch = fixture.watch();
    watch.reset();
    let inserts = join_all((0..10).map(|_| fixture.store.insert(vec![job(&fixture.store)])));
    begin!(inserts);
    go_on.send(()).unwrap();
    busy.await.unwrap();
    assert!(inserts.await.into_iter().all(|result| result.is_ok()));
    assert_eq!(fixture.count().await, 10);
    assert_eq!(watch.runs("BEGIN IMMEDIATE"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_takes_no_other_with_it() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let (go_on, busy) = fixture.busy().await;
    let [first, wrong, last] = [job(store), job(store), job(store)];
    let before = store.insert(vec![first]);
    begin!(before);
    let failing = store.write(move |session| {
        session.insert(wrong.into_document())?.unwrap();
        Err::<(), _>(Failure::Unexpected("on purpose".into()))
    });
    begin!(failing);
    let after = store.insert(vec![last]);
    begin!(after);
    go_on.send(()).unwrap();
    busy.await.unwrap();
    before.await.unwrap();
    let error = failing.await.unwrap_err();
    assert!(error.chain().contains("on purpose"), "{error:?}");
    after.await.unwrap();
    assert_eq!(fixture.count().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_alone_leaves_nothing() {
    let fixture = Fixture::new().await;
    let job = job(&fixture.store);
    let failing = fixture.store.write(move |session| {
        session.insert(job.into_document())?.unwrap();
        Err::<(), _>(Failure::Unexpected("on purpose".into()))
    });
    failing.await.unwrap_err();
    assert_eq!(fixture.count().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_breaks_off_its_group_and_the_store_goes_on() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let inserted = job(store);
    let panicking = store.write(move |session| -> Result<(), Failure> {
        session.insert(inserted.into_document())?.unwrap();
        panic!("on purpose")
    });
    let error = panicking.await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    store.insert(vec![job(store)]).await.unwrap();
    assert_eq!(fixture.count().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_caller_has_gone_is_not_begun() {
    let fixture = Fixture::new().await;
    let (go_on, busy) = fixture.busy().await;
    {
        let insert = fixture.store.insert(vec![job(&fixture.store)]);
        begin!(insert);
    }
    go_on.send(()).unwrap();
    busy.await.unwrap();
    fixture
        .store
        .insert(vec![job(&fixture.store)])
        .await
        .unwrap();
    assert_eq!(fixture.count().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_an_error_and_not_the_end() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let limit = |pages: i64| {
        store.write(move |session| {
            let mut statement = session.prepare(&format!("PRAGMA max_page_count = {pages}"))?;
            let _: i64 = statement.query_row([], |row| row.get(0))?;
            Ok(())
        })
    };
    limit(1).await.unwrap();
    let mut large = job(store).into_document();
    large.insert("text", "x".repeat(1_000_000));
    let large = JobDocument::new(large).unwrap();
    let error = store.insert(vec![large.clone()]).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert!(error.chain().contains("make room"), "{error:?}");
    limit(1_000_000).await.unwrap();
    store.insert(vec![large]).await.unwrap();
    assert_eq!(fixture.count().await, 1);
}

#[test]
fn the_end_of_a_runtime_does_not_block_the_next_one() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .build()
            .unwrap()
    };
    let first = runtime();
    let fixture = first.block_on(Fixture::new());
    // The only thread for blocking work is taken, so that the write is asked for and never begun.
    let (go_on, wait) = mpsc::channel::<()>();
    first.spawn_blocking(move || wait.recv());
    first.block_on(async {
        let insert = fixture.store.insert(vec![job(&fixture.store)]);
        begin!(insert);
    });
    first.shutdown_background();
    drop(go_on);
    runtime().block_on(async {
        // What was asked for before the end became known is broken off with it, and told so.
        let insert = || fixture.store.insert(vec![job(&fixture.store)]);
        if let Err(error) = insert().await {
            assert!(error.is_transient(), "{error:?}");
            insert().await.unwrap();
        }
        assert_eq!(fixture.count().await, 1);
    });
}
