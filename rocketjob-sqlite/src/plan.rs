//! Tests: the plans of the statements that the store really runs, and what a claim costs.

use std::{collections::BTreeSet, ops::ControlFlow, path::PathBuf, sync::Arc};

use bson::{Document, doc, oid::ObjectId};
use jiff::Timestamp;
use rocketjob_core::{
    ALL_PRIORITIES, Act, Change, ClaimRequest, ClaimToken, Claimed, Ended, Filter, Guard,
    InspectStore, JobDocument, JobFailure, JobSet, JobStore, Kinds, Limit, Limits, ManualClock,
    NoLimits, Patch, Query, ReadFrom, Registry, State, Steered, Store, Transition, steer_all,
};
use rusqlite::{Connection, params};
use tempfile::TempDir;

use crate::{Options, SqliteStore, rest, sql, watch::Watch};

/// A file with jobs, and the store on it.
struct Large {
    _folder: TempDir,
    path: PathBuf,
    store: SqliteStore,
    watch: Arc<Watch>,
    server: ObjectId,
}

impl Large {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("jobs.db");
        let store = Options::new()
            .clock(ManualClock::default())
            .open(&path)
            .await
            .unwrap();
        Self {
            _folder: folder,
            watch: Watch::of(&path),
            path,
            server: store.next_id(),
            store,
        }
    }

    fn connection(&self) -> Connection {
        let connection = Connection::open(&self.path).unwrap();
        rest::register(&connection).unwrap();
        connection
            .execute_batch("PRAGMA synchronous = OFF")
            .unwrap();
        connection
    }

    /// Adds jobs of all sorts: half of them scheduled, most others ready.
    fn fill(&self, jobs: i64, kinds: i64) {
        self.connection()
            .execute(
                "INSERT INTO jobs (id, kind, state, priority, run_at, created_at, completed_at, \
                 worker_name, claim, ready, hold, rest)
                 WITH RECURSIVE numbers (n) AS (
                     SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?1
                 ),
                 sorts (n, sort) AS (
                     SELECT n, CASE WHEN n % 2 = 0 THEN 'scheduled' ELSE
                         CASE n / 2 % 10 WHEN 1 THEN 'running' WHEN 3 THEN 'failed'
                         WHEN 5 THEN 'completed' WHEN 7 THEN 'held' ELSE 'ready' END END
                     FROM numbers
                 )
                 SELECT CAST(printf('%012d', n) AS BLOB), printf('Kind%03d', n / 20 % ?2),
                     CASE WHEN sort IN ('running', 'failed', 'completed') THEN sort ELSE 'queued' END,
                     n % 100 + 1,
                     CASE sort WHEN 'scheduled' THEN 4000000000000 + n END,
                     n, CASE WHEN sort IN ('failed', 'completed') THEN n END,
                     CASE sort WHEN 'running' THEN 'worker' END,
                     CASE sort WHEN 'running' THEN ?3 || (n % 20 + 10) || ':1' END,
                     CASE sort WHEN 'ready' THEN 1 END,
                     CASE sort WHEN 'scheduled' THEN 'scheduled' WHEN 'held' THEN 'limit:slow' END,
                     x'0500000000'
                 FROM sorts",
                params![jobs, kinds, &self.server.to_hex()[..22]],
            )
            .unwrap();
    }

    async fn claim(&self, count: usize, kinds: usize, limits: &dyn Limits) -> Claimed {
        let kinds: Vec<String> = (0..kinds).map(|n| format!("Kind{n:03}")).collect();
        let request = ClaimRequest {
            token: ClaimToken {
                server: self.server,
                sequence: 1,
            },
            workers: &["worker".to_owned()],
            count,
            kinds: &kinds,
            filter: None,
            skip: 0,
            may_lag: false,
            at_once: count,
            limits,
        };
        self.store.claim(&request).await.unwrap()
    }

    /// The steps that a claim of 100 takes when its statements are prepared already.
    async fn cost_of_a_claim(&self, kinds: usize) -> u64 {
        self.claim(100, kinds, &NoLimits).await;
        self.watch.reset();
        let claimed = self.claim(100, kinds, &NoLimits).await;
        assert_eq!(claimed.jobs.len(), 100);
        self.watch.steps()
    }

    /// What the statements that ran since the last reset read, and how.
    fn plans(&self) -> Vec<(String, Vec<String>)> {
        let connection = self.connection();
        let statements = self.watch.statements().into_iter().filter(|sql| {
            ["SELECT", "INSERT", "UPDATE", "DELETE"]
                .iter()
                .any(|verb| sql.starts_with(verb))
        });
        statements
            .map(|sql| {
                let mut statement = connection
                    .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
                    .unwrap();
                let nothing = vec![rusqlite::types::Null; statement.parameter_count()];
                let lines = statement
                    .query_map(rusqlite::params_from_iter(nothing), |row| row.get(3))
                    .unwrap()
                    .collect::<Result<_, _>>()
                    .unwrap();
                (sql, lines)
            })
            .collect()
    }

    /// Checks that what ran since the last reset used `indexes` and the primary keys, each by a
    /// search. `in_order` is an index of which only the first entries are read, in its order.
    fn assert_uses(&self, indexes: &[&str], in_order: Option<&str>) {
        let mut used = BTreeSet::new();
        let mut in_order_used = None;
        for (sql, lines) in self.plans() {
            for line in lines {
                let index = line
                    .split_once("INDEX ")
                    .map(|(_, rest)| rest.split(' ').next().unwrap().to_owned());
                match index {
                    Some(index) if line.starts_with("SEARCH ") => {
                        used.insert(index);
                    }
                    None if line.starts_with("SEARCH ") && line.contains("PRIMARY KEY") => {}
                    // No more than a server has in hand.
                    None if line.starts_with("USE TEMP B-TREE") && sql == sql::CLAIMS_OF => {}
                    Some(index) if in_order == Some(&index) && sql.ends_with("LIMIT 1") => {
                        in_order_used = Some(index);
                    }
                    _ => panic!("{line}\n  in {sql}"),
                }
            }
        }
        let used: Vec<_> = used.iter().map(String::as_str).collect();
        assert_eq!(used, indexes);
        assert_eq!(in_order_used.as_deref(), in_order);
    }
}

#[derive(Debug)]
struct TwoAtATime;

impl Limits for TwoAtATime {
    fn limits(&self, _job: &JobDocument, _now: Timestamp) -> Result<Vec<Limit>, JobFailure> {
        Ok(vec![Limit::running("two", 2)])
    }
}

fn job(store: &SqliteStore, more: Document) -> JobDocument {
    let mut document = doc! {
        "_id": store.next_id(), "_type": "Kind000", "state": "queued", "priority": 50, "ready": true,
    };
    document.extend(more);
    JobDocument::new(document).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hot_operation_searches_its_index() {
    let large = Large::new().await;
    large.fill(200_000, 20);
    let (store, watch) = (&large.store, &large.watch);

    watch.reset();
    assert_eq!(large.claim(100, 20, &NoLimits).await.jobs.len(), 100);
    large.assert_uses(&["jobs_ready"], None);

    watch.reset();
    let claimed = large.claim(5, 1, &TwoAtATime).await;
    assert_eq!(claimed.jobs.len(), 2, "the others of the kind are held");
    assert!(claimed.next_due.is_some());
    large.assert_uses(&["jobs_ready", "limits_next"], Some("jobs_scheduled"));

    watch.reset();
    let patches = claimed.jobs.iter().map(|job| Patch {
        id: job.id(),
        guard: Guard::claimed(job.claim().unwrap()),
        change: Change::new().set("state", "completed").set("own", 1),
    });
    store.settle(patches.collect()).await.unwrap();
    large.assert_uses(&[], None);

    watch.reset();
    assert!(store.next_held("limit:").await.unwrap().is_some());
    large.assert_uses(&["jobs_waiting"], None);

    watch.reset();
    assert_eq!(store.release("limit:two", 10).await.unwrap(), 10);
    large.assert_uses(&["jobs_waiting"], None);

    watch.reset();
    let change = Change::new().unset("hold");
    let held = Filter::eq("hold", "limit:slow");
    let held = store
        .find(&Query {
            limit: 1,
            ..Query::new(held)
        })
        .await
        .unwrap();
    store.change_raw(held[0].id(), change).await.unwrap();
    let scheduled = Filter::eq("hold", "scheduled");
    let scheduled = store
        .find(&Query {
            limit: 2,
            ..Query::new(scheduled)
        })
        .await
        .unwrap();
    store
        .change_raw(scheduled[0].id(), Change::new().unset("run_at"))
        .await
        .unwrap();
    let past = bson::DateTime::from_millis(1);
    store
        .change_raw(scheduled[1].id(), Change::new().set("run_at", past))
        .await
        .unwrap();
    watch.reset();
    assert_eq!(store.promote(1_000).await.unwrap(), 3);
    large.assert_uses(&["jobs_scheduled", "jobs_waiting", "limits_expires"], None);

    watch.reset();
    assert_eq!(
        store.claims_of(large.server, None, 50).await.unwrap().len(),
        50
    );
    let after = Some(ObjectId::from_bytes(*b"000000010000"));
    store.claims_of(large.server, after, 50).await.unwrap();
    large.assert_uses(&["jobs_claimed"], None);

    watch.reset();
    let mut after = String::new();
    let mut holders = BTreeSet::new();
    while let Some(job) = store.next_claim(&after).await.unwrap() {
        let holder = ClaimToken::server_of(&job.claim().unwrap().token).unwrap();
        after = ClaimToken::end(holder);
        holders.insert(holder);
    }
    assert_eq!(
        holders.len(),
        2,
        "10,000 jobs of a server and 100 of another"
    );
    large.assert_uses(&["jobs_claimed"], None);
    assert!(watch.steps() < 500, "{} steps", watch.steps());

    watch.reset();
    let mut kinds = BTreeSet::new();
    let mut last = String::new();
    while let Some(kind) = store.next_kind(&last).await.unwrap() {
        last.clone_from(&kind);
        kinds.insert(kind);
    }
    assert_eq!(kinds.len(), 20);
    large.assert_uses(&["jobs_ready"], None);
    assert!(watch.steps() < 1_000, "{} steps", watch.steps());

    watch.reset();
    let pending = Query::new(Filter::exists("successors"));
    assert!(store.find(&pending).await.unwrap().is_empty());
    large.assert_uses(&["jobs_successors"], None);

    watch.reset();
    let first = job(store, doc! { "unique_key": "one", "unfinished_key": "two" });
    let second = job(store, doc! { "unique_key": "one" });
    let third = job(store, doc! { "unfinished_key": "two" });
    store.insert(vec![first, second, third]).await.unwrap();
    large.assert_uses(&["jobs_unfinished", "jobs_unique"], None);
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_by_state_read_indexes_only() {
    let large = Large::new().await;
    large.fill(20_000, 20);
    large.watch.reset();
    let counts = large
        .store
        .count_by_state(&Filter::all(), ReadFrom::Primary)
        .await
        .unwrap();
    assert_eq!(counts.values().sum::<u64>(), 20_000);
    assert_eq!(counts[&State::Running], 1_000);
    for (sql, lines) in large.plans() {
        for line in lines {
            let is_count = sql.starts_with("SELECT count");
            assert!(
                line.contains("COVERING INDEX") || (!is_count && line.contains("jobs_misfit")),
                "{line}\n  in {sql}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sets_are_counted_in_their_indexes() {
    const MOST: u64 = 1_000;
    let large = Large::new().await;
    large.fill(200_000, 20);
    let kinds: Vec<String> = (0..20).map(|n| format!("Kind{n:03}")).collect();
    let middle = ObjectId::from_bytes(*b"000000100000");
    for (set, index) in [
        (JobSet::ready(kinds.clone(), ALL_PRIORITIES), "jobs_ready"),
        (JobSet::ready(kinds.clone(), 1..=50), "jobs_ready"),
        (JobSet::ahead_of(kinds, 60, middle), "jobs_ready"),
        (JobSet::Held("limit:slow".into()), "jobs_waiting"),
        (JobSet::State(State::Running), "jobs_claimed"),
        (JobSet::State(State::Failed), "jobs_stopped"),
        (JobSet::State(State::Queued), "jobs_"),
    ] {
        large.watch.reset();
        let counted = large.store.count_set(&set, MOST).await.unwrap();
        assert_eq!(counted, MOST, "{set:?}");
        let steps = large.watch.steps();
        assert!(steps < 60 * MOST, "{steps} steps for {set:?}");
        for (sql, lines) in large.plans() {
            let from_index =
                |line: &&String| line.contains("USING ") && line.contains("INDEX jobs_");
            let used = lines.iter().find(from_index);
            assert!(
                used.is_some_and(|line| line.contains(index)),
                "{lines:?}\n  in {sql}"
            );
        }
    }
    large.watch.reset();
    let first = large
        .store
        .first_ready("Kind003", 26..=75, 1)
        .await
        .unwrap();
    assert_eq!(first[0].kind(), "Kind003");
    large.assert_uses(&["jobs_ready"], None);
    large.watch.reset();
    let found = large.store.undecodable(10).await.unwrap();
    // Jobs that have failed without a word are sound.
    assert_eq!(found, []);
    let (all, steps) = (200_000, large.watch.steps());
    assert!(steps < all * 5, "{steps} steps");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_reads_each_job_once() {
    let mut costs = Vec::new();
    for jobs in [20_000, 80_000] {
        let large = Large::new().await;
        large.fill(jobs, 1);
        let mut query = Query {
            limit: 1_000,
            walk: true,
            ..Query::new(Filter::state(State::Failed))
        };
        large.watch.reset();
        let mut found = 0;
        loop {
            let page = large.store.find(&query).await.unwrap();
            found += page.len();
            let Some(last) = page.last() else { break };
            let (id, value) = (last.id(), last.id().into());
            query.after = Some(rocketjob_core::Cursor { value, id });
        }
        let failed = usize::try_from(jobs / 20).unwrap();
        assert_eq!(found, failed);
        for (sql, lines) in large.plans() {
            // Looks once whether there are no more than a page.
            let looks = sql.contains("INDEXED BY jobs_stopped");
            assert!(!looks || large.watch.runs(&sql) == 1, "{sql}");
            for line in lines {
                let by_id = line == "SCAN jobs" || line == "SEARCH jobs USING PRIMARY KEY (id>?)";
                let one_page = looks && line == "SEARCH jobs USING INDEX jobs_stopped (state=?)";
                assert!(by_id || one_page, "{line}\n  in {sql}");
            }
        }
        costs.push(large.watch.steps());

        let few = Query {
            limit: failed + 1,
            after: None,
            ..query
        };
        large.watch.reset();
        let found = large.store.find(&few).await.unwrap();
        assert_eq!(found.len(), failed);
        assert!(found.is_sorted_by_key(JobDocument::id));
        large.assert_uses(&["jobs_stopped"], None);
    }
    assert_about_equal(costs[0] * 4, costs[1]);
}

/// Steering all jobs that meet a condition goes through them once, and the others not at all: it
/// costs the same for each job however many there are.
#[tokio::test(flavor = "multi_thread")]
async fn steering_all_goes_through_the_jobs_once() {
    let mut costs = Vec::new();
    for jobs in [40_000, 160_000] {
        let large = Large::new().await;
        large.fill(jobs, 1);
        let failed = u64::try_from(jobs / 20).unwrap();
        let store = Store::new(large.store.clone());
        let kinds = Kinds::of(&store, Registry::new()).await.unwrap();
        let retry = Act::Transition(Transition::Retry, None);
        let goes_on = |_: &Steered| ControlFlow::Continue(());
        large.watch.reset();
        let (steered, ended) = steer_all(&store, &kinds, Filter::all(), &retry, goes_on).await;
        assert!(matches!(ended, Ended::Completely), "{ended:?}");
        assert_eq!(steered.done, failed, "{steered:?}");
        costs.push(large.watch.steps());
        let mut pages = 0;
        for (sql, lines) in large.plans() {
            let is_page = sql.contains("ORDER BY id ASC");
            pages += if is_page { large.watch.runs(&sql) } else { 0 };
            for line in lines {
                let goes_on = line == "SCAN jobs" || line.starts_with("SEARCH ");
                assert!(goes_on, "{line}\n  in {sql}");
                let searches = !is_page || line == "SCAN jobs" || line.contains("(id>?)");
                assert!(searches, "{line}\n  in {sql}");
            }
        }
        // Each begins behind the last job of the one before.
        assert_eq!(pages, failed / 1_000 + 1);
    }
    assert_about_equal(costs[0] * 4, costs[1]);
}

fn assert_about_equal(left: u64, right: u64) {
    let (less, more) = (left.min(right), left.max(right));
    assert!(more * 4 <= less * 5, "{left} steps against {right}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_costs_the_same_whatever_the_length_of_the_queue() {
    let small = Large::new().await;
    small.fill(1_000, 1);
    let large = Large::new().await;
    large.fill(200_000, 1);
    assert_about_equal(
        small.cost_of_a_claim(1).await,
        large.cost_of_a_claim(1).await,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_costs_the_same_with_many_held_jobs_in_front() {
    let free = Large::new().await;
    free.fill(2_000, 1);
    let held = Large::new().await;
    held.fill(2_000, 1);
    held.connection()
        .execute_batch(
            "INSERT INTO jobs (id, kind, state, priority, hold, rest)
             WITH RECURSIVE numbers (n) AS (
                 SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100000
             )
             SELECT CAST(printf('!%011d', n) AS BLOB), 'Kind000', 'queued', 1, 'limit:one',
                 x'0500000000' FROM numbers",
        )
        .unwrap();
    assert_about_equal(free.cost_of_a_claim(1).await, held.cost_of_a_claim(1).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_costs_as_much_as_there_are_kinds_and_jobs_asked_for() {
    let mut costs = Vec::new();
    for kinds in [20_u32, 200, 500] {
        let large = Large::new().await;
        large.fill(50_000, kinds.into());
        let cost = large.cost_of_a_claim(kinds as usize).await;
        costs.push((kinds, cost));
    }
    // Jobs cost more than kinds, which are merely looked at.
    let (_, least) = costs[0];
    let per_kind = (costs[2].1 - least) / (500 - 20);
    assert!(per_kind < least / 100, "{costs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_row_of_throttled_jobs_is_held_once() {
    let large = Large::new().await;
    large.fill(20_000, 1);
    let claimed = large.claim(10, 1, &TwoAtATime).await;
    assert_eq!(claimed.jobs.len(), 2);
    large.watch.reset();
    assert!(large.claim(10, 1, &TwoAtATime).await.jobs.is_empty());
    assert!(large.watch.steps() < 1_000, "{}", large.watch.steps());
}
