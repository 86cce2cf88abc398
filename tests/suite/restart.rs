//! Jobs that begin anew when they end.

use std::time::Duration;

use rocketjob::{JobDocument, JobQuery, later, name, prelude::*};
use rocketjob_testing::eventually;
use serde::{Deserialize, Serialize};

use crate::stores::{Fixture, on_every_store};

/// Counts down in a chain of instances, then is kept from going on.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[restart]
struct CountDown {
    #[field(copy_on_restart)]
    left: u32,
    /// Not copied.
    note: Option<String>,
}

impl Perform for CountDown {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        self.note = Some("performed".into());
        if self.left == 0 {
            // Nobody else deletes it: the end of the chain.
            let store = job.store().ok_or("there is a store")?;
            let handle = Self::find(store, job.id()).await?.ok_or("it is there")?;
            handle.delete().await?;
            return Ok(());
        }
        self.left -= 1;
        Ok(())
    }
}

/// Fails as often as it is performed.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "RestartFails", expires_in = "1h")]
#[restart]
struct Fails {
    #[field(copy_on_restart)]
    tries: u32,
}

impl Perform for Fails {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        self.tries += 1;
        Err(JobError::from("always"))
    }
}

async fn others(fixture: &Fixture, than: &JobDocument) -> Vec<JobDocument> {
    let all = JobQuery::<Fails>::new(&fixture.store)
        .documents()
        .await
        .unwrap();
    all.into_iter()
        .filter(|job| job.id() != than.id())
        .collect()
}

on_every_store! {
    async fn a_long_chain_neither_breaks_nor_forks(fixture: &Fixture) {
        let length = if fixture.address == "memory://" { 1_000 } else { 200 };
        CountDown { left: length, note: None }.create(&fixture.store).await.unwrap();
        let servers = [
            fixture.server::<CountDown>().start().await.unwrap(),
            fixture.server::<CountDown>().start().await.unwrap(),
        ];
        eventually("the chain has ended", async || {
            (CountDown::query(&fixture.store).count().await.unwrap() == 0).then_some(())
        })
        .await;
        let mut settled = 0;
        for server in servers {
            settled += server.stop().await.unwrap().settled;
        }
        assert_eq!(settled, usize::try_from(length).unwrap(), "one for each link but the last, which deleted itself");
    }

    async fn whatever_ends_it_there_is_one_next_instance(fixture: &Fixture) {
        let job = Fails { tries: 5 }.description("kept").priority(7);
        let mut job = job.create(&fixture.store).await.unwrap();
        job.fail("by hand").await.unwrap();
        let next = others(fixture, job.document()).await;
        assert_eq!(next.len(), 1);
        let next = &next[0];
        assert_eq!(next.as_document().get_i32("tries").unwrap(), 5);
        assert_eq!((next.description(), next.priority()), (Some("kept"), 7));
        assert!(next.expires_at() > Some(later(fixture.store.now(), Duration::from_mins(59))));
        assert!(!next.as_document().get_bool("restarted").unwrap_or_default());
        assert!(job.document().get(name::EXCEPTION).is_some(), "it stays failed, to be looked at");

        job.retry().await.unwrap();
        job.abort().await.unwrap();
        assert_eq!(others(fixture, job.document()).await.len(), 1, "it has its successor");

        let mut next = Fails::find(&fixture.store, next.id()).await.unwrap().unwrap();
        next.abort().await.unwrap();
        assert_eq!(others(fixture, job.document()).await.len(), 2);
    }

    async fn it_ends_when_its_time_is_over(fixture: &Fixture) {
        let end = fixture.store.now() - Duration::from_secs(1);
        let job = CountDown { left: 3, note: None }.expires_at(end);
        let mut job = job.create(&fixture.store).await.unwrap();
        job.abort().await.unwrap();
        assert_eq!(CountDown::query(&fixture.store).count().await.unwrap(), 1);
    }
}
