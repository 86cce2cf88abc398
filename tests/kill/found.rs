//! What the mix has found, each made on purpose.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use bson::Bson;
use jiff::Timestamp;
use parking_lot::Mutex;
use rocketjob::{
    Beginning, Callbacks, ClaimRequest, ClaimToken, Created, Filter, IdSource, Job, JobContext,
    JobDocument, JobFailure, Limit, Limits, ManualClock, MemoryStore, NewJob, NoLimits, Registry,
    Settled, Shared, Starts, Transition, Turn, create_successors, name, prelude::*,
    recover_successors,
};
use rocketjob_testing::{
    Call, Faulty, eventually,
    mongod::{Mongod, Options},
};
use serde::{Deserialize, Serialize};

use crate::mix::{
    kinds::{MixRate, MixReplace, MixRestart},
    note::Notes,
    plan::RATE,
};

const LATE: Duration = Duration::from_millis(300);

/// Claims the first job of the kind.
async fn claim<T: Job>(store: &Store, sequence: u64, limits: &dyn Limits) -> Option<JobDocument> {
    let request = ClaimRequest {
        token: ClaimToken {
            server: IdSource::of([7; 5]).next(store.now()),
            sequence,
        },
        workers: &["host:1:1".to_owned()],
        count: 1,
        kinds: &[T::DEFINITION.kind.to_owned()],
        filter: None,
        skip: 0,
        may_lag: false,
        at_once: 1,
        limits,
    };
    store.claim(&request).await.unwrap().jobs.pop()
}

/// Performs a claimed job and writes what came of it; a server does no more before it dies.
async fn perform<T: Perform>(store: &Store, job: JobDocument, shared: &Shared) {
    let mut registry = Registry::new();
    registry.register::<T>().unwrap();
    let handler = registry.handler(T::DEFINITION.kind).unwrap();
    let claim = job.claim().unwrap();
    let valid = Arc::new(|| true);
    let context = JobContext::claimed(job, T::DEFINITION, shared.clone(), store.clone(), valid);
    let performed = handler.perform(&context).await;
    let settling = performed.settle(&context, claim, store.now());
    let settled = store.settle(vec![settling.patch]).await.unwrap();
    assert_eq!(settled, [Settled::Accepted]);
}

/// A server created a successor and died before its predecessor had forgotten it; others performed
/// the successor, which left nothing, and created it once more: the chain forked.
#[tokio::test]
async fn a_successor_that_has_come_and_gone_is_not_created_again() {
    let store = Store::new(MemoryStore::new());
    let folder = tempfile::tempdir().unwrap();
    let shared = Shared::new().with(Notes::open(&folder.path().join("ledger.txt")).unwrap());
    let first = MixRestart::new(0, 0, 9).create(&store).await.unwrap();
    let job = claim::<MixRestart>(&store, 1, &NoLimits).await.unwrap();
    perform::<MixRestart>(&store, job, &shared).await;
    let before = store.get(first.id()).await.unwrap().unwrap();
    let Some(Bson::Array(successors)) = before.get(name::SUCCESSORS) else {
        panic!("it has no successor: {before:?}");
    };
    let successor = successors[0].as_document().unwrap().clone();
    let successor = JobDocument::new(successor).unwrap();
    store.insert(vec![successor.clone()]).await.unwrap();

    let job = claim::<MixRestart>(&store, 2, &NoLimits).await.unwrap();
    assert_eq!(job.id(), successor.id());
    perform::<MixRestart>(&store, job, &shared).await;
    create_successors(&*store, successor.id()).await.unwrap();
    recover_successors(&*store, 100, Duration::ZERO)
        .await
        .unwrap();
    assert!(store.get(successor.id()).await.unwrap().is_none());
    assert_eq!(MixRestart::query(&store).count().await.unwrap(), 1);
}

/// A server looked for successors and was stopped; meanwhile others created and performed one, which
/// left nothing. When it went on, it created it once more: a time of a schedule ran twice.
#[tokio::test]
async fn a_successor_that_came_and_went_during_a_pause_is_not_created_again() {
    let store = Store::new(MemoryStore::new());
    let folder = tempfile::tempdir().unwrap();
    let shared = Shared::new().with(Notes::open(&folder.path().join("ledger.txt")).unwrap());
    let first = MixRestart::new(0, 0, 9).create(&store).await.unwrap();
    let job = claim::<MixRestart>(&store, 1, &NoLimits).await.unwrap();
    perform::<MixRestart>(&store, job, &shared).await;

    let paused = Faulty::new(&store);
    let gone = Arc::new(Mutex::new(None));
    let others = {
        let (store, gone, first) = (store.clone(), Arc::clone(&gone), first.id());
        async move {
            create_successors(&*store, first).await.unwrap();
            let successor = MixRestart::query(&store).documents().await.unwrap();
            let successor = successor.iter().find(|job| job.state() == State::Queued);
            *gone.lock() = successor.map(JobDocument::id);
            let filter = Filter::eq(name::ID, successor.unwrap().id());
            assert_eq!(store.delete(&filter).await.unwrap(), 1);
        }
    };
    paused.before_next(Call::UpdateAndInsert, others);
    create_successors(&paused, first.id()).await.unwrap();
    let gone = gone.lock().unwrap();
    assert!(store.get(gone).await.unwrap().is_none());
}

/// Lets another job take the place of the one that is about to be claimed, between look and claim.
#[derive(Debug)]
struct Replacing {
    url: String,
    replaced: Mutex<bool>,
}

impl Limits for Replacing {
    fn limits(&self, _job: &JobDocument, _now: Timestamp) -> Result<Vec<Limit>, JobFailure> {
        let mut replaced = self.replaced.lock();
        if !*replaced {
            *replaced = true;
            // A claim waits for this, and must not be waited for.
            thread::scope(|scope| {
                scope.spawn(|| replace(&self.url)).join().unwrap();
            });
        }
        Ok(Vec::new())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn replace(url: &str) {
    let store = rocketjob::connect(url).await.unwrap();
    let later = NewJob::from(MixReplace::new(2, 0, 1))
        .create_unique(&store)
        .await;
    assert!(matches!(later, Ok(Created::Replaced(_))), "{later:?}");
}

/// The job that had been read was performed, and the one that had taken its place counted as done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_on_mongo_is_one_on_the_job_that_was_read() {
    let mongod = Mongod::start(Options::replica_set("found")).await;
    let url = mongod.url("found");
    let store = rocketjob::connect(&url).await.unwrap();
    MixReplace::new(1, 0, 1).create(&store).await.unwrap();
    let replacing = Replacing {
        url: url.clone(),
        replaced: Mutex::new(false),
    };
    let job = claim::<MixReplace>(&store, 1, &replacing).await.unwrap();
    assert!(*replacing.replaced.lock());
    let stored = store.get(job.id()).await.unwrap().unwrap();
    assert_eq!(stored.get("number"), Some(&Bson::Int32(2)));
    assert_eq!(job.get("number"), stored.get("number"));
    assert_eq!(job.get(name::CLAIM), stored.get(name::CLAIM));
}

/// A job that was late moved its booking, which took longer than it was moved by, and began all the
/// same: its start was free again before its window was over.
#[tokio::test]
async fn a_start_that_is_late_again_is_not_one_in_time() {
    let clock = ManualClock::default();
    let store = Store::new(MemoryStore::with_clock(clock.clone()));
    let faulty = Faulty::new(&store);
    let mut registry = Registry::new();
    registry.register::<MixRate>().unwrap();
    MixRate::new(0, 0, 1).create(&store).await.unwrap();
    let job = claim::<MixRate>(&store, 1, &registry).await.unwrap();
    let mut booked = job.started_at().unwrap();
    clock.set(rocketjob::later(booked, Duration::from_millis(20)));
    let (starts, slow) = (Starts::new(), clock.clone());
    faulty.before_next(Call::SwapLimit, async move { slow.advance(LATE) });
    loop {
        let wait = starts.begin(&faulty, MixRate::DEFINITION, &job, &mut booked);
        match wait.await.unwrap() {
            Turn::Now => break,
            Turn::After(wait) => clock.advance(wait),
            turn => panic!("it has a rate and its place: {turn:?}"),
        }
    }
    let late = store.now().duration_since(booked).as_millis();
    assert!(
        (0..=10).contains(&late),
        "it begins {late} ms after what it is booked for"
    );
}

/// A busy machine stopped a thread between the last look at the clock and the job's code: the next
/// start in its place came too soon after it.
#[tokio::test]
async fn a_start_that_is_late_at_the_last_moment_keeps_its_place_for_longer() {
    let clock = ManualClock::default();
    let store = Store::new(MemoryStore::with_clock(clock.clone()));
    let mut registry = Registry::new();
    registry.register::<MixRate>().unwrap();
    for number in 0..2 * RATE {
        let number = i64::try_from(number).unwrap();
        MixRate::new(number, 0, 1).create(&store).await.unwrap();
    }
    let job = claim::<MixRate>(&store, 1, &registry).await.unwrap();
    let booked = job.started_at().unwrap();
    for sequence in 2..=RATE as u64 {
        let other = claim::<MixRate>(&store, sequence, &registry).await;
        assert_eq!(other.unwrap().started_at(), Some(booked));
    }
    let look = || Starts::look(&*store, MixRate::DEFINITION, &job, booked);
    clock.set(booked);
    assert!(matches!(look(), Beginning::InTime));
    clock.advance(Duration::from_millis(100));
    let Beginning::Late(start) = look() else {
        panic!("it is not in time: {:?}", look());
    };
    Starts::new().correct(&*store, &start).await.unwrap();
    let began = store.now();

    let second = Duration::from_secs(1);
    clock.set(rocketjob::later(booked, second + Duration::from_millis(20)));
    let mut again = Vec::new();
    for sequence in 100..100 + RATE as u64 {
        let next = claim::<MixRate>(&store, sequence, &registry).await;
        again.extend(next.and_then(|job| job.started_at()));
    }
    assert!(again.len() >= RATE - 1, "the other places are free");
    let end = rocketjob::later(began, second);
    let within = again.iter().filter(|start| **start < end).count();
    assert!(
        within < RATE,
        "besides the late one in the second from {began} on: {again:?}"
    );
    clock.set(rocketjob::later(booked, Duration::from_millis(400)));
    assert!(matches!(look(), Beginning::Missed));
}

/// Goes on until it is told to stop.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(unregistered)]
struct Endless {
    told: Vec<String>,
}

impl Perform for Endless {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        PERFORMED.store(true, Ordering::SeqCst);
        job.cancelled().await;
        job.check()
    }
}

/// Whether it has begun.
static PERFORMED: AtomicBool = AtomicBool::new(false);

impl Callbacks for Endless {
    fn before_transition(&mut self, transition: Transition, _job: &JobDocument) -> JobResult {
        self.told.push(transition.to_string());
        Ok(())
    }
}

/// The document says that no callback runs when a claim is handed back; `requeue` was told.
#[tokio::test]
async fn a_claim_that_is_handed_back_calls_nobody() {
    let store = Store::new(MemoryStore::new());
    let mut job = Endless { told: Vec::new() }.create(&store).await.unwrap();
    let server = Server::builder(&store)
        .register::<Endless>()
        .grace(Duration::ZERO)
        .start();
    let server = server.await.unwrap();
    eventually("it is performed", async || {
        PERFORMED.load(Ordering::SeqCst).then_some(())
    })
    .await;
    server.stop().await.unwrap();
    job.reload().await.unwrap();
    assert_eq!(job.state(), State::Queued);
    assert_eq!(job.told, ["start"]);
}
