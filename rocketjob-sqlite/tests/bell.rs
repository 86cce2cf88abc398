//! What one process writes is heard by others that wait, through a file that may go at any time.

#![expect(clippy::unwrap_used, reason = "tests panic: that is how they fail")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use rocketjob_core::{Filter, ReadFrom, Store};
use rocketjob_sqlite::SqliteStore;
use rocketjob_testing::{eventually, job};
use tempfile::TempDir;

fn bell(folder: &TempDir) -> PathBuf {
    folder.path().join("jobs.db-bell")
}

async fn open(folder: &TempDir) -> Store {
    let path = folder.path().join("jobs.db");
    Store::new(SqliteStore::open(path).await.unwrap())
}

/// Somebody waits, for good, as an idle server does.
async fn listen(store: &Store) {
    tokio::spawn({
        let store = store.clone();
        async move {
            let mut known = store.bells();
            loop {
                known = store.work_ready(known).await;
            }
        }
    });
    hears(store, true).await;
}

async fn hears(store: &Store, others: bool) {
    eventually(&format!("hears others: {others}"), async || {
        (store.hears_others() == others).then_some(())
    })
    .await;
}

async fn is_there(file: &Path) {
    eventually("the file is there", async || file.exists().then_some(())).await;
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
async fn a_file_that_was_deleted_is_made_again_and_heard() {
    let folder = TempDir::new().unwrap();
    let (one, other) = (open(&folder).await, open(&folder).await);
    assert!(!other.hears_others(), "nobody has waited yet");
    listen(&other).await;
    rings_from_to(&one, &other).await;
    for _ in 0..3 {
        let before = other.bells();
        fs::remove_file(bell(&folder)).unwrap();
        eventually("told that it heard nothing for a while", async || {
            (other.bells().ready > before.ready).then_some(())
        })
        .await;
        is_there(&bell(&folder)).await;
        hears(&other, true).await;
        rings_from_to(&one, &other).await;
    }
}

#[tokio::test]
async fn the_file_may_go_while_nobody_listens() {
    let folder = TempDir::new().unwrap();
    let (one, other) = (open(&folder).await, open(&folder).await);
    job("A").insert(&one).await;
    is_there(&bell(&folder)).await;
    fs::remove_file(bell(&folder)).unwrap();
    listen(&other).await;
    rings_from_to(&one, &other).await;
}

#[tokio::test]
async fn what_follows_close_on_another_is_told_as_well() {
    let folder = TempDir::new().unwrap();
    let (one, other) = (open(&folder).await, open(&folder).await);
    listen(&other).await;
    for pair in 1..=50 {
        let seen = tokio::spawn({
            let other = other.clone();
            async move {
                loop {
                    let known = other.bells();
                    let jobs = other
                        .count(&Filter::all(), ReadFrom::Primary)
                        .await
                        .unwrap();
                    if jobs == pair * 2 {
                        break;
                    }
                    other.work_ready(known).await;
                }
            }
        });
        // The second one within the rest that follows on the first.
        job("A").insert(&one).await;
        job("A").insert(&one).await;
        eventually("both are seen", async || seen.is_finished().then_some(())).await;
    }
}

#[tokio::test]
async fn without_a_file_others_are_not_heard_and_nothing_fails() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(bell(&folder)).unwrap();
    let store = open(&folder).await;
    let known = store.bells();
    job("A").insert(&store).await;
    let heard = store.work_ready(known).await;
    assert!(heard.ready > known.ready, "this process is told");
    assert!(!store.hears_others());
    // As soon as there can be one, it is used.
    fs::remove_dir(bell(&folder)).unwrap();
    listen(&store).await;
    rings_from_to(&open(&folder).await, &store).await;
}
