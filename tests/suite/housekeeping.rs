//! Housekeeping: what ended long ago goes, and nothing else.

use bson::oid::ObjectId;
use jiff::{SignedDuration, Timestamp};
use rocketjob::{Cron, CronState, jobs::HousekeepingJob, name, prelude::*};
use rocketjob_testing::{eventually, insert_all, job};

use crate::stores::{Fixture, on_every_store};

const DAY: i64 = 24;

/// An id as a producer made it so many hours ago.
fn id_of(at: Timestamp, number: u32) -> ObjectId {
    let seconds = u32::try_from(at.as_second()).unwrap();
    let [_, high, middle, low] = number.to_be_bytes();
    ObjectId::from_parts(seconds, [7; 5], [high, middle, low])
}

/// Jobs that came into `state` so many hours ago, and were created an hour before.
async fn old(store: &Store, state: State, hours: i64, count: u32) -> Vec<ObjectId> {
    let since = store.now() - SignedDuration::from_hours(hours);
    let created = since - SignedDuration::from_hours(1);
    let jobs = (0..count).map(|number| {
        let job = job("HousekeepingOld")
            .keep()
            .id(id_of(created, number))
            .set(name::CREATED_AT, rocketjob::date(created));
        match state {
            State::Queued => job,
            _ => job
                .state(state)
                .set(name::COMPLETED_AT, rocketjob::date(since)),
        }
    });
    insert_all(store, jobs).await
}

async fn are_there(store: &Store, ids: &[ObjectId]) -> bool {
    let there = Filter::ids(ids.iter().copied());
    let count = store
        .count(&there, rocketjob::ReadFrom::Primary)
        .await
        .unwrap();
    assert!(
        count == 0 || count == ids.len() as u64,
        "{count} of {}",
        ids.len()
    );
    count > 0
}

/// Cleans, and returns the job with what it counted.
async fn clean(fixture: &Fixture, job: HousekeepingJob) -> JobHandle<HousekeepingJob> {
    let mut job = job
        .keep_completed(true)
        .create(&fixture.store)
        .await
        .unwrap();
    let server = fixture.server::<HousekeepingJob>().start().await.unwrap();
    server.run_until_idle().await.unwrap();
    job.reload().await.unwrap();
    assert_eq!(job.state(), State::Completed, "{:?}", job.exception());
    job
}

on_every_store! {
    async fn each_state_has_a_retention_of_its_own(fixture: &Fixture) {
        let store = &fixture.store;
        let gone = [
            old(store, State::Completed, 7 * DAY + 1, 3).await,
            old(store, State::Aborted, 7 * DAY + 2, 2).await,
            old(store, State::Failed, 14 * DAY + 3, 1).await,
        ];
        let kept = [
            old(store, State::Completed, 7 * DAY - 1, 3).await,
            old(store, State::Aborted, 7 * DAY - 2, 3).await,
            old(store, State::Failed, 14 * DAY - 3, 3).await,
            old(store, State::Paused, 1000 * DAY, 3).await,
            old(store, State::Queued, 1001 * DAY, 3).await,
        ];
        let job = clean(fixture, HousekeepingJob::default()).await;
        for ids in &gone {
            assert!(!are_there(store, ids).await);
        }
        for ids in &kept {
            assert!(are_there(store, ids).await);
        }
        let counted = [("aborted", 2), ("completed", 3), ("failed", 1)];
        let counted = counted.map(|(state, count)| (state.to_owned(), count));
        assert_eq!(job.deleted, counted.into_iter().collect());

        let all = HousekeepingJob {
            paused_retention: Some(3600),
            queued_retention: Some(3600),
            failed_retention: None,
            ..HousekeepingJob::default()
        };
        let job = clean(fixture, all).await;
        assert_eq!((job.deleted["paused"], job.deleted["queued"]), (3, 3));
        assert!(are_there(store, &kept[2]).await, "failed jobs stay without a number");
    }

    /// Long-lived jobs count from their end and not from their creation.
    async fn a_job_that_was_created_long_ago_and_ended_now_stays(fixture: &Fixture) {
        let store = &fixture.store;
        let created = store.now() - SignedDuration::from_hours(100 * DAY);
        let ids = insert_all(store, (0..3).map(|number| {
            job("HousekeepingOld").keep().state(State::Completed).id(id_of(created, number))
                .set(name::COMPLETED_AT, rocketjob::date(store.now()))
        })).await;
        clean(fixture, HousekeepingJob::default()).await;
        assert!(are_there(store, &ids).await);
    }

    async fn many_go_in_batches_and_are_counted(fixture: &Fixture) {
        let gone = old(&fixture.store, State::Completed, 8 * DAY, 1_234).await;
        let job = clean(fixture, HousekeepingJob::default()).await;
        assert!(!are_there(&fixture.store, &gone).await);
        assert_eq!(job.deleted["completed"], 1_234);
    }

    async fn it_can_be_stopped_and_goes_on_with_the_next_run(fixture: &Fixture) {
        let store = &fixture.store;
        let gone = old(store, State::Completed, 8 * DAY, 5_000).await;
        let mut job = HousekeepingJob::default().create(store).await.unwrap();
        let server = fixture.server::<HousekeepingJob>().start().await.unwrap();
        eventually("the first batch is gone", async || {
            let left = store.count(&Filter::ids(gone.iter().copied()), rocketjob::ReadFrom::Primary).await;
            (left.unwrap() < 5_000).then_some(())
        }).await;
        // It may have ended by now.
        let _ = job.abort().await;
        server.stop().await.unwrap();
        clean(fixture, HousekeepingJob::default()).await;
        assert!(!are_there(store, &gone).await);
    }

    async fn it_runs_by_a_schedule(fixture: &Fixture) {
        let store = &fixture.store;
        let gone = old(store, State::Aborted, 8 * DAY, 3).await;
        let job = HousekeepingJob { failed_retention: Some(77), ..HousekeepingJob::default() };
        let schedule = CronState::scheduled(HousekeepingJob::SCHEDULE);
        let job = job.concern::<Cron>(&schedule).create(store).await.unwrap();
        assert!(job.document().run_at().is_some_and(|run_at| run_at > store.now()));
        let server = fixture.server::<HousekeepingJob>().start().await.unwrap();
        let mut job = job;
        job.run_now().await.unwrap();
        eventually("old jobs are gone", async || (!are_there(store, &gone).await).then_some(())).await;
        let next = eventually("the next instance waits", async || {
            let waiting = HousekeepingJob::query(store).state(State::Queued).list().await.unwrap();
            waiting.into_iter().find(|next| next.id() != job.id())
        }).await;
        server.stop().await.unwrap();
        assert_eq!((next.failed_retention, next.deleted.len()), (Some(77), 0));
        assert!(next.document().run_at().is_some_and(|run_at| run_at > store.now()));
    }

    async fn a_negative_retention_is_refused(fixture: &Fixture) {
        let job = HousekeepingJob { failed_retention: Some(-1), ..HousekeepingJob::default() };
        let error = job.create(&fixture.store).await.unwrap_err().to_string();
        assert!(error.contains("`failed_retention` is a number of seconds, 0 or more"), "{error}");
    }
}
