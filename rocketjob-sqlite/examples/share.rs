//! One of several processes that share a file: it adds jobs of which at most three may run at a
//! time, and works on whatever there is until nothing is left. It fails when the limit is exceeded
//! or an outcome refused.
//!
//! ```text
//! cargo run -p rocketjob-sqlite --example share -- jobs.db
//! ```

#![expect(clippy::unwrap_used, reason = "it checks, and says so by failing")]

use std::path::{Path, PathBuf};

use rocketjob_core::{Change, Filter, Guard, Limit, Patch, ReadFrom, Settled, State, Store};
use rocketjob_sqlite::SqliteStore;
use rocketjob_testing::{Claimer, FieldLimits, Wanted, claim_of, insert_all, job};
use tokio::task::JoinSet;

pub(crate) const JOBS: usize = 400;
const MOST_RUNNING: u32 = 3;

pub(crate) async fn open(path: &Path) -> Store {
    Store::new(SqliteStore::open(path).await.unwrap())
}

/// Inserts jobs and works on whatever there is, until nothing is left. Says how many it completed.
pub(crate) async fn work(store: Store) -> u64 {
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

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let path = PathBuf::from(std::env::args_os().nth(1).unwrap());
    work(open(&path).await).await;
}
