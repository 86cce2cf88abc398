//! Concerns that a user could write: the seam needs no change for them.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, future::LocalBoxFuture};
use jiff::Timestamp;
use parking_lot::Mutex;
use rocketjob::{
    Concern, FieldDefinition, FieldType, JobDocument, Limit, Next, NoState, Outcome, ScalarType,
    Settlement, Transition, ValidationFailed, later, name, prelude::*,
};
use rocketjob_testing::eventually;
use serde::{Deserialize, Serialize};

use crate::stores::on_every_store;

/// Tries a failed job again at once, up to a limit.
#[derive(Debug)]
struct Again {
    limit: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct AgainState {
    again_limit: u32,
    again_failed_at: Vec<jiff::Timestamp>,
}

const AGAIN_FIELDS: &[FieldDefinition] = &[
    field("again_limit", FieldType::One(ScalarType::Integer), false),
    field("again_failed_at", FieldType::Array(ScalarType::Time), true),
];

const fn field(name: &'static str, field_type: FieldType, via_text: bool) -> FieldDefinition {
    FieldDefinition {
        name,
        field_type,
        via_text,
        optional: false,
        label: None,
        description: None,
        user_editable: true,
        copy_on_restart: true,
        default: None,
    }
}

impl Concern for Again {
    type State = AgainState;

    fn name(&self) -> &'static str {
        "again"
    }

    fn fields(&self) -> &'static [FieldDefinition] {
        AGAIN_FIELDS
    }

    fn initial_state(&self) -> AgainState {
        AgainState {
            again_limit: self.limit,
            again_failed_at: Vec::new(),
        }
    }

    fn validate(&self, _job: &JobDocument, state: &AgainState, problems: &mut ValidationFailed) {
        if state.again_limit > 100 {
            problems.add("again_limit", "must be at most 100");
        }
    }

    fn settle(&self, settlement: &mut Settlement<'_>, state: &mut AgainState) {
        let Outcome::Fail(failure) = settlement.outcome().clone() else {
            return;
        };
        if state.again_failed_at.len() < state.again_limit as usize {
            state.again_failed_at.push(settlement.now());
            let run_at = later(settlement.now(), Duration::from_millis(1));
            settlement.set_outcome(Outcome::Retry { failure, run_at });
        }
    }
}

/// Fails until its last attempt.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(keep_completed)]
#[concern(Again { limit: 2 })]
struct Stubborn {
    succeeds_at: Option<u64>,
    for_good: bool,
}

impl Perform for Stubborn {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        let state = job.concern::<Again>()?;
        assert_eq!(state.again_failed_at.len() as u64, job.attempt() - 1);
        if self.succeeds_at == Some(job.attempt()) {
            return Ok(());
        }
        let error = Err(format!("attempt {}", job.attempt()));
        if self.for_good {
            error.fail_for_good()
        } else {
            Ok(error?)
        }
    }
}

/// Lets at most so many jobs of a kind run.
#[derive(Debug)]
struct AtMost(u32);

impl Concern for AtMost {
    type State = NoState;

    fn name(&self) -> &'static str {
        "at_most"
    }

    fn limits(&self, job: &JobDocument, _state: &NoState, _now: Timestamp) -> Vec<Limit> {
        vec![Limit::running(format!("at_most:{}", job.kind()), self.0)]
    }
}

/// Runs beside no more than one of its like, and counts.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[concern(AtMost(2))]
struct Narrow {}

#[derive(Clone, Default)]
struct Crowd(Arc<[AtomicU64; 3]>);

impl Perform for Narrow {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        let crowd = job.shared::<Crowd>()?;
        let [now, most, total] = &*crowd.0;
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        total.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        now.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Creates a job when one completes.
#[derive(Debug)]
struct Chain;

impl Concern for Chain {
    type State = NoState;

    fn name(&self) -> &'static str {
        "chain"
    }

    fn settle(&self, settlement: &mut Settlement<'_>, _state: &mut NoState) {
        let left = settlement
            .job()
            .get("left")
            .and_then(rocketjob::whole_number)
            .unwrap_or(0);
        if *settlement.outcome() != Outcome::Complete || left == 0 {
            return;
        }
        let mut next = settlement.job().as_document().clone();
        for field in [name::CLAIM, name::WORKER_NAME, name::STARTED_AT] {
            next.remove(field);
        }
        next.extend(bson::doc! {
            name::ID: bson::oid::ObjectId::new(), name::STATE: "queued", name::READY: true,
            "left": rocketjob::integer(left - 1),
        });
        settlement.add_successor(JobDocument::new(next).expect("a sound document"));
    }
}

#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[concern(Chain)]
struct Linked {
    left: i64,
}

impl Perform for Linked {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        job.shared::<Mutex<Vec<i64>>>()?.lock().push(self.left);
        Ok(())
    }
}

/// Notes what happens around a job.
#[derive(Debug)]
struct Diary(&'static str);

#[derive(Default)]
struct Pages(Mutex<Vec<String>>);

static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

#[async_trait::async_trait]
impl Concern for Diary {
    type State = NoState;

    fn name(&self) -> &'static str {
        self.0
    }

    fn around_perform<'a>(
        &'a self,
        job: &'a JobContext,
        next: Next<'a>,
    ) -> LocalBoxFuture<'a, JobResult> {
        async move {
            let pages = job.shared::<Pages>()?;
            pages.0.lock().push(format!("{} before", self.0));
            let result = next.run().await;
            pages.0.lock().push(format!(
                "{} after {}",
                self.0,
                if result.is_ok() { "well" } else { "ill" }
            ));
            result
        }
        .boxed_local()
    }

    fn observes(&self, transition: Transition) -> bool {
        matches!(
            transition,
            Transition::Complete | Transition::Fail | Transition::Abort
        )
    }

    async fn after_transition(&self, transition: Transition, job: &JobDocument) {
        TOLD.lock().insert(format!(
            "{} {} {} {}",
            job.id(),
            self.0,
            transition,
            job.state()
        ));
    }
}

#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[concern(Diary("outer"))]
#[concern(Diary("inner"))]
struct Noted {
    fails: bool,
}

impl Perform for Noted {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        job.shared::<Pages>()?.0.lock().push("perform".into());
        if self.fails { Err("no".into()) } else { Ok(()) }
    }
}

on_every_store! {
    async fn a_retry_is_a_concern_like_any_other(fixture: &Fixture) {
        let second = Stubborn { succeeds_at: Some(2), for_good: false };
        let mut second = second.create(&fixture.store).await.unwrap();
        let never = Stubborn { succeeds_at: None, for_good: false };
        let mut never = never.create(&fixture.store).await.unwrap();
        let hopeless = Stubborn { succeeds_at: None, for_good: true };
        let mut hopeless = hopeless.create(&fixture.store).await.unwrap();
        let own_limit = AgainState { again_limit: 0, again_failed_at: Vec::new() };
        let once = Stubborn { succeeds_at: None, for_good: false };
        let mut once = once.concern::<Again>(&own_limit).create(&fixture.store).await.unwrap();

        let server = fixture.server::<Stubborn>().start().await.unwrap();
        for (job, state, failures) in [
            (&mut second, State::Completed, 1),
            (&mut never, State::Failed, 3),
            (&mut hopeless, State::Failed, 1),
            (&mut once, State::Failed, 1),
        ] {
            eventually("the job ends", async || {
                job.reload().await.unwrap();
                (!matches!(job.state(), State::Queued | State::Running)).then_some(())
            })
            .await;
            assert_eq!((job.state(), job.document().failure_count()), (state, failures));
        }
        let stored = never.document().get("again_failed_at").unwrap().as_array().unwrap().clone();
        assert_eq!(stored.len(), 2);
        assert!(matches!(stored[0], bson::Bson::DateTime(_)), "dates are stored as dates: {:?}", stored[0]);
        server.stop().await.unwrap();
    }

    async fn a_concern_refuses_a_job_that_breaks_its_rule(fixture: &Fixture) {
        let state = AgainState { again_limit: 101, again_failed_at: Vec::new() };
        let job = Stubborn { succeeds_at: None, for_good: false }.concern::<Again>(&state);
        let error = job.create(&fixture.store).await.unwrap_err();
        assert_eq!(error.to_string(), "Validation failed: `again_limit` must be at most 100");
        let unknown = Stubborn { succeeds_at: None, for_good: false }.concern::<AtMost>(&NoState {});
        let error = unknown.create(&fixture.store).await.unwrap_err();
        assert!(error.to_string().contains("is no concern of kind `Stubborn`"), "{error}");
    }

    async fn a_throttle_is_a_concern_like_any_other(fixture: &Fixture) {
        let crowd = Crowd::default();
        Narrow::create_many(&fixture.store, (0..60).map(|_| Narrow {})).await.unwrap();
        let mut servers = Vec::new();
        for _ in 0..3 {
            servers.push(fixture.server::<Narrow>().shared(crowd.clone()).start().await.unwrap());
        }
        eventually("all jobs complete", async || {
            let left = Narrow::query(&fixture.store).count().await.unwrap();
            (left == 0).then_some(())
        })
        .await;
        let [now, most, total] = &*crowd.0;
        assert_eq!(now.load(Ordering::SeqCst), 0);
        assert!(most.load(Ordering::SeqCst) <= 2, "{most:?} ran at once");
        assert_eq!(total.load(Ordering::SeqCst), 60);
        for server in servers {
            server.stop().await.unwrap();
        }
    }

    async fn a_chain_of_successors_neither_breaks_nor_forks(fixture: &Fixture) {
        let server = fixture.server::<Linked>().shared(Mutex::new(Vec::<i64>::new()));
        Linked { left: 20 }.create(&fixture.store).await.unwrap();
        // One that completed just before its server died: its successor stands in its document.
        let orphan = Linked { left: 0 }.create(&fixture.store).await.unwrap();
        let mut successor = orphan.document().as_document().clone();
        successor.insert(name::ID, bson::oid::ObjectId::new());
        let change = rocketjob::Change::new()
            .set(name::STATE, "completed")
            .set(name::SUCCESSORS, vec![successor])
            .unset(name::READY);
        let patch = rocketjob::Patch { id: orphan.id(), guard: rocketjob::Guard::default(), change };
        fixture.store.update(patch).await.unwrap().unwrap();

        let server = server.start().await.unwrap();
        eventually("the chain ends", async || {
            let left = Linked::query(&fixture.store).count().await.unwrap();
            (left == 0).then_some(())
        })
        .await;
        let stopped = server.stop().await.unwrap();
        assert_eq!(stopped.settled, 22, "21 links, and the successor of the orphan");
    }

    async fn concerns_surround_perform_in_order_and_are_told_afterwards(fixture: &Fixture) {
        let good = Noted { fails: false }.create(&fixture.store).await.unwrap();
        let server = fixture.server::<Noted>().workers(1).shared(Pages::default());
        let server = server.start().await.unwrap();
        let told = |job: &JobHandle<Noted>, concern: &str, what: &str| {
            TOLD.lock().contains(&format!("{} {concern} {what}", job.id()))
        };
        eventually("both are told", async || {
            (told(&good, "outer", "complete completed") && told(&good, "inner", "complete completed")).then_some(())
        })
        .await;
        let mut bad = Noted { fails: true }.create(&fixture.store).await.unwrap();
        eventually("both are told", async || {
            (told(&bad, "outer", "fail failed") && told(&bad, "inner", "fail failed")).then_some(())
        })
        .await;
        bad.reload().await.unwrap();
        bad.abort().await.unwrap();
        assert!(told(&bad, "outer", "abort aborted"));
        server.stop().await.unwrap();
    }
}

#[tokio::test]
async fn concerns_stand_around_perform_like_shells() {
    let shared = rocketjob::Shared::new().with(Pages::default());
    let pages = shared.get::<Pages>().unwrap();
    rocketjob::NewJob::from(Noted { fails: false })
        .perform_now_with(shared.clone())
        .await
        .unwrap();
    let expected = [
        "outer before",
        "inner before",
        "perform",
        "inner after well",
        "outer after well",
    ];
    assert_eq!(*pages.0.lock(), expected);
    rocketjob::NewJob::from(Noted { fails: true })
        .perform_now_with(shared)
        .await
        .unwrap_err();
    assert_eq!(pages.0.lock().last().unwrap(), "outer after ill");
}
