//! Several handles and several processes on one file.

#![expect(clippy::unwrap_used, reason = "tests panic: that is how they fail")]

use std::{
    collections::BTreeSet,
    env,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use rocketjob_core::{Change, Filter, Guard, Limit, Patch, Query, ReadFrom, Settled, State, Store};
use rocketjob_sqlite::SqliteStore;
use rocketjob_testing::{Claimer, FieldLimits, Wanted, claim_of, insert_all, job};
use tempfile::TempDir;
use tokio::task::JoinSet;

/// Where a second process finds the file; set by the test that starts it.
const PATH: &str = "ROCKETJOB_SQLITE_TEST_FILE";
const JOBS: usize = 400;
const MOST_RUNNING: u32 = 3;

async fn open(path: &Path) -> Store {
    Store::new(SqliteStore::open(path).await.unwrap())
}

/// Inserts jobs and works on whatever there is, until nothing is left. Says how many it completed.
async fn work(store: Store) -> u64 {
    let limits = FieldLimits::new("key", MOST_RUNNING);
    let mut producers = JoinSet::new();
    for _ in 0..4 {
        let store = store.clone();
        producers.spawn(async move {
            for _ in 0..JOBS / 4 {
                let name = job("Mail").keep().set("key", "all");
                insert_all(&store, [name]).await;
            }
        });
    }
    let claimer = Claimer::new(&store, ["Mail"]);
    let mut completed = 0;
    while count(&store, State::Queued).await > 0 || !producers.is_empty() {
        while let Some(inserted) = producers.try_join_next() {
            inserted.unwrap();
        }
        let claimed = claimer
            .claim_wanted(&Wanted {
                limits: &limits,
                ..Wanted::count(2)
            })
            .await;
        assert!(count(&store, State::Running).await <= u64::from(MOST_RUNNING));
        let patches = claimed.jobs.iter().map(|job| Patch {
            id: job.id(),
            guard: Guard::claimed(claim_of(job)),
            change: Change::new()
                .set("state", "completed")
                .increment("performed", 1),
        });
        let settled = store.settle(patches.collect()).await.unwrap();
        assert!(settled.iter().all(|settled| *settled == Settled::Accepted));
        completed += settled.len() as u64;
        store.release(&Limit::hold("all"), 2).await.unwrap();
    }
    completed
}

async fn count(store: &Store, state: State) -> u64 {
    store
        .count(&Filter::state(state), ReadFrom::Primary)
        .await
        .unwrap()
}

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

fn start_process(path: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "as_another_process", "--ignored"])
        .env(PATH, path)
        .spawn()
        .unwrap()
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs as the other process of `processes_share_the_work`"]
async fn as_another_process() {
    let path = PathBuf::from(env::var_os(PATH).unwrap());
    work(open(&path).await).await;
}
