//! A job's life on a real server: started, ended in each way, steered from outside.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bson::doc;
use rocketjob::{
    Change, Error, Guard, ManualClock, Patch, Registry, Transition, after, name, prelude::*,
};
use rocketjob_testing::{Claimer, eventually};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::stores::on_every_store;

/// Does what it is told.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "Scripted", aliases("ScriptedBefore"), keep_completed, pausable)]
struct Scripted {
    script: Script,
    result: Option<String>,
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
enum Script {
    Succeed,
    Fail,
    Panic,
    RetryOnce,
    FailForGood,
    Discard,
    /// Waits for a permit of the shared gate, then succeeds.
    Wait,
    /// Waits until it is told to stop.
    WaitForStop,
    SaveThenWait,
}

impl Script {
    fn job(self) -> Scripted {
        Scripted {
            script: self,
            result: None,
        }
    }
}

/// What jobs wait for, and how far they came.
#[derive(Clone, Default)]
struct Stage {
    gate: Arc<Gate>,
}

struct Gate {
    open: Semaphore,
    begun: AtomicU64,
    cancelled: AtomicU64,
    lost: AtomicU64,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            open: Semaphore::new(0),
            begun: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }
}

impl Stage {
    async fn begun(&self, count: u64) {
        let what = format!("{count} jobs begin");
        eventually(&what, async || {
            (self.gate.begun.load(Ordering::SeqCst) >= count).then_some(())
        })
        .await;
    }
}

impl Perform for Scripted {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        let stage = job.shared::<Stage>()?;
        stage.gate.begun.fetch_add(1, Ordering::SeqCst);
        self.result = Some(format!("attempt {}", job.attempt()));
        match self.script {
            Script::Fail => Err(std::io::Error::other("disk gone"))?,
            Script::Panic => panic!("this job is broken"),
            Script::RetryOnce if job.attempt() == 1 => {
                return Err("busy").retry_after(Duration::from_millis(1));
            }
            Script::Succeed | Script::RetryOnce => {}
            Script::FailForGood => return Err("hopeless").fail_for_good(),
            Script::Discard => return Err("not needed").discard(),
            Script::Wait => stage.gate.open.acquire().await?.forget(),
            Script::WaitForStop => {
                job.cancelled().await;
                stage.gate.cancelled.fetch_add(1, Ordering::SeqCst);
                job.check()?;
            }
            Script::SaveThenWait => {
                job.progress(42);
                job.save(self).await?;
                stage.gate.begun.fetch_add(1, Ordering::SeqCst);
                stage.gate.open.acquire().await?.forget();
                self.result = Some("too late".into());
                if let Err(Error::ClaimLost { .. }) = job.save(self).await {
                    stage.gate.lost.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
        Ok(())
    }
}

async fn ended(job: &mut JobHandle<Scripted>) {
    eventually("the job ends", async || {
        job.reload().await.expect("the job is there");
        (!matches!(job.state(), State::Queued | State::Running)).then_some(())
    })
    .await;
}

on_every_store! {
    async fn a_job_completes_and_what_it_wrote_is_kept(fixture: &Fixture) {
        let mut job = Script::Succeed.job().create(&fixture.store).await.unwrap();
        assert_eq!(job.state(), State::Queued);
        let server = fixture.server::<Scripted>().shared(Stage::default()).start().await.unwrap();
        ended(&mut job).await;
        assert_eq!(job.state(), State::Completed);
        assert_eq!(job.result.as_deref(), Some("attempt 1"));
        assert_eq!(job.document().percent_complete(), 100);
        assert!(job.document().started_at() >= job.document().created_at());
        assert!(job.document().completed_at() >= job.document().started_at());
        assert_eq!(job.document().worker_name(), None);
        let stopped = server.stop().await.unwrap();
        assert_eq!((stopped.settled, stopped.refused, stopped.abandoned), (1, 0, 0));
        assert_eq!(fixture.store.servers().await.unwrap(), []);
    }

    async fn a_job_that_is_not_kept_goes_and_reads_as_completed(fixture: &Fixture) {
        let mut job = Script::Succeed.job().keep_completed(false).create(&fixture.store).await.unwrap();
        let server = fixture.server::<Scripted>().shared(Stage::default()).start().await.unwrap();
        ended(&mut job).await;
        assert_eq!(job.state(), State::Completed);
        assert_eq!(fixture.store.get(job.id()).await.unwrap(), None);
        server.stop().await.unwrap();
    }

    async fn an_error_fails_the_job_and_is_kept(fixture: &Fixture) {
        let mut job = Script::Fail.job().create(&fixture.store).await.unwrap();
        let server = fixture.server::<Scripted>().shared(Stage::default()).start().await.unwrap();
        ended(&mut job).await;
        assert_eq!(job.state(), State::Failed);
        let exception = job.exception().unwrap();
        assert_eq!(exception.class_name, "std::io::error::Error");
        assert_eq!(exception.message, "disk gone");
        assert!(exception.worker_name.unwrap().starts_with(&server.name()));
        assert_eq!(job.document().failure_count(), 1);
        assert_eq!(job.result.as_deref(), Some("attempt 1"), "what it wrote before is kept");
        job.retry().await.unwrap();
        assert_eq!(job.exception(), None);
        ended(&mut job).await;
        assert_eq!(job.document().failure_count(), 2);
        assert_eq!(job.result.as_deref(), Some("attempt 2"));
        server.stop().await.unwrap();
    }

    async fn a_panic_fails_its_job_with_a_backtrace_and_no_other(fixture: &Fixture) {
        let mut broken = Script::Panic.job().create(&fixture.store).await.unwrap();
        let mut sound = Script::Succeed.job().create(&fixture.store).await.unwrap();
        let server = fixture.server::<Scripted>().workers(1).shared(Stage::default()).start().await.unwrap();
        ended(&mut broken).await;
        ended(&mut sound).await;
        assert_eq!((broken.state(), sound.state()), (State::Failed, State::Completed));
        let exception = broken.exception().unwrap();
        assert_eq!((exception.class_name.as_str(), exception.message.as_str()), ("Panic", "this job is broken"));
        assert!(exception.backtrace[0].contains("lifecycle.rs"), "{:?}", exception.backtrace[0]);
        assert_eq!(broken.result, None, "what a panicked job wrote is not kept");
        server.stop().await.unwrap();
    }

    async fn an_error_may_ask_for_another_attempt_later(fixture: &Fixture) {
        let mut job = Script::RetryOnce.job().create(&fixture.store).await.unwrap();
        let server = fixture.server::<Scripted>().shared(Stage::default()).start().await.unwrap();
        ended(&mut job).await;
        assert_eq!(job.state(), State::Completed);
        assert_eq!(job.result.as_deref(), Some("attempt 2"));
        assert_eq!(job.document().failure_count(), 1);
        assert!(job.document().run_at().is_some());
        server.stop().await.unwrap();
    }

    async fn an_error_may_discard_the_job(fixture: &Fixture) {
        let mut job = Script::Discard.job().create(&fixture.store).await.unwrap();
        let mut hopeless = Script::FailForGood.job().create(&fixture.store).await.unwrap();
        let server = fixture.server::<Scripted>().shared(Stage::default()).start().await.unwrap();
        ended(&mut job).await;
        ended(&mut hopeless).await;
        assert_eq!(job.state(), State::Aborted);
        assert_eq!(job.exception().unwrap().message, "not needed");
        assert_eq!(hopeless.state(), State::Failed);
        server.stop().await.unwrap();
    }

    async fn progress_and_saved_fields_are_seen_while_it_runs(fixture: &Fixture) {
        let stage = Stage::default();
        let mut job = Script::SaveThenWait.job().create(&fixture.store).await.unwrap();
        let server = fixture.server::<Scripted>().shared(stage.clone()).start().await.unwrap();
        stage.begun(2).await;
        job.reload().await.unwrap();
        assert_eq!(job.state(), State::Running);
        assert_eq!((job.document().percent_complete(), job.result.as_deref()), (42, Some("attempt 1")));
        stage.gate.open.add_permits(1);
        ended(&mut job).await;
        assert_eq!(job.result.as_deref(), Some("too late"), "nobody took the claim away");
        server.stop().await.unwrap();
    }

    async fn who_lost_the_claim_saves_nothing_and_its_outcome_is_refused(fixture: &Fixture) {
        let stage = Stage::default();
        let mut job = Script::SaveThenWait.job().create(&fixture.store).await.unwrap();
        let server = fixture.server::<Scripted>().shared(stage.clone()).start().await.unwrap();
        stage.begun(2).await;
        job.abort().await.unwrap();
        stage.gate.open.add_permits(1);
        eventually("the save is refused", async || (stage.gate.lost.load(Ordering::SeqCst) == 1).then_some(())).await;
        let stopped = server.stop().await.unwrap();
        assert_eq!((stopped.settled, stopped.refused), (0, 1));
        job.reload().await.unwrap();
        assert_eq!((job.state(), job.result.as_deref()), (State::Aborted, Some("attempt 1")));
    }

    async fn an_aborted_job_is_told_to_stop(fixture: &Fixture) {
        let stage = Stage::default();
        let mut job = Script::WaitForStop.job().create(&fixture.store).await.unwrap();
        let server = fixture.server::<Scripted>().shared(stage.clone()).start().await.unwrap();
        stage.begun(1).await;
        job.abort().await.unwrap();
        eventually("the job is told", async || (stage.gate.cancelled.load(Ordering::SeqCst) == 1).then_some(())).await;
        server.stop().await.unwrap();
        job.reload().await.unwrap();
        assert_eq!(job.state(), State::Aborted);
    }

    /// The original's worker wrote `completed` over what an operator had done meanwhile.
    async fn what_an_operator_did_meanwhile_is_not_overwritten(fixture: &Fixture) {
        for state in [State::Aborted, State::Failed, State::Paused] {
            let stage = Stage::default();
            let mut job = Script::Wait.job().create(&fixture.store).await.unwrap();
            let server = fixture.server::<Scripted>().shared(stage.clone()).start().await.unwrap();
            stage.begun(1).await;
            match state {
                State::Aborted => job.abort().await.unwrap(),
                State::Failed => job.fail("by hand").await.unwrap(),
                _ => job.pause().await.unwrap(),
            }
            let before = fixture.store.get(job.id()).await.unwrap().unwrap();
            assert_eq!(before.state(), state);
            stage.gate.open.add_permits(1);
            let stopped = server.stop().await.unwrap();
            assert_eq!((stopped.settled, stopped.refused), (0, 1), "{state}");
            assert_eq!(fixture.store.get(job.id()).await.unwrap(), Some(before));
        }
    }

    async fn a_running_job_pauses_and_resumes(fixture: &Fixture) {
        let stage = Stage::default();
        let mut job = Script::Wait.job().create(&fixture.store).await.unwrap();
        let server = fixture.server::<Scripted>().shared(stage.clone()).start().await.unwrap();
        stage.begun(1).await;
        job.pause().await.unwrap();
        stage.gate.open.add_permits(1);
        job.reload().await.unwrap();
        assert_eq!(job.state(), State::Paused);
        job.resume().await.unwrap();
        assert_eq!(job.state(), State::Queued, "a worker takes it, where the original left it running");
        stage.gate.open.add_permits(1);
        ended(&mut job).await;
        assert_eq!((job.state(), job.document().failure_count()), (State::Completed, 0));
        assert_eq!(stage.gate.begun.load(Ordering::SeqCst), 2, "it was performed anew");
        server.stop().await.unwrap();
    }

    async fn a_wrong_transition_is_refused_with_the_state(fixture: &Fixture) {
        let mut job = Script::Succeed.job().create(&fixture.store).await.unwrap();
        let error = job.retry().await.unwrap_err();
        assert!(matches!(error, Error::WrongState { from: State::Queued, transition: Transition::Retry, .. }), "{error}");
        assert_eq!(error.to_string(), format!("job {} is queued and may not retry", job.id()));
        job.abort().await.unwrap();
        assert!(matches!(job.resume().await, Err(Error::WrongState { from: State::Aborted, .. })));
        let id = job.id();
        job.delete().await.unwrap();
        let gone = rocketjob::steer(&fixture.store, None, id, Transition::Abort, None).await.unwrap_err();
        assert!(matches!(gone, Error::NotFound { .. }), "{gone}");
    }

    async fn an_expired_job_is_discarded_and_not_started(fixture: &Fixture) {
        let stage = Stage::default();
        let past = fixture.store.now() - Duration::from_secs(1);
        let job = Script::Succeed.job().expires_at(past).create(&fixture.store).await.unwrap();
        let server = fixture.server::<Scripted>().shared(stage.clone()).start().await.unwrap();
        server.run_until_idle().await.unwrap();
        assert_eq!(fixture.store.get(job.id()).await.unwrap(), None);
        assert_eq!(stage.gate.begun.load(Ordering::SeqCst), 0);
    }

    /// The original discarded a batch that ran as soon as one more worker came to it.
    async fn a_job_that_expires_while_it_runs_is_left_alone(fixture: &Fixture) {
        let stage = Stage::default();
        let mut job = Script::Wait.job().create(&fixture.store).await.unwrap();
        let busy = fixture.server::<Scripted>().workers(1).shared(stage.clone()).start().await.unwrap();
        stage.begun(1).await;
        let past = fixture.store.now() - Duration::from_secs(1);
        let change = Change::new().set(name::EXPIRES_AT, rocketjob::date(past));
        let patch = Patch { id: job.id(), guard: Guard::default(), change };
        fixture.store.update(patch).await.unwrap().unwrap();
        let second = fixture.server::<Scripted>().shared(stage.clone()).start().await.unwrap();
        let mut next = Script::Succeed.job().create(&fixture.store).await.unwrap();
        ended(&mut next).await;
        job.reload().await.unwrap();
        assert!(job.document().is_expired(fixture.store.now()));
        assert_eq!(job.state(), State::Running);
        stage.gate.open.add_permits(1);
        ended(&mut job).await;
        assert_eq!((job.state(), job.result.as_deref()), (State::Completed, Some("attempt 1")));
        busy.stop().await.unwrap();
        second.stop().await.unwrap();
    }

    async fn a_scheduled_job_waits_for_its_time_or_for_run_now(fixture: &Fixture) {
        let hour = after(&fixture.store, Duration::from_hours(1));
        let soon = after(&fixture.store, Duration::from_millis(300));
        let mut scheduled = Script::Succeed.job().run_at(hour).create(&fixture.store).await.unwrap();
        let mut due = Script::Succeed.job().run_at(soon).create(&fixture.store).await.unwrap();
        assert!(scheduled.document().is_scheduled(fixture.store.now()));
        let server = fixture.server::<Scripted>().shared(Stage::default()).start().await.unwrap();
        ended(&mut due).await;
        assert!(due.document().started_at().unwrap() >= soon, "never before its time");
        scheduled.reload().await.unwrap();
        assert_eq!(scheduled.state(), State::Queued);
        scheduled.run_now().await.unwrap();
        assert_eq!(scheduled.document().run_at(), None);
        ended(&mut scheduled).await;
        assert_eq!(scheduled.state(), State::Completed);
        server.stop().await.unwrap();
    }

    async fn a_new_run_at_makes_a_job_scheduled_or_ready(fixture: &Fixture) {
        let hour = after(&fixture.store, Duration::from_hours(1));
        let mut job = Script::Succeed.job().create(&fixture.store).await.unwrap();
        job.set_run_at(Some(hour));
        job.save().await.unwrap();
        let server = fixture.server::<Scripted>().shared(Stage::default()).start().await.unwrap();
        server.run_until_idle().await.unwrap();
        job.reload().await.unwrap();
        assert_eq!((job.state(), job.document().run_at()), (State::Queued, Some(hour)));
        job.set_run_at(None);
        job.save().await.unwrap();
        let server = fixture.server::<Scripted>().shared(Stage::default()).start().await.unwrap();
        ended(&mut job).await;
        server.stop().await.unwrap();
    }

    async fn an_undecodable_job_and_an_unknown_kind_harm_nobody(fixture: &Fixture) {
        let mut wrong = Script::Succeed.job().priority(1).create(&fixture.store).await.unwrap();
        let change = Change::new().set("script", 7);
        let patch = Patch { id: wrong.id(), guard: Guard::default(), change };
        fixture.store.update(patch).await.unwrap().unwrap();
        let unknown = Script::Succeed.job().priority(2).create(&fixture.store).await.unwrap();
        let change = Change::new().set(name::KIND, "SomebodyElses");
        let patch = Patch { id: unknown.id(), guard: Guard::default(), change };
        fixture.store.update(patch).await.unwrap().unwrap();
        let mut sound = Script::Succeed.job().create(&fixture.store).await.unwrap();

        let server = fixture.server::<Scripted>().workers(1).shared(Stage::default()).start().await.unwrap();
        ended(&mut sound).await;
        let error = eventually("the broken job fails", async || {
            let document = fixture.store.get(wrong.id()).await.unwrap().unwrap();
            (document.state() == State::Failed).then(|| document.exception().unwrap())
        })
        .await;
        assert_eq!(error.class_name, "Undecodable");
        assert!(error.message.contains("script"), "{}", error.message);
        assert!(matches!(wrong.reload().await, Err(Error::Undecodable { .. })));
        let unknown = fixture.store.get(unknown.id()).await.unwrap().unwrap();
        assert_eq!(unknown.state(), State::Queued);
        server.stop().await.unwrap();
    }

    async fn jobs_stored_under_an_alias_are_performed(fixture: &Fixture) {
        let mut job = Script::Succeed.job().create(&fixture.store).await.unwrap();
        let change = Change::new().set(name::KIND, "ScriptedBefore");
        fixture.store.update(Patch { id: job.id(), guard: Guard::default(), change }).await.unwrap().unwrap();
        let server = fixture.server::<Scripted>().shared(Stage::default()).start().await.unwrap();
        ended(&mut job).await;
        assert_eq!(job.state(), State::Completed);
        assert_eq!(job.document().kind(), "ScriptedBefore");
        server.stop().await.unwrap();
    }

    async fn a_stop_hands_back_without_using_up_an_attempt(fixture: &Fixture) {
        let stage = Stage::default();
        for _ in 0..5 {
            Script::WaitForStop.job().create(&fixture.store).await.unwrap();
        }
        let builder = fixture.server::<Scripted>().shared(stage.clone()).grace(Duration::from_millis(1));
        let server = builder.start().await.unwrap();
        stage.begun(3).await;
        let stopped = server.stop().await.unwrap();
        assert_eq!((stopped.settled, stopped.abandoned), (3, 0));
        let jobs = Scripted::query(&fixture.store).list().await.unwrap();
        assert_eq!(jobs.len(), 5);
        for job in &jobs {
            assert_eq!((job.state(), job.document().failure_count()), (State::Queued, 0));
            assert!(job.document().is_ready());
            assert_eq!((job.document().worker_name(), job.document().started_at()), (None, None));
        }
        assert_eq!(fixture.store.servers().await.unwrap(), []);
    }

    /// The original looked at paused and failed jobs too, which it could not put back.
    async fn of_a_dead_servers_jobs_others_take_those_that_run(fixture: &Fixture) {
        let store = &fixture.store;
        let dead = Claimer::new(store, ["Scripted"]);
        let mut jobs = Vec::new();
        for _ in 0..4 {
            let mut job = Script::Succeed.job().create(store).await.unwrap();
            assert_eq!(dead.claim(1).await.jobs.len(), 1);
            job.reload().await.unwrap();
            jobs.push(job);
        }
        jobs[1].pause().await.unwrap();
        jobs[2].fail("by hand").await.unwrap();
        jobs[3].abort().await.unwrap();
        for job in &mut jobs[1..] {
            job.reload().await.unwrap();
        }
        let server = fixture.server::<Scripted>().shared(Stage::default())
            .heartbeat_interval(Duration::from_millis(100)).start().await.unwrap();
        ended(&mut jobs[0]).await;
        server.stop().await.unwrap();
        assert_eq!((jobs[0].state(), jobs[0].document().lost_claims()), (State::Completed, 1));
        for job in &jobs[1..] {
            let stored = store.get(job.id()).await.unwrap().unwrap();
            assert_eq!(&stored, job.document());
        }
    }

    async fn a_missing_shared_value_fails_the_job_and_names_the_type(fixture: &Fixture) {
        let mut job = Script::Succeed.job().create(&fixture.store).await.unwrap();
        let server = fixture.server::<Scripted>().start().await.unwrap();
        ended(&mut job).await;
        let message = job.exception().unwrap().message;
        assert!(message.contains("lifecycle::Stage"), "{message}");
        server.stop().await.unwrap();
    }

    async fn the_server_shows_itself_and_what_it_performs(fixture: &Fixture) {
        let builder = fixture.server::<Scripted>().name("box7:4211").shared(Stage::default());
        let server = builder.start().await.unwrap();
        let servers = fixture.store.servers().await.unwrap();
        assert_eq!(servers.len(), 1);
        assert_eq!((servers[0].name.as_str(), servers[0].max_workers), ("box7:4211", 3));
        assert_eq!(servers[0].heartbeat.unwrap().workers, 3);
        assert_eq!(servers[0].definitions, [Scripted::DEFINITION.publish()]);
        let second = fixture.server::<Scripted>().name("box7:4211").shared(Stage::default()).start().await;
        let error = second.unwrap_err();
        assert!(matches!(&error, Error::ServerNameTaken { name } if name == "box7:4211"), "{error}");
        server.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_may_end_after_its_time_is_over() {
    let clock = ManualClock::default();
    let store = Store::new(MemoryStore::with_clock(clock.clone()));
    let stage = Stage::default();
    let end = after(&store, Duration::from_hours(1));
    let mut job = Script::Wait
        .job()
        .expires_at(end)
        .create(&store)
        .await
        .unwrap();
    let mut registry = Registry::new();
    registry.register::<Scripted>().unwrap();
    let server = Server::builder(&store)
        .only(registry)
        .shared(stage.clone())
        .start()
        .await
        .unwrap();
    stage.begun(1).await;
    clock.set(end + Duration::from_hours(1));
    stage.gate.open.add_permits(1);
    ended(&mut job).await;
    assert_eq!(job.state(), State::Completed);
    assert!(job.document().completed_at() > Some(end));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_job_is_performed_in_place_without_any_store() {
    let shared = rocketjob::Shared::new().with(Stage::default());
    let job = rocketjob::NewJob::from(Script::Succeed.job())
        .perform_now_with(shared)
        .await
        .unwrap();
    assert_eq!(job.result.as_deref(), Some("attempt 1"));
    assert_eq!(job.document().state(), State::Completed);
    let stored = job.document().as_document();
    assert_eq!(stored.get("worker_name"), Some(&bson::Bson::Null));
    assert_eq!(
        stored.get("percent_complete"),
        Some(&bson::Bson::Int32(100))
    );
    assert_eq!(
        doc! { "result": "attempt 1" }.get("result"),
        stored.get("result")
    );
}

#[tokio::test]
async fn in_place_a_failure_is_an_error() {
    let error = Script::Succeed.job().perform_now().await.unwrap_err();
    assert!(
        matches!(&error, Error::Failed(failure) if failure.message.contains("no shared")),
        "{error}"
    );
}
