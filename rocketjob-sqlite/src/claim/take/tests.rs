use bson::{Document, doc};
use rocketjob_core::{JobStore, State};
use tempfile::TempDir;

use super::*;
use crate::claim::Candidate;

/// A ready job as a scan finds it.
async fn candidate(store: &SqliteStore, more: Document) -> Candidate {
    let id = store.next_id();
    let mut document = doc! {
        "_id": id, "_type": "Mail", "state": "queued", "priority": 50, "ready": true, "own": 1,
    };
    document.extend(more);
    store.insert_raw(document).await.unwrap();
    let row = store
        .read(move |connection| Session::new(connection).row(&id.bytes()))
        .await;
    let row = row.unwrap().unwrap();
    let job = JobDocument::new(row.decode()).unwrap();
    Candidate {
        row,
        plan: Plan::Start(job, Vec::new()),
    }
}

fn take(store: &SqliteStore, candidates: Vec<Candidate>) -> Take {
    Take {
        missing: candidates.len(),
        candidates,
        token: "5f0000000000000000000001:1".into(),
        workers: vec!["here:1:1".into(), "here:1:2".into()],
        turn: 0,
        now: store.time(),
        mint: Mint(store.clone()),
    }
}

#[tokio::test]
async fn what_changed_since_it_was_found_is_left_as_it_is() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path().join("jobs.db"))
        .await
        .unwrap();
    let changes = [
        Change::new().set("own", 2),
        Change::new().set("new", 1),
        Change::new().set("priority", 1),
        Change::new().set("_type", "Other"),
        Change::new().set("state", "paused"),
        Change::new().set("run_at", bson::DateTime::from_millis(i64::MAX)),
        Change::new().set("hold", "limit:slow").unset("ready"),
        Change::new().set("claim", "another:1"),
        Change::new().set("worker_name", "there:1:1"),
        Change::new().set("unique_key", "one"),
        Change::new().set("unfinished_key", "one"),
        Change::new().set("sub_state", "before"),
        Change::new().set("successors", vec![1]),
        Change::new().set("slots", vec!["limit:slow:1"]),
        Change::delete(),
    ];
    for change in changes {
        for more in [doc! {}, doc! { "slots": [] }, doc! { "sub_state": 7 }] {
            let candidate = candidate(&store, more).await;
            let Plan::Start(job, _) = &candidate.plan else {
                panic!("{candidate:?}");
            };
            let id = job.id();
            store.change_raw(id, change.clone()).await.unwrap();
            let before = store.raw(id).await.unwrap();
            let mut claimed = Claimed::default();
            let take = take(&store, vec![candidate]);
            take.run(&store, &mut claimed).await.unwrap();
            assert_eq!(claimed.jobs, [], "{change:?}");
            assert_eq!(store.raw(id).await.unwrap(), before, "{change:?}");
            store.change_raw(id, Change::delete()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_is_handed_out_is_what_is_stored() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path().join("jobs.db"))
        .await
        .unwrap();
    let mut candidates = Vec::new();
    for more in [
        doc! {},
        doc! { "hold": "limit:slow", "worker_name": "there:1:1", "claim": "another:1" },
        doc! { "slots": ["limit:slow:1"] },
        doc! { "sub_state": 7, "unique_key": "one" },
        doc! { "successors": [1], "run_at": bson::DateTime::from_millis(1) },
    ] {
        candidates.push(candidate(&store, more).await);
    }
    let count = candidates.len();
    let mut claimed = Claimed::default();
    let take = take(&store, candidates);
    take.run(&store, &mut claimed).await.unwrap();
    assert_eq!(claimed.jobs.len(), count);
    for (number, job) in claimed.jobs.iter().enumerate() {
        assert_eq!(store.get(job.id()).await.unwrap().as_ref(), Some(job));
        assert_eq!(job.state(), State::Running);
        let worker = format!("here:1:{}", number % 2 + 1);
        assert_eq!(job.worker_name(), Some(worker.as_str()));
        assert!(!job.is_ready() && job.hold().is_none());
        assert!(!job.as_document().contains_key(name::SLOTS));
    }
}
