//! `#[processing_window]`.

use std::time::Duration;

use rocketjob::{
    Change, Guard, ManualClock, Patch, ProcessingWindow, ProcessingWindowState, Registry, Schedule,
    name, prelude::*,
};
use rocketjob_testing::eventually;
use serde::{Deserialize, Serialize};

use crate::stores::on_every_store;

/// Opens for a second when the year begins: as good as never.
const CLOSED: &str = "0 0 1 1 * UTC";
/// Opens for a minute every minute.
const OPEN: &str = "* * * * * UTC";

#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(keep_completed)]
#[processing_window(schedule = "* * * * * UTC", duration = "1m")]
struct Windowed {
    fails: bool,
}

impl Perform for Windowed {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        if self.fails { Err("no".into()) } else { Ok(()) }
    }
}

fn window(schedule: &str, seconds: u64) -> ProcessingWindowState {
    ProcessingWindowState {
        processing_schedule: Some(schedule.into()),
        processing_duration: Some(seconds),
    }
}

fn windowed(schedule: &str, seconds: u64) -> rocketjob::NewJob<Windowed> {
    Windowed { fails: false }.concern::<ProcessingWindow>(&window(schedule, seconds))
}

/// That the job waits for the beginning of the next year, and for nothing else.
fn waits_for_its_window(store: &Store, job: &JobHandle<Windowed>) -> bool {
    let opening = Schedule::parse(CLOSED).unwrap().next_after(store.now());
    job.state() == State::Queued
        && job.document().run_at() == opening
        && job.document().hold() == Some(name::HOLD_SCHEDULED)
}

/// Writes the closed window past all that would look at it.
async fn close(store: &Store, job: &mut JobHandle<Windowed>) {
    let change = Change::new()
        .set("processing_schedule", CLOSED)
        .set("processing_duration", 1);
    let patch = Patch {
        id: job.id(),
        guard: Guard::default(),
        change,
    };
    store.update(patch).await.unwrap().unwrap();
    job.reload().await.unwrap();
}

on_every_store! {
    async fn an_open_window_is_in_nobodys_way(fixture: &Fixture) {
        let store = &fixture.store;
        let mut job = Windowed { fails: false }.create(store).await.unwrap();
        assert_eq!(job.document().run_at(), None);
        assert_eq!(job.document().get("processing_duration").and_then(rocketjob::whole_number), Some(60));
        let server = fixture.server::<Windowed>().start().await.unwrap();
        eventually("it completes", async || {
            job.reload().await.unwrap();
            (job.state() == State::Completed).then_some(())
        })
        .await;
        server.stop().await.unwrap();
    }

    async fn outside_of_it_a_job_waits_for_the_next_opening(fixture: &Fixture) {
        let store = &fixture.store;
        let job = windowed(CLOSED, 1).create(store).await.unwrap();
        assert!(waits_for_its_window(store, &job), "created: {job:?}");

        let soon = rocketjob::later(store.now(), Duration::from_mins(1));
        let job = windowed(CLOSED, 1).run_at(soon).create(store).await.unwrap();
        assert!(waits_for_its_window(store, &job), "scheduled: {job:?}");

        let mut job = windowed(OPEN, 60).create(store).await.unwrap();
        job.pause().await.unwrap();
        close(store, &mut job).await;
        job.resume().await.unwrap();
        assert!(waits_for_its_window(store, &job), "resumed: {job:?}");

        let mut job = windowed(OPEN, 60).create(store).await.unwrap();
        job.fail("no").await.unwrap();
        close(store, &mut job).await;
        job.retry().await.unwrap();
        assert!(waits_for_its_window(store, &job), "retried: {job:?}");
    }

    /// The original gave such a job back without a time, and claimed it again at once, all day.
    async fn who_comes_to_it_too_late_is_not_asked_again_and_again(fixture: &Fixture) {
        let store = &fixture.store;
        let mut late = windowed(OPEN, 60).create(store).await.unwrap();
        close(store, &mut late).await;
        assert!(late.document().is_ready());
        let server = fixture.server::<Windowed>().start().await.unwrap();
        eventually("it waits", async || {
            late.reload().await.unwrap();
            waits_for_its_window(store, &late).then_some(())
        })
        .await;
        // Run now, it is asked once more.
        late.run_now().await.unwrap();
        eventually("it waits", async || {
            late.reload().await.unwrap();
            waits_for_its_window(store, &late).then_some(())
        })
        .await;
        assert_eq!(late.document().started_at(), None, "it has never run");
        let stopped = server.stop().await.unwrap();
        assert_eq!(stopped.settled, 0);
    }

    async fn a_window_that_makes_no_sense_is_refused(fixture: &Fixture) {
        for (schedule, seconds, field) in [
            ("every day", 60, "processing_schedule"),
            ("", 60, "processing_schedule"),
            (OPEN, 0, "processing_duration"),
        ] {
            let refused = windowed(schedule, seconds).create(&fixture.store).await.unwrap_err();
            assert!(refused.to_string().contains(field), "{refused}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_runs_when_its_window_opens() {
    // Not when the year begins, as the clock's own time is.
    let clock = ManualClock::new(jiff::Timestamp::from_second(1_700_000_000).unwrap());
    let store = Store::new(MemoryStore::with_clock(clock.clone()));
    let mut job = windowed(CLOSED, 3600).create(&store).await.unwrap();
    let opening = job.document().run_at().unwrap();
    let mut registry = Registry::new();
    registry.register::<Windowed>().unwrap();
    let server = Server::builder(&store)
        .only(registry)
        .start()
        .await
        .unwrap();
    clock.set(rocketjob::later(opening, Duration::from_secs(5)));
    eventually("it completes", async || {
        job.reload().await.unwrap();
        (job.state() == State::Completed).then_some(())
    })
    .await;
    server.stop().await.unwrap();
}
