//! `#[depends_on]`.

use jiff::Timestamp;
use rocketjob::{DependsOn, DependsOnState, Registry, prelude::*};
use rocketjob_testing::eventually;
use serde::{Deserialize, Serialize};

use crate::{crowd::Crowd, stores::on_every_store};

/// Runs until it may go.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
struct DependencyA {}

/// Is never performed, but may stand in the way.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
struct DependencyB {}

/// Waits for both.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[depends_on(DependencyA, DependencyB, "Other::Program")]
struct Dependent {}

impl Perform for DependencyA {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        let crowd = job.shared::<Crowd>()?;
        crowd.enter("a", Timestamp::UNIX_EPOCH);
        crowd.stay().await;
        crowd.leave("a");
        Ok(())
    }
}

impl Perform for DependencyB {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

impl Perform for Dependent {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        let crowd = job.shared::<Crowd>()?;
        crowd.enter("dependent", Timestamp::UNIX_EPOCH);
        Ok(())
    }
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.register::<DependencyA>().unwrap();
    registry.register::<Dependent>().unwrap();
    registry
}

async fn held_for(store: &Store, job: &mut JobHandle<Dependent>, hold: &str) {
    eventually("it is held", async || {
        job.reload().await.unwrap();
        let _ = store;
        (job.document().hold() == Some(hold)).then_some(())
    })
    .await;
}

on_every_store! {
    async fn it_waits_while_one_runs_and_goes_on_afterwards(fixture: &Fixture) {
        let (store, crowd) = (&fixture.store, Crowd::default());
        // Who waits, is paused or has failed is in nobody's way.
        DependencyB {}.create(store).await.unwrap();
        DependencyB {}.create(store).await.unwrap().pause().await.unwrap();
        DependencyB {}.create(store).await.unwrap().fail("no").await.unwrap();
        DependencyA {}.create(store).await.unwrap();
        let server = fixture.server::<Dependent>().only(registry()).shared(crowd.clone());
        let server = server.start().await.unwrap();
        eventually("it runs", async || (crowd.inside("a") == 1).then_some(())).await;
        let mut job = Dependent {}.create(store).await.unwrap();
        let stored = job.document().get("dependent_jobs").unwrap().as_array().unwrap().len();
        assert_eq!(stored, 3);
        held_for(store, &mut job, "limit:after:DependencyA").await;
        assert_eq!(crowd.inside("dependent"), 0);
        crowd.open();
        eventually("it goes on", async || (crowd.inside("dependent") == 1).then_some(())).await;
        server.stop().await.unwrap();
    }

    async fn a_job_of_another_program_is_waited_for_as_well(fixture: &Fixture) {
        let store = &fixture.store;
        let running = rocketjob_testing::job("Other::Program").state(State::Running).insert(store).await;
        let mut job = Dependent {}.create(store).await.unwrap();
        let crowd = Crowd::default();
        let server = fixture.server::<Dependent>().only(registry()).shared(crowd.clone());
        let server = server.start().await.unwrap();
        held_for(store, &mut job, "limit:after:Other::Program").await;
        let change = rocketjob::Change::new().set("state", "completed");
        let patch = rocketjob::Patch { id: running.id(), guard: rocketjob::Guard::default(), change };
        store.update(patch).await.unwrap().unwrap();
        eventually("it goes on", async || (crowd.inside("dependent") == 1).then_some(())).await;
        server.stop().await.unwrap();
    }

    async fn what_a_job_waits_for_can_be_changed(fixture: &Fixture) {
        let store = &fixture.store;
        let other = DependsOnState { dependent_jobs: Some(vec!["Dependent".into()]) };
        let own_kind = Dependent {}.concern::<DependsOn>(&other).create(store).await.unwrap_err();
        assert!(own_kind.to_string().contains("cannot have the job's own kind"), "{own_kind}");
        rocketjob_testing::job("DependencyB").state(State::Running).insert(store).await;
        let none = DependsOnState { dependent_jobs: Some(Vec::new()) };
        Dependent {}.concern::<DependsOn>(&none).create(store).await.unwrap();
        let crowd = Crowd::default();
        let server = fixture.server::<Dependent>().only(registry()).shared(crowd.clone());
        let server = server.start().await.unwrap();
        eventually("it runs", async || (crowd.inside("dependent") == 1).then_some(())).await;
        server.stop().await.unwrap();
    }
}
