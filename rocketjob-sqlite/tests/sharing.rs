//! Several handles and several processes on one file.

#![expect(clippy::unwrap_used, reason = "tests panic: that is how they fail")]

#[path = "../examples/share.rs"]
#[expect(dead_code, reason = "the program's own `main`")]
mod share;

use std::{
    collections::BTreeSet,
    env,
    path::Path,
    process::{Child, Command},
};

use rocketjob_core::{Filter, Query, ReadFrom, State, Store};
use rocketjob_testing::claim_of;
use tempfile::TempDir;

use share::{JOBS, open, work};

async fn assert_each_was_performed_once(store: &Store, jobs: usize) {
    let once = Filter::state(State::Completed).and(Filter::eq("performed", 1));
    let count = store.count(&once, ReadFrom::Primary).await.unwrap();
    assert_eq!(count, jobs as u64);
    let all = store
        .count(&Filter::all(), ReadFrom::Primary)
        .await
        .unwrap();
    assert_eq!(all, jobs as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn independent_handles_share_the_work() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("jobs.db");
    let first = open(&path).await;
    let second = open(&path).await;
    let (one, two) = tokio::join!(
        tokio::spawn(work(first.clone())),
        tokio::spawn(work(second))
    );
    assert_eq!(one.unwrap() + two.unwrap(), 2 * JOBS as u64);
    assert_each_was_performed_once(&first, 2 * JOBS).await;
}

/// The example, which Cargo builds together with the tests.
fn start_process(path: &Path) -> Child {
    let tests = env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples/share");
    let name = program.display().to_string();
    let started = Command::new(program).arg(path).spawn();
    started.unwrap_or_else(|error| panic!("{name}: {error}: run `cargo build --examples`"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_share_the_work() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("jobs.db");
    let mut others = [start_process(&path), start_process(&path)];
    let store = open(&path).await;
    work(store.clone()).await;
    let waiting =
        tokio::task::spawn_blocking(move || others.each_mut().map(|other| other.wait().unwrap()));
    for status in waiting.await.unwrap() {
        assert!(status.success(), "{status}");
    }
    assert_each_was_performed_once(&store, 3 * JOBS).await;
    let claimed = Query {
        limit: 3 * JOBS,
        ..Query::new(Filter::exists("claim"))
    };
    let servers: BTreeSet<String> = store
        .find(&claimed)
        .await
        .unwrap()
        .iter()
        .map(|job| claim_of(job).token[..24].to_owned())
        .collect();
    assert_eq!(servers.len(), 3, "all processes took part");
}
