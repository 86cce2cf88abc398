//! `JobStore::claim`: which jobs, in which order, and what is written to them.

use std::{collections::BTreeMap, time::Duration};

use bson::{Bson, doc, oid::ObjectId};
use rocketjob_core::{Filter, JobDocument, State, UNDECODABLE, date, later, name};

use super::{HOUR, before};
use crate::{Claimer, Harness, Wanted, eventually, ids, insert_all, job};

/// By how much claims that may lag may do so.
const LAG: Duration = Duration::from_secs(1);

/// The order is (priority, id), over all kinds together.
pub async fn prefers_the_better_priority_and_then_the_older_job(harness: &impl Harness) {
    let store = harness.store();
    let inserted = insert_all(
        &store,
        [
            job("A").priority(50),
            job("B").priority(10),
            job("C").priority(50),
            job("A").priority(10),
            job("C").priority(1),
            job("B").priority(50),
        ],
    )
    .await;
    let claimed = Claimer::new(&store, ["C", "A", "B"]).claim(10).await;
    let order = [4, 1, 3, 0, 2, 5].map(|number| inserted[number]);
    assert_eq!(ids(&claimed.jobs), order);
}

/// Not more than `count`, and the next claim goes on behind them.
pub async fn takes_at_most_the_count(harness: &impl Harness) {
    let store = harness.store();
    let inserted = insert_all(&store, (0..5).map(|_| job("A"))).await;
    let claimer = Claimer::new(&store, ["A"]);
    assert_eq!(ids(&claimer.claim(2).await.jobs), inserted[..2]);
    assert_eq!(ids(&claimer.claim(2).await.jobs), inserted[2..4]);
    assert_eq!(ids(&claimer.claim(2).await.jobs), inserted[4..]);
    assert_eq!(ids(&claimer.claim(2).await.jobs), []);
}

/// Who has no idle worker gets nothing.
pub async fn takes_nothing_when_asked_for_none(harness: &impl Harness) {
    let store = harness.store();
    let inserted = job("A").insert(&store).await;
    assert_eq!(Claimer::new(&store, ["A"]).claim(0).await.jobs, []);
    assert_eq!(store.get(inserted.id()).await.unwrap(), Some(inserted));
}

/// A kind that is named twice, such as by an alias, is one kind.
pub async fn counts_a_kind_once_that_is_named_twice(harness: &impl Harness) {
    let store = harness.store();
    let inserted = insert_all(&store, [job("A"), job("B"), job("A")]).await;
    let claimer = Claimer::new(&store, ["A", "B", "A"]);
    assert_eq!(ids(&claimer.claim(2).await.jobs), inserted[..2]);
    assert_eq!(ids(&claimer.claim(10).await.jobs), inserted[2..]);
}

/// A server that knows no kind gets nothing.
pub async fn takes_nothing_without_kinds(harness: &impl Harness) {
    let store = harness.store();
    job("A").insert(&store).await;
    let claimer = Claimer::new(&store, [""; 0]);
    assert_eq!(claimer.claim(10).await.jobs, []);
}

/// Kinds are exact names: no prefix, no pattern, no other case.
pub async fn takes_only_the_kinds_that_the_server_knows(harness: &impl Harness) {
    let store = harness.store();
    let foreign = ["Report", "ReportJobs", "reportjob", "X::ReportJob", "R.*"];
    insert_all(&store, foreign.map(|kind| job(kind).priority(1))).await;
    let own = job("ReportJob").insert(&store).await;
    let claimer = Claimer::new(&store, ["ReportJob", "Never::Seen"]);
    assert_eq!(ids(&claimer.claim(10).await.jobs), [own.id()]);
}

/// The order holds over 201 kinds, one more than MongoDB can merge in one query.
pub async fn keeps_the_order_over_201_kinds(harness: &impl Harness) {
    keeps_the_order_over(harness, 201).await;
}

/// The order holds over 500 kinds.
pub async fn keeps_the_order_over_500_kinds(harness: &impl Harness) {
    keeps_the_order_over(harness, 500).await;
}

async fn keeps_the_order_over(harness: &impl Harness, kinds: i32) {
    let store = harness.store();
    let kind = |number: i32| format!("Kind{number}");
    // Neighbours in the list of kinds are far from each other in the order of claims.
    let mut expected = Vec::new();
    let jobs: Vec<JobDocument> = (0..kinds)
        .map(|number| {
            let built = job(kind(number))
                .priority(1 + number * 37 % 100)
                .build(&store);
            expected.push((built.priority(), built.id()));
            built
        })
        .collect();
    store.insert(jobs).await.unwrap();
    expected.sort_unstable();
    let expected: Vec<ObjectId> = expected.into_iter().map(|(_, id)| id).collect();
    let claimer = Claimer::new(&store, (0..kinds).map(kind));
    assert_eq!(ids(&claimer.claim(7).await.jobs), expected[..7]);
    assert_eq!(ids(&claimer.claim(1000).await.jobs), expected[7..]);
}

/// The filter decides further which jobs are taken.
pub async fn takes_only_what_matches_the_filter(harness: &impl Harness) {
    let store = harness.store();
    let inserted = insert_all(
        &store,
        [
            job("A").set("size", 1).priority(1),
            job("A").set("size", 10),
            job("B").set("size", 20),
            job("A"),
        ],
    )
    .await;
    let filter = Filter::gte("size", 10);
    let wanted = Wanted {
        filter: Some(&filter),
        ..Wanted::count(10)
    };
    let claimer = Claimer::new(&store, ["A", "B"]);
    let claimed = claimer.claim_wanted(&wanted).await;
    assert_eq!(ids(&claimed.jobs), inserted[1..3]);
    assert_eq!(
        ids(&claimer.claim(10).await.jobs),
        [inserted[0], inserted[3]]
    );
}

/// A filter that leaves out any number of jobs at the head still finds what lies behind them.
pub async fn finds_a_match_behind_many_others(harness: &impl Harness) {
    let store = harness.store();
    insert_all(&store, (0..300).map(|_| job("A").set("size", 1))).await;
    let large = job("A").set("size", 10).insert(&store).await;
    let filter = Filter::gte("size", 10);
    let wanted = Wanted {
        filter: Some(&filter),
        ..Wanted::count(1)
    };
    let claimed = Claimer::new(&store, ["A"]).claim_wanted(&wanted).await;
    assert_eq!(ids(&claimed.jobs), [large.id()]);
}

/// A job that is marked ready still waits for its `run_at`.
pub async fn never_starts_a_job_before_its_time(harness: &impl Harness) {
    let store = harness.store();
    let now = store.now();
    let early = job("A")
        .priority(1)
        .set(name::RUN_AT, date(later(now, HOUR)));
    let due = job("A").set(name::RUN_AT, date(before(now, HOUR)));
    let cleared = job("A").set(name::RUN_AT, Bson::Null);
    let inserted = insert_all(&store, [early, due, cleared]).await;
    let claimed = Claimer::new(&store, ["A"]).claim(10).await;
    assert_eq!(ids(&claimed.jobs), inserted[1..]);
}

/// The mark alone never makes a job claimable: a server of the original leaves it standing.
pub async fn never_takes_a_marked_job_that_is_not_queued(harness: &impl Harness) {
    let store = harness.store();
    for state in State::ALL.into_iter().filter(|s| *s != State::Queued) {
        let marked = job("A").state(state).set(name::READY, true);
        harness.put_raw(marked.document(&store)).await;
    }
    let claimed = Claimer::new(&store, ["A"]).claim(10).await;
    assert_eq!(claimed.jobs, []);
    assert_eq!(claimed.batches, []);
}

/// A queued job without the mark is not taken: it is held, or not yet adopted.
pub async fn never_takes_a_queued_job_that_is_not_ready(harness: &impl Harness) {
    let store = harness.store();
    insert_all(&store, [job("A").held("limit:x"), job("A").unmarked()]).await;
    assert_eq!(Claimer::new(&store, ["A"]).claim(10).await.jobs, []);
}

/// A claimed job is running under the token, with its worker and `started_at`, and has no mark
/// any more; what is returned is what is stored.
pub async fn writes_state_token_worker_and_time(harness: &impl Harness) {
    let store = harness.store();
    job("A").set("own", "field").insert(&store).await;
    let claimer = Claimer::new(&store, ["A"]);
    let earliest = store.now();
    let (claimed, claim) = claimer.claim_one().await;
    assert_eq!(claimed.state(), State::Running);
    assert_eq!(claim.token, format!("{}:1", claimer.server.to_hex()));
    assert_eq!(claim.worker_name, claimer.workers[0]);
    assert!(!claimed.as_document().contains_key(name::READY));
    assert_eq!(claimed.get("own"), Some(&Bson::from("field")));
    let started_at = claimed.started_at().unwrap();
    let tolerance = std::time::Duration::from_secs(5);
    assert!(started_at >= before(earliest, tolerance));
    assert!(started_at <= later(store.now(), tolerance));
    let stored = harness.second().await.get(claimed.id()).await.unwrap();
    assert_eq!(stored, Some(claimed));
}

/// A claim forgets why the job was held before.
pub async fn removes_a_hold_that_was_left_standing(harness: &impl Harness) {
    let store = harness.store();
    let marked = job("A").set(name::HOLD, "limit:x").insert(&store).await;
    Claimer::new(&store, ["A"]).claim_one().await;
    let raw = harness.raw(marked.id()).await.unwrap();
    assert_eq!(raw.get(name::HOLD).filter(|v| **v != Bson::Null), None);
}

/// The workers get the jobs in turn.
pub async fn gives_the_jobs_to_the_workers_in_turn(harness: &impl Harness) {
    let store = harness.store();
    insert_all(&store, (0..5).map(|_| job("A"))).await;
    let claimer = Claimer::new(&store, ["A"]).with_workers(2);
    let claimed = claimer.claim(5).await.jobs;
    let workers: Vec<_> = claimed
        .iter()
        .filter_map(JobDocument::worker_name)
        .collect();
    let [first, second] = [&claimer.workers[0], &claimer.workers[1]];
    assert_eq!(workers, [first, second, first, second, first]);
    for claimed in claimed {
        let stored = store.get(claimed.id()).await.unwrap().unwrap();
        assert_eq!(stored.worker_name(), claimed.worker_name());
    }
}

/// The first `skip` jobs are left to other servers.
pub async fn leaves_the_head_to_other_servers(harness: &impl Harness) {
    let store = harness.store();
    let inserted = insert_all(&store, (0..6).map(|number| job(["A", "B"][number % 2]))).await;
    let wanted = Wanted {
        skip: 2,
        ..Wanted::count(3)
    };
    let claimer = Claimer::new(&store, ["A", "B"]);
    let claimed = claimer.claim_wanted(&wanted).await;
    assert_eq!(ids(&claimed.jobs), inserted[2..5]);
    assert_eq!(
        ids(&claimer.claim(9).await.jobs),
        [inserted[0], inserted[1], inserted[5]]
    );
}

/// What a claim left to others is found by claims that may lag, since it is not new.
pub async fn lets_no_claim_lag_behind_what_was_left_to_others(harness: &impl Harness) {
    let store = harness.store();
    let inserted = insert_all(&store, (0..9).map(|_| job("A"))).await;
    let known = later(store.now(), LAG);
    eventually("the jobs are no news", async || {
        (store.now() > known).then_some(())
    })
    .await;
    let wanted = Wanted {
        skip: 3,
        ..Wanted::count(3)
    };
    let behind = Claimer::new(&store, ["A"]).claim_wanted(&wanted).await;
    assert_eq!(ids(&behind.jobs), inserted[3..6]);
    let lagging = Claimer::new(&store, ["A"]).that_may_lag();
    assert_eq!(ids(&lagging.claim(3).await.jobs), inserted[..3]);
    assert_eq!(ids(&lagging.claim(3).await.jobs), inserted[6..]);
}

/// When nothing lies behind the head, it is not left to others.
pub async fn takes_the_head_when_nothing_lies_behind_it(harness: &impl Harness) {
    let store = harness.store();
    let inserted = insert_all(&store, [job("A"), job("A")]).await;
    // Not a candidate, so it does not lie behind them.
    job("B").insert(&store).await;
    let wanted = Wanted {
        skip: 2,
        ..Wanted::count(5)
    };
    let claimed = Claimer::new(&store, ["A"]).claim_wanted(&wanted).await;
    assert_eq!(ids(&claimed.jobs), inserted);
}

/// Any number of concurrent claims on two handles never return the same job, and together all.
pub async fn never_gives_one_job_to_two_claimers(harness: &impl Harness) {
    let handles = [harness.store(), harness.second().await];
    let inserted = insert_all(&handles[0], (0..200).map(|_| job("A"))).await;
    let tasks: Vec<_> = (0..8)
        .map(|number| {
            let claimer = Claimer::new(&handles[number % 2], ["A"]);
            tokio::spawn(async move {
                let mut taken = Vec::new();
                // Losing a race may leave a claim with less than there is, so several in a row.
                let mut empty = 0;
                while empty < 3 {
                    let jobs = claimer.claim(1 + number).await.jobs;
                    empty = if jobs.is_empty() { empty + 1 } else { 0 };
                    taken.extend(jobs);
                }
                taken
            })
        })
        .collect();
    let mut holders = BTreeMap::new();
    for task in tasks {
        for job in task.await.unwrap() {
            let claim = job.claim();
            assert!(claim.is_some());
            let other = holders.insert(job.id(), claim);
            assert_eq!(other, None, "two claims of one job");
        }
    }
    assert_eq!(holders.keys().copied().collect::<Vec<_>>(), inserted);
    for (id, claim) in holders {
        let stored = handles[0].get(id).await.unwrap().unwrap();
        assert_eq!(stored.claim(), claim, "the stored claim is the one told");
    }
}

/// Running batches that hand out slices are returned in their place, and nothing is written.
pub async fn joins_running_batches_without_writing(harness: &impl Harness) {
    let store = harness.store();
    let batch = |sub_state: &str| {
        job("Batch")
            .state(State::Running)
            .set(name::SUB_STATE, sub_state)
            .set(name::WORKER_NAME, "other:1:1")
            .set(name::STARTED_AT, date(store.now()))
            .set(name::CLAIM, "0123456789abcdef01234567:7")
    };
    let open = batch("processing").set(name::READY, true);
    let inserted = insert_all(
        &store,
        [
            open.clone(),
            // Not yet uploaded, no slices left, a kind that is not known.
            batch("before").set(name::READY, true),
            batch("processing"),
            open.set(name::KIND, "Unknown"),
            job("A"),
        ],
    )
    .await;
    let before = harness.raw(inserted[0]).await.unwrap();
    let claimed = Claimer::new(&store, ["A", "Batch"]).claim(10).await;
    assert_eq!(ids(&claimed.batches), inserted[..1]);
    assert_eq!(claimed.batches[0].as_document(), &before);
    assert_eq!(ids(&claimed.jobs), inserted[4..]);
    assert_eq!(harness.raw(inserted[0]).await.unwrap(), before);
}

/// A document whose envelope is broken is failed and reported, and nothing else suffers.
pub async fn sets_undecodable_documents_aside(harness: &impl Harness) {
    let store = harness.store();
    let broken = job("A")
        .priority(1)
        .set(name::FAILURE_COUNT, "many")
        .document(&store);
    let id = broken.get_object_id(name::ID).unwrap();
    harness.put_raw(broken).await;
    let good = job("A").insert(&store).await;
    let claimer = Claimer::new(&store, ["A"]);
    let claimed = claimer.claim(10).await;
    assert_eq!(ids(&claimed.jobs), [good.id()]);
    assert_eq!(claimed.set_aside.len(), 1);
    assert_eq!(claimed.set_aside[0].id, id.to_hex());
    assert!(
        claimed.set_aside[0].reason.contains(name::FAILURE_COUNT),
        "the reason names the field: {}",
        claimed.set_aside[0].reason
    );
    let raw = harness.raw(id).await.unwrap();
    assert_eq!(raw.get_str(name::STATE).unwrap(), State::Failed.as_str());
    let exception = raw.get_document(name::EXCEPTION).unwrap();
    assert_eq!(exception.get_str("class_name").unwrap(), UNDECODABLE);
    assert_eq!(
        exception.get_str("message").unwrap(),
        claimed.set_aside[0].reason
    );
    assert_eq!(claimer.claim(10).await.set_aside, []);
}

/// However many documents at the head are broken, the next good job is found.
pub async fn gets_past_any_number_of_undecodable_documents(harness: &impl Harness) {
    let store = harness.store();
    for _ in 0..20 {
        let broken = job("A").priority(1).set(name::DESCRIPTION, doc! {});
        harness.put_raw(broken.document(&store)).await;
    }
    let good = job("A").insert(&store).await;
    let claimer = Claimer::new(&store, ["A"]);
    let mut jobs = Vec::new();
    for _ in 0..=20 {
        jobs.extend(claimer.claim(1).await.jobs);
    }
    assert_eq!(ids(&jobs), [good.id()]);
    let failed = Filter::state(State::Failed);
    let failed = store
        .count(&failed, rocketjob_core::ReadFrom::Primary)
        .await;
    assert_eq!(failed.unwrap(), 20);
}

/// Who found less than asked for is told when the next scheduled job falls due.
pub async fn tells_when_the_next_job_falls_due(harness: &impl Harness) {
    let store = harness.store();
    let claimer = Claimer::new(&store, ["A"]);
    assert_eq!(claimer.claim(1).await.next_due, None);
    let soon = later(store.now(), HOUR);
    insert_all(
        &store,
        [
            job("A").scheduled(later(soon, HOUR)),
            job("A").scheduled(soon),
            job("A"),
        ],
    )
    .await;
    assert_eq!(claimer.claim(2).await.next_due, Some(soon));
}

/// Who got all that was asked for will ask again anyway.
pub async fn tells_no_due_time_when_it_found_enough(harness: &impl Harness) {
    let store = harness.store();
    let due = job("A").scheduled(later(store.now(), HOUR));
    insert_all(&store, [due, job("A")]).await;
    assert_eq!(Claimer::new(&store, ["A"]).claim(1).await.next_due, None);
}
