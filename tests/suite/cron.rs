//! Jobs by a schedule: the chain of instances neither breaks nor forks, and no time comes twice.

use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use rocketjob::{
    Cron, CronState, Edits, Error, JobDocument, Kinds, Registry, Schedule, edit, later, name,
    prelude::*, timestamp,
};
use rocketjob_testing::eventually;
use serde::{Deserialize, Serialize};

use crate::stores::{Fixture, on_every_store};

const HOURLY: &str = "0 * * * * UTC";

/// The times for which instances were performed, with what they carried.
#[derive(Default)]
struct Ledger(Mutex<Vec<(Option<Timestamp>, u32)>>);

impl Ledger {
    fn note(job: &JobContext, count: u32) -> JobResult {
        let slot = job.concern::<Cron>()?.cron_slot;
        job.shared::<std::sync::Arc<Self>>()?
            .0
            .lock()
            .push((slot, count));
        Ok(())
    }
}

macro_rules! kinds {
    ($($(#[$attribute:meta])* $kind:ident;)+) => {
        $(
            #[derive(RocketJob, Serialize, Deserialize, Debug, Default)]
            #[rocketjob(keep_completed)]
            $(#[$attribute])*
            struct $kind {
                /// How many instances were performed to their end before.
                #[field(user_editable, copy_on_restart)]
                count: u32,
                #[field(default)]
                fails: bool,
            }

            impl Perform for $kind {
                async fn perform(&mut self, job: &JobContext) -> JobResult {
                    Ledger::note(job, self.count)?;
                    self.count += 1;
                    if self.fails {
                        return Err(JobError::from("as it was told"));
                    }
                    Ok(())
                }
            }
        )+
    };
}

kinds! {
    #[cron("* * * * * * UTC")]
    EverySecond;
    #[cron("* * * * * * UTC", after_start = false)]
    EverySecondAfterEnd;
    #[cron("0 * * * * UTC")]
    Hourly;
    #[cron("0 * * * * UTC", after_start = false)]
    HourlyAfterEnd;
    #[cron("0 * * * * UTC", singleton = false)]
    HourlyMany;
    #[cron("0 * * * * UTC", misfire = skip)]
    HourlySkip;
    #[cron("0 * * * * UTC", misfire = run_all(3))]
    HourlyAll;
    #[cron("0 * * * * UTC")]
    #[singleton]
    HourlySingleton;
    #[cron]
    AdHoc;
}

type Shared = std::sync::Arc<Ledger>;

async fn start<T: Perform>(fixture: &Fixture) -> (Server, Shared) {
    let ledger = Shared::default();
    let server = fixture.server::<T>().shared(Shared::clone(&ledger));
    (server.start().await.unwrap(), ledger)
}

fn kinds<T: Perform>() -> Kinds {
    let mut registry = Registry::new();
    registry.register::<T>().unwrap();
    Kinds::compiled(registry)
}

fn slot(job: &JobDocument) -> Option<Timestamp> {
    let slot = job.as_document().get_datetime("cron_slot").ok()?;
    timestamp(*slot)
}

/// All instances that still have the schedule: the chain goes on with each.
async fn scheduled<T: Job>(store: &Store) -> Vec<JobDocument> {
    let with_schedule = Filter::exists("cron_schedule");
    T::query(store)
        .filter(with_schedule)
        .documents()
        .await
        .unwrap()
}

fn next_hour(after: Timestamp) -> Timestamp {
    Schedule::parse(HOURLY).unwrap().next_after(after).unwrap()
}

fn hours(count: u64) -> Duration {
    Duration::from_hours(count)
}

/// An instance for a time that was `late` ago and is due.
async fn create_late<T: Job + Default>(
    store: &Store,
    late: Duration,
    attribute: Cron,
) -> Timestamp {
    let missed = next_hour(store.now() - late);
    let state = CronState {
        cron_slot: Some(missed),
        cron_after_start: attribute.after_start,
        ..CronState::scheduled(HOURLY)
    };
    let job = T::default().run_at(missed).concern::<Cron>(&state);
    job.create(store).await.unwrap();
    missed
}

on_every_store! {
    async fn a_new_job_waits_for_the_time_of_its_schedule(fixture: &Fixture) {
        let before = fixture.store.now();
        let job = Hourly::default().create(&fixture.store).await.unwrap();
        let document = job.document().as_document();
        assert_eq!(document.get_str("cron_schedule").unwrap(), HOURLY);
        assert_eq!(document.get("cron_singleton"), Some(&true.into()));
        assert_eq!(document.get("cron_after_start"), Some(&true.into()));
        assert_eq!(document.get_str(name::HOLD).unwrap(), name::HOLD_SCHEDULED);
        let run_at = job.document().run_at().unwrap();
        assert!(run_at == next_hour(before) || run_at == next_hour(fixture.store.now()));
        assert_eq!(slot(job.document()), Some(run_at));

        let explicit = before - hours(1);
        let other = CronState::scheduled("5 * * * * UTC");
        let other = Hourly::default().concern::<Cron>(&other).run_at(explicit);
        let other = other.create(&fixture.store).await.unwrap();
        assert_eq!(other.document().run_at(), Some(explicit), "what was said is not changed");
        let none = AdHoc::default().create(&fixture.store).await.unwrap();
        assert!(none.document().run_at().is_none(), "without a schedule it is a job like others");
    }

    async fn a_chain_has_each_time_once(fixture: &Fixture) {
        chain::<EverySecond>(fixture).await;
    }

    async fn a_chain_that_goes_on_after_the_end_has_each_time_once(fixture: &Fixture) {
        chain::<EverySecondAfterEnd>(fixture).await;
    }

    async fn the_next_instance_is_there_when_one_begins_and_a_retry_makes_no_other(fixture: &Fixture) {
        let mut job = Hourly { fails: true, count: 7 }.create(&fixture.store).await.unwrap();
        let first = slot(job.document()).unwrap();
        job.run_now().await.unwrap();
        let (server, ledger) = start::<Hourly>(fixture).await;
        eventually("it has failed", async || {
            job.reload().await.unwrap();
            (job.state() == State::Failed).then_some(())
        })
        .await;
        let next = scheduled::<Hourly>(&fixture.store).await;
        assert_eq!(next.len(), 1, "the next one, and not the failed one");
        // It came early, and has had its time.
        assert_eq!(slot(&next[0]), Some(later(first, hours(1))));
        assert_eq!(next[0].run_at(), slot(&next[0]));
        assert_eq!(next[0].as_document().get_i32("count").unwrap(), 7, "copied as it began");
        assert!(next[0].as_document().get("fails").is_none(), "not marked to be copied");
        job.retry().await.unwrap();
        eventually("it has failed again", async || {
            job.reload().await.unwrap();
            (job.state() == State::Failed && ledger.0.lock().len() == 2).then_some(())
        })
        .await;
        server.stop().await.unwrap();
        assert_eq!(scheduled::<Hourly>(&fixture.store).await.len(), 1);
        assert_eq!(Hourly::query(&fixture.store).count().await.unwrap(), 2);
    }

    async fn the_next_instance_comes_after_the_end_where_wanted(fixture: &Fixture) {
        let mut job = HourlyAfterEnd::default().create(&fixture.store).await.unwrap();
        let first = slot(job.document()).unwrap();
        job.run_now().await.unwrap();
        let (server, _) = start::<HourlyAfterEnd>(fixture).await;
        let next = eventually("the next is there", async || {
            job.reload().await.unwrap();
            let all = scheduled::<HourlyAfterEnd>(&fixture.store).await;
            (job.state() == State::Completed && all.len() == 1).then(|| all.into_iter().next().unwrap())
        })
        .await;
        server.stop().await.unwrap();
        assert_ne!(next.id(), job.id());
        assert_eq!(slot(&next), Some(later(first, hours(1))));
        assert_eq!(next.as_document().get_i32("count").unwrap(), 1, "copied as it ended");
        assert_eq!(next.as_document().get("cron_after_start"), Some(&false.into()));
    }

    async fn an_abort_gives_up_one_time_and_a_deletion_all(fixture: &Fixture) {
        let mut job = Hourly::default().create(&fixture.store).await.unwrap();
        let first = slot(job.document()).unwrap();
        job.abort().await.unwrap();
        let next = scheduled::<Hourly>(&fixture.store).await;
        assert_eq!(next.len(), 1);
        assert_eq!(slot(&next[0]), Some(later(first, hours(1))));
        let mut job = Hourly::find(&fixture.store, next[0].id()).await.unwrap().unwrap();
        job.fail("by hand").await.unwrap();
        let next = scheduled::<Hourly>(&fixture.store).await;
        assert_eq!(next.len(), 1);
        assert_eq!(slot(&next[0]), Some(later(first, hours(2))));
        job.retry().await.unwrap();
        job.abort().await.unwrap();
        assert_eq!(scheduled::<Hourly>(&fixture.store).await.len(), 1, "it has its successor");
        let job = Hourly::find(&fixture.store, next[0].id()).await.unwrap().unwrap();
        job.delete().await.unwrap();
        assert!(scheduled::<Hourly>(&fixture.store).await.is_empty());
    }

    async fn a_schedule_is_there_once_unless_it_may_be_there_often(fixture: &Fixture) {
        let mut first = Hourly::default().create(&fixture.store).await.unwrap();
        for is_paused in [false, true] {
            if is_paused {
                first.pause().await.unwrap();
            }
            let error = Hourly::default().create(&fixture.store).await.unwrap_err();
            assert!(matches!(error, Error::Existing { existing, .. } if existing == first.id()), "{error}");
        }
        let other = CronState::scheduled("5 * * * * UTC");
        let other = Hourly::default().concern::<Cron>(&other).create(&fixture.store).await.unwrap();
        let error = set::<Hourly>(fixture, &other, "cron_schedule", HOURLY).await.unwrap_err();
        assert!(matches!(error, Error::Existing { existing, .. } if existing == first.id()), "{error}");
        set::<Hourly>(fixture, &other, "cron_singleton", "false").await.unwrap();
        set::<Hourly>(fixture, &other, "cron_schedule", HOURLY).await.unwrap();
        for _ in 0..2 {
            HourlyMany::default().create(&fixture.store).await.unwrap();
        }
    }

    async fn of_many_who_create_it_one_does(fixture: &Fixture) {
        let creates = (0..50).map(|_| Hourly::default().create(&fixture.store));
        let created = futures_util::future::join_all(creates).await;
        assert_eq!(created.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    }

    async fn another_schedule_means_another_time(fixture: &Fixture) {
        let job = Hourly::default().create(&fixture.store).await.unwrap();
        let error = set::<Hourly>(fixture, &job, "cron_schedule", "61 * * * *").await.unwrap_err();
        assert!(error.to_string().contains("`61` is no minute"), "{error}");
        let now = fixture.store.now();
        let yearly = "0 0 1 1 * UTC";
        let after = set::<Hourly>(fixture, &job, "cron_schedule", yearly).await.unwrap();
        let expected = Schedule::parse(yearly).unwrap().next_after(now);
        assert_eq!((after.run_at(), slot(&after)), (expected, expected));
        let both = Edits::new().set("cron_schedule", "0 0 1 2 * UTC").set("run_at", "2020-01-01T00:00:00Z");
        let after = edit(&fixture.store, &kinds::<Hourly>(), job.id(), &both).await.unwrap();
        assert_eq!(after.run_at().unwrap().to_string(), "2020-01-01T00:00:00Z", "what was said is not changed");
        let bad = CronState::scheduled("0 0 * * * Mars/Olympus");
        let error = AdHoc::default().concern::<Cron>(&bad).create(&fixture.store).await.unwrap_err();
        assert!(error.to_string().contains("`Mars/Olympus` is no time zone"), "{error}");
    }

    async fn missed_times_come_as_the_job_says(fixture: &Fixture) {
        let store = &fixture.store;
        let end = next_hour(store.now());
        let missed = create_late::<Hourly>(store, hours(5), Cron::ad_hoc()).await;
        let (server, ledger) = start::<Hourly>(fixture).await;
        eventually("one is performed", async || (!ledger.0.lock().is_empty()).then_some(())).await;
        server.stop().await.unwrap();
        assert_eq!(ledger.0.lock().as_slice(), [(Some(missed), 0)], "one for all that were missed");
        let next = scheduled::<Hourly>(store).await;
        assert!(next.len() == 1 && slot(&next[0]) >= Some(end), "{next:?}");

        create_late::<HourlySkip>(store, hours(5), Cron::ad_hoc()).await;
        let (server, ledger) = start::<HourlySkip>(fixture).await;
        eventually("it waits for the next time", async || {
            let all = scheduled::<HourlySkip>(store).await;
            (all.len() == 1 && all[0].run_at() >= Some(end) && all[0].get(name::HOLD).is_some()).then_some(())
        })
        .await;
        server.stop().await.unwrap();
        assert!(ledger.0.lock().is_empty());

        create_late::<HourlyAll>(store, hours(5), Cron::ad_hoc()).await;
        let (server, ledger) = start::<HourlyAll>(fixture).await;
        eventually("the chain has caught up", async || {
            let all = scheduled::<HourlyAll>(store).await;
            (all.len() == 1 && slot(&all[0]) >= Some(end)).then_some(())
        })
        .await;
        eventually("all are performed", async || (ledger.0.lock().len() >= 3).then_some(())).await;
        server.stop().await.unwrap();
        let mut slots: Vec<_> = ledger.0.lock().iter().map(|(slot, _)| slot.unwrap()).collect();
        slots.sort();
        slots.truncate(3);
        let last = slots[2];
        assert!(last == end - hours(1) || last == end, "{slots:?}");
        assert_eq!(slots, [last - hours(2), last - hours(1), last]);
    }

    async fn the_chain_ends_when_its_time_is_over(fixture: &Fixture) {
        let end = later(fixture.store.now(), Duration::from_mins(1));
        let mut job = Hourly::default().expires_at(end).create(&fixture.store).await.unwrap();
        job.run_now().await.unwrap();
        let (server, _) = start::<Hourly>(fixture).await;
        eventually("it is performed", async || {
            job.reload().await.unwrap();
            (job.state() == State::Completed).then_some(())
        })
        .await;
        server.stop().await.unwrap();
        assert_eq!(Hourly::query(&fixture.store).count().await.unwrap(), 1);
    }

    async fn a_singleton_goes_on_when_it_has_ended(fixture: &Fixture) {
        let mut job = HourlySingleton::default().create(&fixture.store).await.unwrap();
        job.run_now().await.unwrap();
        let (server, _) = start::<HourlySingleton>(fixture).await;
        eventually("the next is there", async || {
            job.reload().await.unwrap();
            let all = scheduled::<HourlySingleton>(&fixture.store).await;
            (job.state() == State::Completed && all.len() == 1 && all[0].id() != job.id()).then_some(())
        })
        .await;
        server.stop().await.unwrap();
    }

    async fn a_paused_instance_pauses_the_schedule(fixture: &Fixture) {
        let mut job = Hourly::default().create(&fixture.store).await.unwrap();
        job.pause().await.unwrap();
        assert_eq!(scheduled::<Hourly>(&fixture.store).await.len(), 1);
        job.resume().await.unwrap();
        let all = scheduled::<Hourly>(&fixture.store).await;
        assert_eq!((all.len(), all[0].id(), all[0].state()), (1, job.id(), State::Queued));
        assert_eq!(all[0].as_document().get_str(name::HOLD).unwrap(), name::HOLD_SCHEDULED);
    }
}

async fn set<T: Perform>(
    fixture: &Fixture,
    job: &JobHandle<T>,
    field: &str,
    text: &str,
) -> rocketjob::Result<JobDocument> {
    let edits = Edits::new().set(field, text);
    edit(&fixture.store, &kinds::<T>(), job.id(), &edits).await
}

/// Two servers, a time each second.
async fn chain<T: Perform + Default>(fixture: &Fixture) {
    T::default().create(&fixture.store).await.unwrap();
    let (first, ledger) = start::<T>(fixture).await;
    let (second, more) = start::<T>(fixture).await;
    let all = || {
        let mut all = ledger.0.lock().clone();
        all.extend(more.0.lock().iter().copied());
        all.sort_by_key(|(slot, _)| *slot);
        all
    };
    eventually("six times have come", async || {
        (all().len() >= 6).then_some(())
    })
    .await;
    first.stop().await.unwrap();
    second.stop().await.unwrap();
    let slots: Vec<_> = all().into_iter().map(|(slot, _)| slot.unwrap()).collect();
    assert!(
        slots.is_sorted_by(|one, next| one < next),
        "none comes twice: {slots:?}"
    );
    let next = scheduled::<T>(&fixture.store).await;
    assert_eq!(next.len(), 1, "one chain, and not broken");
    assert!(slot(&next[0]).unwrap() > *slots.last().unwrap());
}

#[tokio::test]
async fn the_concern_is_no_part_of_perform_now() {
    let shared = rocketjob::Shared::new().with(Shared::default());
    let job = rocketjob::NewJob::from(Hourly::default());
    assert_eq!(job.perform_now_with(shared).await.unwrap().count, 1);
}
