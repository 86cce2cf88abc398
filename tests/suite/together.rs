//! What concerns do together, where that may surprise: the rows of `docs/concerns/together.md` that
//! have no test beside those of one of the two.

use rocketjob::{Change, Error, Guard, Patch, Registry, Schedule, name, prelude::*};
use rocketjob_testing::{Claimer, Wanted, eventually};
use serde::{Deserialize, Serialize};

use crate::stores::{Fixture, on_every_store};

/// Opens for a second when the year begins: as good as never.
const CLOSED: &str = "0 0 1 1 * UTC";

macro_rules! fails {
    ($($(#[$attribute:meta])* $kind:ident)+) => {
        $(
            /// Fails as often as it says, then completes.
            #[derive(RocketJob, Serialize, Deserialize, Debug)]
            #[rocketjob(keep_completed)]
            $(#[$attribute])*
            struct $kind {
                #[field(copy_on_restart)]
                fails: u32,
            }

            impl Perform for $kind {
                async fn perform(&mut self, job: &JobContext) -> JobResult {
                    if job.attempt() <= u64::from(self.fails) { Err("not yet".into()) } else { Ok(()) }
                }
            }
        )+
    };
}

fails! {
    #[singleton]
    #[retry(limit = 3, backoff = fixed, delay = "1h")]
    RetriedAlone

    #[throttle(running = 1)]
    #[retry(limit = 3, backoff = fixed, delay = "1h")]
    RetriedThrottled

    #[restart]
    #[retry(limit = 2, backoff = fixed, delay = "1h")]
    RetriedRestarted

    #[processing_window(schedule = "* * * * * UTC", duration = "1m")]
    #[retry(limit = 3, backoff = fixed, delay = "1s")]
    RetriedInWindow

    #[singleton]
    #[throttle(running = 1, group = "together::held")]
    HeldAlone

    #[throttle(running = 1)]
    #[processing_window(schedule = "* * * * * UTC", duration = "1m")]
    ThrottledInWindow

    #[throttle(running = 1, group = "together::given_back")]
    #[depends_on(HeldAlone)]
    ThrottledDependent

    #[throttle(running = 1, group = "together::given_back")]
    ThrottledOnly
}

/// Takes too long the first time.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(keep_completed, timeout = "1s")]
#[retry(limit = 3, backoff = fixed, delay = "1s")]
struct RetriedTooLong {}

impl Perform for RetriedTooLong {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        if job.attempt() == 1 {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

/// Waits until the job has failed `times` times and waits for its next attempt.
async fn waits_for_its_next_attempt<T: Job>(job: &mut JobHandle<T>, times: i64) {
    eventually("it waits for its next attempt", async || {
        job.reload().await.unwrap();
        let waits = job.state() == State::Queued && job.document().failure_count() == times;
        waits.then_some(())
    })
    .await;
}

async fn is<T: Job>(job: &mut JobHandle<T>, state: State) {
    eventually("it is in that state", async || {
        job.reload().await.unwrap();
        (job.state() == state).then_some(())
    })
    .await;
}

/// Claims what a server of these kinds would, and returns the kinds of what it got.
async fn claims(fixture: &Fixture, registry: &Registry, kinds: &[&str]) -> Vec<String> {
    let claimer = Claimer::new(&fixture.store, kinds.iter().copied());
    let wanted = Wanted {
        limits: registry,
        ..Wanted::count(10)
    };
    let jobs = claimer.claim_wanted(&wanted).await.jobs;
    jobs.iter().map(|job| job.kind().to_owned()).collect()
}

on_every_store! {
    async fn a_job_that_waits_for_its_next_attempt_holds_its_key(fixture: &Fixture) {
        let mut first = RetriedAlone { fails: 1 }.create(&fixture.store).await.unwrap();
        let server = fixture.server::<RetriedAlone>().start().await.unwrap();
        waits_for_its_next_attempt(&mut first, 1).await;
        let refused = RetriedAlone { fails: 0 }.create(&fixture.store).await.unwrap_err();
        assert!(matches!(refused, Error::Existing { existing, .. } if existing == first.id()), "{refused}");
        first.run_now().await.unwrap();
        is(&mut first, State::Completed).await;
        RetriedAlone { fails: 0 }.create(&fixture.store).await.unwrap();
        server.stop().await.unwrap();
    }

    async fn a_job_that_waits_for_its_next_attempt_has_no_place(fixture: &Fixture) {
        let mut first = RetriedThrottled { fails: 1 }.create(&fixture.store).await.unwrap();
        let mut second = RetriedThrottled { fails: 0 }.create(&fixture.store).await.unwrap();
        let server = fixture.server::<RetriedThrottled>().start().await.unwrap();
        waits_for_its_next_attempt(&mut first, 1).await;
        is(&mut second, State::Completed).await;
        first.reload().await.unwrap();
        assert_eq!(first.state(), State::Queued);
        server.stop().await.unwrap();
    }

    async fn the_next_instance_comes_when_the_last_attempt_has_failed(fixture: &Fixture) {
        let mut job = RetriedRestarted { fails: 9 }.create(&fixture.store).await.unwrap();
        let server = fixture.server::<RetriedRestarted>().start().await.unwrap();
        for times in 1..=2 {
            waits_for_its_next_attempt(&mut job, times).await;
            assert_eq!(RetriedRestarted::query(&fixture.store).count().await.unwrap(), 1, "after {times}");
            job.run_now().await.unwrap();
        }
        is(&mut job, State::Failed).await;
        eventually("there is a next instance", async || {
            let count = RetriedRestarted::query(&fixture.store).count().await.unwrap();
            (count == 2).then_some(())
        })
        .await;
        server.stop().await.unwrap();
    }

    async fn a_job_that_took_too_long_is_tried_again(fixture: &Fixture) {
        let mut job = RetriedTooLong {}.create(&fixture.store).await.unwrap();
        let server = fixture.server::<RetriedTooLong>().start().await.unwrap();
        is(&mut job, State::Completed).await;
        assert_eq!(job.document().failure_count(), 1);
        server.stop().await.unwrap();
    }

    async fn an_attempt_outside_of_the_window_waits_for_the_next_opening(fixture: &Fixture) {
        let store = &fixture.store;
        let mut job = RetriedInWindow { fails: 1 }.create(store).await.unwrap();
        let change = Change::new().set("processing_schedule", CLOSED).set("processing_duration", 1);
        let server = fixture.server::<RetriedInWindow>().start().await.unwrap();
        waits_for_its_next_attempt(&mut job, 1).await;
        // The window closes before the attempt is due.
        let patch = Patch { id: job.id(), guard: Guard::states([State::Queued]), change };
        store.update(patch).await.unwrap().unwrap();
        eventually("it waits for the opening", async || {
            job.reload().await.unwrap();
            let opening = Schedule::parse(CLOSED).unwrap().next_after(store.now());
            (job.state() == State::Queued && job.document().run_at() == opening).then_some(())
        })
        .await;
        assert_eq!(job.document().failure_count(), 1);
        server.stop().await.unwrap();
    }

    async fn a_job_that_waits_for_a_place_holds_its_key(fixture: &Fixture) {
        let mut registry = Registry::new();
        registry.register::<HeldAlone>().unwrap();
        let mut running = HeldAlone { fails: 0 }.create(&fixture.store).await.unwrap();
        assert_eq!(claims(fixture, &registry, &["HeldAlone"]).await.len(), 1);
        // Its key goes, its place stays: as if it were of another kind of the group.
        let change = Change::new().unset(name::UNIQUE_KEY);
        let patch = Patch { id: running.id(), guard: Guard::default(), change };
        fixture.store.update(patch).await.unwrap().unwrap();
        let waits = HeldAlone { fails: 0 }.create(&fixture.store).await.unwrap();
        assert!(claims(fixture, &registry, &["HeldAlone"]).await.is_empty());
        let held = fixture.store.get(waits.id()).await.unwrap().unwrap();
        assert!(held.hold().is_some_and(|hold| hold.starts_with("limit:")), "{held:?}");
        let refused = HeldAlone { fails: 0 }.create(&fixture.store).await.unwrap_err();
        assert!(matches!(refused, Error::Existing { existing, .. } if existing == waits.id()), "{refused}");
        running.reload().await.unwrap();
        assert_eq!(running.state(), State::Running);
    }

    async fn a_job_outside_of_its_window_takes_no_place(fixture: &Fixture) {
        let store = &fixture.store;
        let mut registry = Registry::new();
        registry.register::<ThrottledInWindow>().unwrap();
        let first = ThrottledInWindow { fails: 0 }.create(store).await.unwrap();
        let second = ThrottledInWindow { fails: 0 }.create(store).await.unwrap();
        let change = Change::new().set("processing_schedule", CLOSED).set("processing_duration", 1);
        let patch = Patch { id: first.id(), guard: Guard::default(), change };
        store.update(patch).await.unwrap().unwrap();
        eventually("the second has the place", async || {
            claims(fixture, &registry, &["ThrottledInWindow"]).await;
            let second = store.get(second.id()).await.unwrap().unwrap();
            (second.state() == State::Running).then_some(())
        })
        .await;
        assert_eq!(store.get(first.id()).await.unwrap().unwrap().state(), State::Queued);
    }

    async fn a_place_is_given_back_where_another_limit_says_no(fixture: &Fixture) {
        let mut registry = Registry::new();
        registry.register::<HeldAlone>().unwrap();
        registry.register::<ThrottledDependent>().unwrap();
        registry.register::<ThrottledOnly>().unwrap();
        HeldAlone { fails: 0 }.create(&fixture.store).await.unwrap();
        assert_eq!(claims(fixture, &registry, &["HeldAlone"]).await.len(), 1);
        ThrottledDependent { fails: 0 }.create(&fixture.store).await.unwrap();
        ThrottledOnly { fails: 0 }.create(&fixture.store).await.unwrap();
        let got = claims(fixture, &registry, &["ThrottledDependent", "ThrottledOnly"]).await;
        assert_eq!(got, ["ThrottledOnly"]);
    }
}
