//! `#[throttle]`, and limits that users write themselves.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use jiff::Timestamp;
use rocketjob::{
    Concern, JobDocument, Limit, NoState, PANIC, Reason, Registry, Throttle, ThrottleState,
    prelude::*, set_limit, throttle_group_key, throttle_key,
};
use rocketjob_testing::eventually;
use serde::{Deserialize, Serialize};

use crate::{crowd::Crowd, stores::on_every_store};

/// Works for a moment, or until it may go.
async fn work(job: &JobContext, key: &str, stays: bool) -> JobResult {
    let crowd = job.shared::<Crowd>()?;
    crowd.enter(key, Timestamp::UNIX_EPOCH);
    if stays {
        crowd.stay().await;
    } else {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    crowd.leave(key);
    Ok(())
}

macro_rules! jobs {
    ($($(#[$attribute:meta])* $name:ident($key:expr, $stays:expr) { $($(#[$field:meta])* $own:ident: $type:ty),* })+) => {
        $(
            #[derive(RocketJob, Serialize, Deserialize, Debug)]
            $(#[$attribute])*
            struct $name { $($(#[$field])* $own: $type),* }

            impl Perform for $name {
                async fn perform(&mut self, job: &JobContext) -> JobResult {
                    let key: fn(&Self) -> String = $key;
                    work(job, &key(self), $stays).await
                }
            }
        )+
    };
}

jobs! {
    #[throttle(running = 3)]
    ThreeAtATime(|_| "all".into(), false) {}

    #[throttle(running = 1, by = customer)]
    OneForEach(|job| job.customer.clone(), false) { #[serde(rename = "client")] customer: String }

    #[throttle(running = 2, group = "throttle test")]
    OfGroup(|_| "all".into(), false) {}

    #[rocketjob(throttle(running = 9))]
    OfGroupByDocument(|_| "all".into(), false) {}

    #[throttle(running = 1)]
    StaysThrottled(|_| "all".into(), true) {}

    FreeBesideThrottled(|_| "free".into(), false) {}
}

/// Panics when it is asked for its limits.
#[derive(Debug)]
struct Explosive;

impl Concern for Explosive {
    type State = NoState;

    fn name(&self) -> &'static str {
        "explosive"
    }

    fn limits(&self, job: &JobDocument, _state: &NoState, _now: Timestamp) -> Vec<Limit> {
        assert!(
            job.description() != Some("bad"),
            "no limit for {}",
            job.kind()
        );
        Vec::new()
    }
}

static CLOSED: AtomicBool = AtomicBool::new(true);
static ASKED: AtomicU64 = AtomicU64::new(0);
const AGAIN: Duration = Duration::from_millis(200);

/// Lets nobody start while it is closed.
#[derive(Debug)]
struct Door;

impl Concern for Door {
    type State = NoState;

    fn name(&self) -> &'static str {
        "door"
    }

    fn limits(&self, job: &JobDocument, _state: &NoState, _now: Timestamp) -> Vec<Limit> {
        ASKED.fetch_add(1, Ordering::SeqCst);
        let is_closed = job.description() == Some("memory") && CLOSED.load(Ordering::SeqCst);
        is_closed
            .then(|| Limit::closed("door", AGAIN))
            .into_iter()
            .collect()
    }
}

jobs! {
    #[rocketjob(keep_completed)]
    #[concern(Explosive)]
    WithoutLimits(|_| "all".into(), false) {}

    #[concern(Door)]
    BehindADoor(|_| "door".into(), false) {}
}

async fn all_complete<J: Job>(store: &Store) {
    eventually("all jobs complete", async || {
        let left = J::query(store).count().await.unwrap();
        (left == 0).then_some(())
    })
    .await;
}

async fn inside(crowd: &Crowd, count: usize) {
    eventually("so many are at work", async || {
        (crowd.inside("all") == count).then_some(())
    })
    .await;
}

on_every_store! {
    async fn never_more_run_than_it_says_on_two_servers(fixture: &Fixture) {
        let crowd = Crowd::default();
        ThreeAtATime::create_many(&fixture.store, (0..80).map(|_| ThreeAtATime {})).await.unwrap();
        let mut servers = Vec::new();
        for _ in 0..2 {
            let server = fixture.server::<ThreeAtATime>().workers(5).shared(crowd.clone());
            servers.push(server.start().await.unwrap());
        }
        all_complete::<ThreeAtATime>(&fixture.store).await;
        assert!(crowd.most("all") <= 3, "{} at once", crowd.most("all"));
        assert_eq!(crowd.total(), 80);
        for server in servers {
            server.stop().await.unwrap();
        }
    }

    /// The original's workers waited for a random number of whole seconds where a limit was full.
    async fn a_free_place_is_taken_at_once(fixture: &Fixture) {
        let (store, crowd) = (&fixture.store, Crowd::default());
        // Nobody finds work by looking for it within the time of the test.
        let server = || fixture.server::<ThreeAtATime>().poll_interval(Duration::from_hours(1)).shared(crowd.clone());
        let servers = [server().start().await.unwrap(), server().start().await.unwrap()];
        ThreeAtATime::create_many(store, (0..200).map(|_| ThreeAtATime {})).await.unwrap();
        all_complete::<ThreeAtATime>(store).await;
        for server in servers {
            server.stop().await.unwrap();
        }
    }

    async fn each_value_of_a_field_is_counted_apart(fixture: &Fixture) {
        let crowd = Crowd::default();
        let jobs = (0..40).map(|number| OneForEach { customer: format!("c{}", number % 4) });
        OneForEach::create_many(&fixture.store, jobs).await.unwrap();
        let server = fixture.server::<OneForEach>().workers(6).shared(crowd.clone());
        let server = server.start().await.unwrap();
        all_complete::<OneForEach>(&fixture.store).await;
        for customer in 0..4 {
            assert_eq!(crowd.most(&format!("c{customer}")), 1);
        }
        assert_eq!(crowd.total(), 40);
        server.stop().await.unwrap();
    }

    async fn a_group_is_counted_across_kinds_also_where_the_document_names_it(fixture: &Fixture) {
        let crowd = Crowd::default();
        for _ in 0..15 {
            OfGroup {}.create(&fixture.store).await.unwrap();
            let job = OfGroupByDocument {}.throttle_group("throttle test");
            // Its own number would let nine run.
            let own = ThrottleState { throttle_running_jobs: Some(2) };
            job.concern::<Throttle>(&own).create(&fixture.store).await.unwrap();
        }
        let mut registry = Registry::new();
        registry.register::<OfGroup>().unwrap();
        registry.register::<OfGroupByDocument>().unwrap();
        let server = fixture.server::<OfGroup>().only(registry).workers(6).shared(crowd.clone());
        let server = server.start().await.unwrap();
        all_complete::<OfGroup>(&fixture.store).await;
        all_complete::<OfGroupByDocument>(&fixture.store).await;
        assert_eq!((crowd.most("all"), crowd.total()), (2, 30));
        let group = fixture.store.next_held("").await.unwrap();
        assert_eq!(group, None, "nobody is left behind for {}", throttle_group_key("throttle test"));
        server.stop().await.unwrap();
    }

    async fn the_number_is_changed_for_all_while_they_run(fixture: &Fixture) {
        let (store, crowd) = (&fixture.store, Crowd::default());
        let key = throttle_key("StaysThrottled");
        StaysThrottled::create_many(store, (0..12).map(|_| StaysThrottled {})).await.unwrap();
        let server = fixture.server::<StaysThrottled>().workers(8).shared(crowd.clone());
        let server = server.start().await.unwrap();
        inside(&crowd, 1).await;
        set_limit(store, &key, Some(4)).await.unwrap();
        inside(&crowd, 4).await;
        set_limit(store, &key, Some(2)).await.unwrap();
        let mut running = StaysThrottled::query(store).state(State::Running).list().await.unwrap();
        assert_eq!(running.len(), 4, "who runs goes on");
        for job in &mut running[..2] {
            job.abort().await.unwrap();
        }
        let waiting = StaysThrottled::query(store).state(State::Queued).list().await.unwrap();
        let last = waiting.last().unwrap().id();
        eventually("it waits for those that have the places", async || {
            let reason = rocketjob::why(&**store, last).await.unwrap().reason;
            matches!(reason, Reason::HeldForLimit { holders, .. } if holders.len() == 2).then_some(())
        })
        .await;
        let running = StaysThrottled::query(store).state(State::Running).count().await.unwrap();
        assert_eq!(running, 2, "nobody follows");
        set_limit(store, &key, Some(0)).await.unwrap();
        eventually("no limit is left", async || (crowd.inside("all") >= 8).then_some(())).await;
        crowd.open();
        all_complete_but_aborted(store).await;
        server.stop().await.unwrap();
    }

    async fn an_aborted_job_gives_its_place_on(fixture: &Fixture) {
        let (store, crowd) = (&fixture.store, Crowd::default());
        let jobs = [StaysThrottled {}, StaysThrottled {}];
        StaysThrottled::create_many(store, jobs).await.unwrap();
        let server = fixture.server::<StaysThrottled>().shared(crowd.clone());
        let server = server.start().await.unwrap();
        inside(&crowd, 1).await;
        let mut running = StaysThrottled::query(store).state(State::Running).list().await.unwrap();
        running[0].abort().await.unwrap();
        eventually("the other one begins", async || (crowd.total() == 2).then_some(())).await;
        crowd.open();
        server.stop().await.unwrap();
    }

    async fn free_jobs_pass_many_that_are_throttled(fixture: &Fixture) {
        let (store, crowd) = (&fixture.store, Crowd::default());
        StaysThrottled::create_many(store, (0..3000).map(|_| StaysThrottled {})).await.unwrap();
        FreeBesideThrottled::create_many(store, (0..20).map(|_| FreeBesideThrottled {})).await.unwrap();
        let mut registry = Registry::new();
        registry.register::<StaysThrottled>().unwrap();
        registry.register::<FreeBesideThrottled>().unwrap();
        let server = fixture.server::<StaysThrottled>().only(registry).shared(crowd.clone());
        let server = server.start().await.unwrap();
        all_complete::<FreeBesideThrottled>(store).await;
        // Those that wait have left the queue: no claim looks at them again.
        let ready = store.first_ready("StaysThrottled", 1..=100, 1).await.unwrap();
        assert_eq!(ready, []);
        assert_eq!(crowd.most("all"), 1);
        crowd.open();
        server.stop().await.unwrap();
    }

    async fn a_panic_in_a_limit_fails_the_job_and_hangs_nobody(fixture: &Fixture) {
        let store = &fixture.store;
        let mut bad = WithoutLimits {}.description("bad").create(store).await.unwrap();
        let mut good = WithoutLimits {}.create(store).await.unwrap();
        let server = fixture.server::<WithoutLimits>().shared(Crowd::default());
        let server = server.start().await.unwrap();
        eventually("both end", async || {
            bad.reload().await.unwrap();
            good.reload().await.unwrap();
            (bad.state() == State::Failed && good.state() == State::Completed).then_some(())
        })
        .await;
        let exception = bad.document().exception().unwrap();
        assert_eq!(exception.class_name, PANIC);
        assert!(exception.message.contains("no limit for WithoutLimits"), "{}", exception.message);
        server.stop().await.unwrap();
    }
}

async fn all_complete_but_aborted(store: &Store) {
    eventually("all others complete", async || {
        let aborted = StaysThrottled::query(store)
            .state(State::Aborted)
            .count()
            .await
            .unwrap();
        let left = StaysThrottled::query(store).count().await.unwrap();
        (left == aborted).then_some(())
    })
    .await;
}

/// One test, since its door is one for the whole program.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_told_not_now_is_asked_again() {
    let store = Store::new(MemoryStore::new());
    let jobs = (0..200).map(|_| BehindADoor {}.description("memory"));
    for job in jobs {
        job.create(&store).await.unwrap();
    }
    let mut registry = Registry::new();
    registry.register::<BehindADoor>().unwrap();
    let server = Server::builder(&store)
        .only(registry)
        .shared(Crowd::default());
    let server = server.start().await.unwrap();
    eventually("all are held", async || {
        let held = Filter::eq("hold", "limit:door");
        let held = store
            .count(&held, rocketjob::ReadFrom::Primary)
            .await
            .unwrap();
        (held == 200).then_some(())
    })
    .await;
    let asked = ASKED.load(Ordering::SeqCst);
    eventually("they are asked again", async || {
        (ASKED.load(Ordering::SeqCst) >= asked + 3).then_some(())
    })
    .await;
    let again = ASKED.load(Ordering::SeqCst) - asked;
    assert!(again < 100, "one stands for all: {again}");
    CLOSED.store(false, Ordering::SeqCst);
    all_complete::<BehindADoor>(&store).await;
    server.stop().await.unwrap();
}
