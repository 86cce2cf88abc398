//! Singleton: one active job of the kind, whoever creates it.

use std::process::Stdio;

use rocketjob::{Error, SINGLETON_REASON, prelude::*};
use serde::{Deserialize, Serialize};

use crate::{
    process,
    stores::{self, Fixture, Kind, on_every_store},
};

/// The same kind as the one of `examples/singleton.rs`.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "NightlyJob", keep_completed)]
#[singleton]
struct NightlyJob {
    creator: i64,
}

impl Perform for NightlyJob {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

on_every_store! {
    async fn of_200_concurrent_creates_one_succeeds(fixture: &Fixture) {
        let creates = (0..200).map(|creator| NightlyJob { creator }.create(&fixture.store));
        let outcomes = futures_util::future::join_all(creates).await;
        let (created, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        assert_eq!(created.len(), 1);
        let winner = created.into_iter().next().unwrap().unwrap();
        for outcome in refused {
            let error = outcome.unwrap_err();
            assert!(matches!(&error, Error::Existing { existing, reason } if *existing == winner.id() && reason == SINGLETON_REASON), "{error}");
            let text = format!("Validation failed: {SINGLETON_REASON} (job {})", winner.id());
            assert_eq!(error.to_string(), text);
        }
    }

    async fn of_many_created_together_the_first_wins(fixture: &Fixture) {
        let jobs = (0..2_500).map(|creator| NightlyJob { creator });
        let mut outcomes = NightlyJob::create_many(&fixture.store, jobs).await.unwrap().into_iter();
        let first = outcomes.next().unwrap().unwrap();
        assert_eq!(first.creator, 0);
        assert_eq!(outcomes.len(), 2_499);
        for outcome in outcomes {
            let error = outcome.unwrap_err();
            assert!(matches!(&error, Error::Existing { existing, .. } if *existing == first.id()), "{error}");
        }
    }

    async fn a_retry_is_refused_while_another_is_active(fixture: &Fixture) {
        let mut first = NightlyJob { creator: 1 }.create(&fixture.store).await.unwrap();
        first.fail("by hand").await.unwrap();
        let mut second = NightlyJob { creator: 2 }.create(&fixture.store).await.unwrap();
        let error = first.retry().await.unwrap_err();
        assert!(matches!(error, Error::Existing { existing, .. } if existing == second.id()), "{error}");
        assert!(error.to_string().starts_with("Validation failed: State Another instance"), "{error}");
        second.pause().await.unwrap();
        first.retry().await.unwrap();
        let error = second.resume().await.unwrap_err();
        assert!(matches!(error, Error::Existing { existing, .. } if existing == first.id()), "{error}");
    }

    async fn the_next_may_come_when_the_last_has_ended(fixture: &Fixture) {
        for creator in 0..3 {
            let job = NightlyJob { creator }.create(&fixture.store).await.unwrap();
            assert!(NightlyJob { creator: 99 }.create(&fixture.store).await.is_err());
            fixture.server::<NightlyJob>().start().await.unwrap().run_until_idle().await.unwrap();
            let state = fixture.store.get(job.id()).await.unwrap().unwrap().state();
            assert_eq!(state, State::Completed);
        }
    }
}

async fn of_creates_from_several_processes_one_succeeds(fixture: &Fixture) {
    let children: Vec<_> = (0..4)
        .map(|_| {
            process::example("singleton")
                .args(["--store", &fixture.address, "--creates", "50"])
                .stdout(Stdio::piped())
                .spawn()
                .expect("the example can be started")
        })
        .collect();
    let mut created = 0;
    let mut refused = 0;
    for child in children {
        let output = child.wait_with_output().await.expect("the example ends");
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).expect("text");
        created += text.matches("created ").count();
        refused += text.matches(SINGLETON_REASON).count();
    }
    assert_eq!((created, refused), (1, 199));
    assert_eq!(NightlyJob::query(&fixture.store).count().await.unwrap(), 1);
}

#[test]
fn of_creates_from_several_processes_one_succeeds_on_sqlite() {
    let name = "singleton::several_processes_on_sqlite";
    stores::run(
        Kind::Sqlite,
        name,
        of_creates_from_several_processes_one_succeeds,
    );
}

#[test]
fn of_creates_from_several_processes_one_succeeds_on_mongo() {
    let name = "singleton::several_processes_on_mongo";
    stores::run(
        Kind::Mongo,
        name,
        of_creates_from_several_processes_one_succeeds,
    );
}
