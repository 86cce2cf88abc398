//! What the queries cost, read from the server's profiler: what is measured is what was sent.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests panic: that is how they fail, and say what they measured"
)]

use std::{ops::ControlFlow, time::Duration};

use bson::{Document, doc, oid::ObjectId};
use futures_util::TryStreamExt;
use mongodb::{Database, options::WriteConcern};
use rocketjob_core::{
    ALL_PRIORITIES, Act, COUNTED, Change, ClaimToken, Cursor, Ended, Filter, Guard, JobDocument,
    JobSet, Kinds, Limit, Patch, Query, ReadFrom, Registry, Settled, State, Steered, Store,
    Transition, date, name, steer_all, whole_number,
};
use rocketjob_mongo::MongoStore;
use rocketjob_testing::{Claimer, FieldLimits, Wanted, claim_of, job, mongod::database};

/// How many kinds there are; a server knows some of them.
const KINDS: usize = 500;
/// How many jobs a claim asks for.
const COUNT: usize = 100;
/// A look-up of as many ids passes at most one more key for each.
const BY_ID: usize = 2 * COUNT;
/// Jobs in all states, half of them scheduled.
const MIXED: usize = 200_000;
/// Jobs with the best priority that wait for one limit.
const HELD: usize = 100_000;
/// How many running jobs each of the servers has.
const CLAIMS: usize = 50;
const SUCCESSORS: usize = 20;
/// How many operations of one step are printed.
const SHOWN: usize = 100;

/// One operation as the profiler saw it.
#[derive(Debug)]
struct Operation {
    plan: String,
    keys: i64,
    documents: i64,
    sorts: bool,
}

struct Profiler {
    database: Database,
    measured: usize,
    problems: Vec<String>,
}

impl Profiler {
    /// Checks each operation on jobs that `act` sends: an index is used, nothing is sorted, and no
    /// more than `most` keys and documents are looked at.
    async fn check<T>(&mut self, what: &str, most: usize, act: impl Future<Output = T>) -> T {
        let (result, operations) = self.profile(what, act).await;
        for operation in operations {
            if operation.plan.contains("COLLSCAN") || operation.sorts {
                self.problems.push(format!("{what}: {operation:?}"));
            }
            self.bound(what, most, &operation);
        }
        result
    }

    /// As `check`, but what is found may be sorted: it is little.
    async fn check_sorted<T>(
        &mut self,
        what: &str,
        most: usize,
        act: impl Future<Output = T>,
    ) -> T {
        let (result, operations) = self.profile(what, act).await;
        for operation in operations {
            self.bound(what, most, &operation);
        }
        result
    }

    fn bound(&mut self, what: &str, most: usize, operation: &Operation) {
        let most = i64::try_from(most).unwrap();
        if operation.keys > most || operation.documents > most {
            let problem = format!("{what}: more than {most}: {operation:?}");
            self.problems.push(problem);
        }
    }

    async fn profile<T>(
        &mut self,
        what: &str,
        act: impl Future<Output = T>,
    ) -> (T, Vec<Operation>) {
        let profile = self.database.collection::<Document>("system.profile");
        profile.drop().await.unwrap();
        // The one that the server makes holds a few thousand operations.
        let large = self.database.create_collection("system.profile");
        large.capped(true).size(1 << 28).await.unwrap();
        self.database
            .run_command(doc! { "profile": 2 })
            .await
            .unwrap();
        let result = act.await;
        self.database
            .run_command(doc! { "profile": 0 })
            .await
            .unwrap();
        let jobs = format!("{}.rocket_job.jobs", self.database.name());
        let found = profile.find(doc! { "ns": jobs }).await.unwrap();
        let found: Vec<Document> = found.try_collect().await.unwrap();
        let operations: Vec<_> = found.iter().map(Operation::new).collect();
        assert!(!operations.is_empty(), "{what}: nothing was sent");
        self.measured += operations.len();
        for operation in operations.iter().take(SHOWN) {
            println!("{what}: {operation:?}");
        }
        (result, operations)
    }
}

impl Operation {
    fn new(entry: &Document) -> Self {
        let number = |field: &str| entry.get(field).and_then(whole_number).unwrap_or(0);
        Self {
            plan: entry.get_str("planSummary").unwrap_or_default().to_owned(),
            keys: number("keysExamined"),
            documents: number("docsExamined"),
            sorts: entry.get_bool("hasSortStage").unwrap_or(false),
        }
    }
}

fn claimer(store: &Store, kinds: usize) -> Claimer {
    Claimer::new(store, (0..kinds).map(kind)).with_workers(10)
}

fn kind(number: usize) -> String {
    format!("Kind{number}")
}

#[tokio::test]
async fn no_hot_query_costs_more_in_a_long_queue() {
    let database = database("plan::no_hot_query_costs_more_in_a_long_queue").await;
    let mongo = MongoStore::connect(database.url()).await.unwrap();
    let store = Store::new(mongo.clone());
    let server = store.next_id();
    fill(&mongo, &store, server).await;
    let mut profiler = Profiler {
        database: mongo.database().clone(),
        measured: 0,
        problems: Vec::new(),
    };
    claims(&mut profiler, &store).await;
    limits(&mut profiler, &store).await;
    settlements(&mut profiler, &store).await;
    holds(&mut profiler, &store).await;
    lists(&mut profiler, &store, server).await;
    sets(&mut profiler, &store).await;
    steering(&mut profiler, &store).await;
    sees_a_bad_plan(&mut profiler, &store).await;
    assert!(profiler.problems.is_empty(), "{:#?}", profiler.problems);
    database.drop().await;
}

async fn claims(profiler: &mut Profiler, store: &Store) {
    for known in [2, 20, 200, 201, 500] {
        // A merge of sorted scans looks at one key of each kind more than it gives.
        let most = known.min(200) + COUNT + 1;
        let claimer = claimer(store, known).that_may_lag();
        let what = format!("claim, {known} kinds");
        // The second looks from where the first began.
        let twice = async {
            let claimed = claimer.claim(COUNT / 2).await;
            (
                claimed.jobs.len(),
                claimer.claim(COUNT / 2).await.jobs.len(),
            )
        };
        let claimed = profiler.check(&what, most, twice).await;
        assert_eq!(claimed, (COUNT / 2, COUNT / 2), "{what}");
    }
    let behind = Wanted {
        skip: 300,
        ..Wanted::count(COUNT)
    };
    let known = claimer(store, 200);
    let claim = known.claim_wanted(&behind);
    let claimed = profiler
        .check("claim behind 300", 200 + 300 + COUNT + 1, claim)
        .await;
    assert_eq!(claimed.jobs.len(), COUNT);
    let stranger = Claimer::new(store, ["Unheard"]);
    let claimed = profiler.check("next due", 1, stranger.claim(COUNT)).await;
    assert!(claimed.next_due.is_some());
}

async fn limits(profiler: &mut Profiler, store: &Store) {
    let limits = FieldLimits::new("group", 10);
    let limited = Wanted {
        limits: &limits,
        ..Wanted::count(COUNT)
    };
    let known = claimer(store, 20);
    // While jobs are held a round looks at twice as many as the one before.
    let most = 20 + 8 * COUNT;
    let claimed = profiler
        .check("claim with limits", most, known.claim_wanted(&limited))
        .await;
    assert_eq!(claimed.jobs.len(), COUNT);
    let places = claimed
        .jobs
        .iter()
        .filter(|job| job.get(name::SLOTS).is_some());
    assert_eq!(places.count(), 10, "the limit was reached");
}

async fn settlements(profiler: &mut Profiler, store: &Store) {
    let jobs = claimer(store, 200).claim(COUNT).await.jobs;
    let patch = |job: &JobDocument, change: Change| Patch {
        id: job.id(),
        guard: Guard::claimed(claim_of(job)),
        change,
    };
    let completed = Change::new()
        .set(name::STATE, State::Completed.as_str())
        .set(name::COMPLETED_AT, date(store.now()));
    let patches = (0..).zip(&jobs).map(|(number, job)| match number {
        0..50 => patch(job, Change::delete()),
        50..60 => patch(job, completed.clone().set("rows", number)),
        _ => patch(job, completed.clone()),
    });
    let settled = profiler
        .check("settle", BY_ID, store.settle(patches.collect()))
        .await;
    assert_eq!(settled.unwrap(), vec![Settled::Accepted; COUNT]);
    let again = jobs
        .iter()
        .skip(60)
        .map(|job| patch(job, completed.clone()));
    let settled = profiler
        .check("settle again", BY_ID, store.settle(again.collect()))
        .await;
    assert_eq!(settled.unwrap(), vec![Settled::Accepted; COUNT - 60]);
}

async fn holds(profiler: &mut Profiler, store: &Store) {
    let promoted = profiler.check("promote", BY_ID, store.promote(COUNT)).await;
    assert_eq!(promoted.unwrap(), COUNT as u64);
    let next = profiler
        .check("next held", COUNT, store.next_held("limit:"))
        .await;
    assert!(next.unwrap().is_some());
    let hold = Limit::hold("front");
    let released = profiler
        .check("release", BY_ID, store.release(&hold, COUNT))
        .await;
    assert_eq!(released.unwrap(), COUNT as u64);
    // All that are due are promoted, so that what the original wrote comes next.
    while store.promote(10_000).await.unwrap() > 0 {}
    let adopted: Vec<_> = (0..COUNT)
        .map(|_| job("Kind1").unmarked().build(store))
        .collect();
    store.insert(adopted).await.unwrap();
    let adopted = profiler.check("adopt", BY_ID, store.promote(COUNT)).await;
    assert_eq!(adopted.unwrap(), COUNT as u64);
    let holder = job("Kind0").unique("a").unfinished("a").insert(store).await;
    let rival = job("Kind0").unique("a").unfinished("a").build(store);
    let inserted = profiler
        .check("insert", COUNT, store.insert(vec![rival]))
        .await
        .unwrap();
    assert_eq!(inserted, [rocketjob_core::Insertion::Existing(holder.id())]);
}

async fn lists(profiler: &mut Profiler, store: &Store, server: ObjectId) {
    let claims = store.claims_of(server, None, 1000);
    let claims = profiler
        .check_sorted("claims of", CLAIMS + 1, claims)
        .await
        .unwrap();
    assert_eq!(claims.len(), CLAIMS);
    // Some 10,000 jobs are running, each of a server of its own.
    let next = profiler
        .check("next claim", 1, store.next_claim(""))
        .await
        .unwrap()
        .unwrap();
    let first = ClaimToken::server_of(&claim_of(&next).token).unwrap();
    let behind = ClaimToken::end(first);
    let next = store.next_claim(&behind);
    let next = profiler.check("next claim behind", 1, next).await.unwrap();
    assert_ne!(next, None);
    let next = profiler
        .check("next kind", 1, store.next_kind("Kind1"))
        .await;
    assert_eq!(next.unwrap().as_deref(), Some("Kind10"));
    let pending = Query::new(Filter::exists(name::SUCCESSORS));
    let find = store.find(&pending);
    let pending = profiler
        .check_sorted("successors", SUCCESSORS + 1, find)
        .await
        .unwrap();
    assert_eq!(pending.len(), SUCCESSORS);
    let failed = Query::new(Filter::state(State::Failed));
    let page = profiler
        .check("failed jobs", COUNT + 1, store.find(&failed))
        .await
        .unwrap();
    let last = page.last().unwrap().id();
    let value = last.into();
    let next = Query {
        after: Some(Cursor { value, id: last }),
        ..failed
    };
    let page = profiler
        .check("next page", COUNT + 1, store.find(&next))
        .await
        .unwrap();
    assert_eq!(page.len(), COUNT);
    profiler.check("get", 1, store.get(last)).await.unwrap();
    let patch = Patch {
        id: last,
        guard: Guard::states([State::Failed]),
        change: Change::new().set("seen", true),
    };
    profiler
        .check("update", 1, store.update(patch))
        .await
        .unwrap()
        .unwrap();
}

/// What people and metrics ask for.
async fn sets(profiler: &mut Profiler, store: &Store) {
    const MOST: u64 = 500;
    let kinds: Vec<_> = (0..KINDS).map(kind).collect();
    let middle = store.next_id();
    for (set, expected) in [
        (JobSet::ready(kinds.clone(), ALL_PRIORITIES), MOST),
        (JobSet::ready(kinds.clone(), 26..=50), MOST),
        // Those that were released.
        (JobSet::ready(kinds.clone(), 1..=10), COUNT as u64),
        (JobSet::ahead_of(kinds, 50, middle), MOST),
        (JobSet::Held(Limit::hold("front")), MOST),
        (JobSet::State(State::Queued), MOST),
        (JobSet::State(State::Running), MOST),
        (JobSet::State(State::Failed), MOST),
    ] {
        let what = format!("count {set:.40?}");
        // A scan of several kinds looks at one key of each more.
        let most = usize::try_from(MOST).unwrap() + 2 * KINDS + 2;
        let counted = profiler.check(&what, most, store.count_set(&set, MOST));
        assert_eq!(counted.await.unwrap(), expected, "{what}");
    }
    let first = store.first_ready("Kind3", 26..=75, 1);
    let first = profiler.check("first ready", 10, first).await.unwrap();
    assert_eq!(first[0].kind(), "Kind3");
    // A thousand from each end, and the last failed ones.
    let failed = usize::try_from(COUNTED).unwrap();
    let found = store.undecodable(10);
    let found = profiler.check("undecodable", failed, found).await.unwrap();
    assert_eq!(found, []);
}

/// Steering all jobs that meet a condition goes through them once.
async fn steering(profiler: &mut Profiler, store: &Store) {
    const FAILED: u64 = MIXED as u64 / 20;
    const BATCH: usize = 1_000;
    let retry = Act::Transition(Transition::Retry, None);
    let kinds = Kinds::of(store, Registry::new()).await.unwrap();
    let goes_on = |_: &Steered| ControlFlow::Continue(());
    let steered = steer_all(store, &kinds, Filter::all(), &retry, goes_on);
    let ((steered, ended), operations) = profiler.profile("retry all", steered).await;
    assert!(matches!(ended, Ended::Completely), "{ended:?}");
    assert!(
        (FAILED - 10..=FAILED).contains(&steered.done),
        "{steered:?}"
    );
    let mut scanned = 0;
    for operation in &operations {
        profiler.bound("retry all", 2 * BATCH + 2, operation);
        if operation.plan.contains("COLLSCAN") || operation.sorts {
            profiler.problems.push(format!("retry all: {operation:?}"));
        }
        if operation.plan.contains("state") {
            scanned += operation.keys;
        }
    }
    // One key more for each batch tells that there are no more.
    let most = i64::try_from(FAILED).unwrap() + 2 * i64::try_from(operations.len()).unwrap();
    assert!(
        scanned >= i64::try_from(steered.done).unwrap(),
        "{operations:#?}"
    );
    assert!(scanned <= most, "{scanned} keys for {FAILED} jobs");
}

/// What finds nothing wrong must be able to.
async fn sees_a_bad_plan(profiler: &mut Profiler, store: &Store) {
    let before = profiler.problems.len();
    let bad = Filter::eq("group", "nobody");
    let count = store.count(&bad, ReadFrom::Primary);
    profiler.check("a bad plan", 1000, count).await.unwrap();
    let found = profiler.problems.drain(before..).count();
    assert_eq!(found, 2, "a scan of the collection, of too many documents");
    assert!(
        profiler.measured > 40,
        "only {} operations were seen",
        profiler.measured
    );
}

/// Jobs in all states, and in front of them those that wait for one limit.
async fn fill(mongo: &MongoStore, store: &Store, server: ObjectId) {
    let jobs = mongo.database().collection::<Document>("rocket_job.jobs");
    let held = job(kind(0)).priority(1).held(&Limit::hold("front"));
    let mixed = (0..MIXED).map(|number| mixed(store, server, number));
    let documents: Vec<_> = mixed
        .chain((0..HELD).map(|_| held.clone().document(store)))
        .collect();
    for chunk in documents.chunks(20_000) {
        let inserted = jobs.insert_many(chunk).ordered(false);
        inserted
            .write_concern(WriteConcern::nodes(1))
            .await
            .unwrap();
    }
}

fn mixed(store: &Store, server: ObjectId, number: usize) -> Document {
    let of_kind = job(kind(number / 20 % KINDS));
    let claimed = |server: ObjectId| {
        let sequence = number as u64;
        of_kind
            .clone()
            .state(State::Running)
            .set(name::CLAIM, ClaimToken { server, sequence }.to_string())
            .set(name::WORKER_NAME, "other:1")
            .set(
                name::SLOTS,
                vec![Limit::slot("other", u32::try_from(number).unwrap())],
            )
    };
    let job = match number % 20 {
        _ if number < CLAIMS => claimed(server),
        // A few of them are due.
        0..10 => of_kind.scheduled(
            store.now() + Duration::from_mins(number as u64) - Duration::from_mins(5_000),
        ),
        10 | 11 => job(format!("Foreign{number}")).priority(2),
        12 => claimed(store.next_id()),
        13 => of_kind.state(State::Failed),
        14 if number < 50 + 20 * SUCCESSORS => of_kind
            .state(State::Completed)
            .set(name::SUCCESSORS, vec![doc! { "_id": store.next_id() }]),
        14 => of_kind.state(State::Completed),
        15 => of_kind.state(State::Paused),
        16 => of_kind.set("group", "crowd"),
        _ => of_kind,
    };
    job.document(store)
}
