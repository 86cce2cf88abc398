//! `JobStore::update_and_insert`.

use rocketjob_core::{Change, Filter, Guard, Insertion, JobDocument, Patch, Refusal, State};

use crate::{Harness, job};

/// A change that is made once.
fn once(job: &JobDocument) -> Patch {
    Patch {
        id: job.id(),
        guard: Guard::states([State::Queued]).matching(Filter::missing("passed_on")),
        change: Change::new().set("passed_on", true),
    }
}

/// The change is made, and the jobs are there.
pub async fn changes_a_job_and_adds_others(harness: &impl Harness) {
    let store = harness.store();
    let before = job("A").insert(&store).await;
    let added = [job("A").build(&store), job("B").build(&store)];
    let written = store.update_and_insert(once(&before), added.to_vec()).await;
    assert_eq!(written.unwrap(), Ok(vec![Insertion::Inserted; 2]));
    let other = harness.second().await;
    for job in added {
        assert_eq!(other.get(job.id()).await.unwrap(), Some(job));
    }
    let after = other.get(before.id()).await.unwrap().unwrap();
    assert!(after.get("passed_on").is_some());
}

/// A deletion is a change.
pub async fn deletes_a_job_and_adds_others(harness: &impl Harness) {
    let store = harness.store();
    let before = job("A").insert(&store).await;
    let next = job("A").build(&store);
    let patch = Patch {
        change: Change::delete(),
        ..once(&before)
    };
    let written = store.update_and_insert(patch, vec![next.clone()]).await;
    assert_eq!(written.unwrap(), Ok(vec![Insertion::Inserted]));
    assert_eq!(store.get(before.id()).await.unwrap(), None);
    assert_eq!(store.get(next.id()).await.unwrap(), Some(next));
}

/// Whoever comes late adds nothing, also when what was added first has gone meanwhile.
pub async fn adds_nothing_when_the_change_is_refused(harness: &impl Harness) {
    let store = harness.store();
    let before = job("A").insert(&store).await;
    let next = job("A").build(&store);
    let jobs = vec![next.clone()];
    let first = store.update_and_insert(once(&before), jobs.clone()).await;
    assert_eq!(first.unwrap(), Ok(vec![Insertion::Inserted]));
    assert_eq!(
        store.delete(&Filter::eq("_id", next.id())).await.unwrap(),
        1
    );

    let late = store.update_and_insert(once(&before), jobs.clone()).await;
    assert_eq!(late.unwrap(), Err(Refusal::State(State::Queued)));
    assert_eq!(store.get(next.id()).await.unwrap(), None);

    store.delete(&Filter::eq("_id", before.id())).await.unwrap();
    let late = store.update_and_insert(once(&before), jobs).await;
    assert_eq!(late.unwrap(), Err(Refusal::NotFound));
    assert_eq!(store.get(next.id()).await.unwrap(), None);
}

/// A job that is there already, or whose key is in use, is left out; all else is done.
pub async fn leaves_out_what_exists(harness: &impl Harness) {
    let store = harness.store();
    let before = job("A").insert(&store).await;
    let holder = job("A").unique("key").insert(&store).await;
    let there = job("A").set("step", 1).insert(&store).await;
    let again = job("A").id(there.id()).set("step", 2).build(&store);
    let rival = job("A").unique("key").build(&store);
    let new = job("A").unique("other").build(&store);
    let jobs = vec![again, rival.clone(), new.clone()];
    let written = store.update_and_insert(once(&before), jobs).await;
    let expected = [
        Insertion::Existing(there.id()),
        Insertion::Existing(holder.id()),
        Insertion::Inserted,
    ];
    assert_eq!(written.unwrap(), Ok(expected.to_vec()));
    assert_eq!(store.get(there.id()).await.unwrap(), Some(there));
    assert_eq!(store.get(rival.id()).await.unwrap(), None);
    assert_eq!(store.get(new.id()).await.unwrap(), Some(new));
    let after = store.get(before.id()).await.unwrap().unwrap();
    assert!(after.get("passed_on").is_some());
}

/// Without jobs it is an update, and without a change an insertion under a guard.
pub async fn does_either_alone(harness: &impl Harness) {
    let store = harness.store();
    let before = job("A").insert(&store).await;
    let written = store.update_and_insert(once(&before), Vec::new()).await;
    assert_eq!(written.unwrap(), Ok(Vec::new()));
    let next = job("A").build(&store);
    let nothing = Patch {
        id: before.id(),
        guard: Guard::states([State::Queued]),
        change: Change::new(),
    };
    let written = store.update_and_insert(nothing, vec![next.clone()]).await;
    assert_eq!(written.unwrap(), Ok(vec![Insertion::Inserted]));
    assert_eq!(store.get(next.id()).await.unwrap(), Some(next));
    let after = store.get(before.id()).await.unwrap().unwrap();
    assert!(after.get("passed_on").is_some(), "it is as it was");
}

/// Of any number who do the same at the same time, one does.
pub async fn is_done_by_one_of_many(harness: &impl Harness) {
    let stores = [harness.store(), harness.second().await];
    let before = job("A").insert(&stores[0]).await;
    let next = job("A").build(&stores[0]);
    let tries = stores.iter().cycle().take(16).map(|store| {
        let (store, patch, job) = (store.clone(), once(&before), next.clone());
        tokio::spawn(async move { store.update_and_insert(patch, vec![job]).await })
    });
    let tries: Vec<_> = tries.collect();
    let mut done = 0;
    for tried in tries {
        match tried.await.unwrap().unwrap() {
            Ok(_) => done += 1,
            Err(refusal) => assert_eq!(refusal, Refusal::State(State::Queued)),
        }
    }
    assert_eq!(done, 1);
    assert_eq!(stores[0].get(next.id()).await.unwrap(), Some(next));
}
