//! A job's own callbacks: before, after and around `perform`, and around each transition.

use std::{collections::BTreeMap, sync::LazyLock};

use parking_lot::Mutex;
use rocketjob::{
    Callbacks, Change, Concern, Error, JobDocument, Next, NoState, Proceed, Settlement, Transition,
    prelude::*,
};
use rocketjob_testing::eventually;
use serde::{Deserialize, Serialize};

use crate::stores::{Fixture, on_every_store};

/// What happened, by the job's word.
static HAPPENED: LazyLock<Mutex<BTreeMap<String, Vec<String>>>> = LazyLock::new(Mutex::default);

fn note(word: &str, what: &str) {
    let mut happened = HAPPENED.lock();
    happened
        .entry(word.to_owned())
        .or_default()
        .push(what.to_owned());
}

fn happened(word: &str) -> Vec<String> {
    HAPPENED.lock().get(word).cloned().unwrap_or_default()
}

/// A concern that notes when it is asked.
#[derive(Debug)]
struct Noting;

fn word(job: &JobDocument) -> &str {
    job.as_document().get_str("word").unwrap_or_default()
}

#[async_trait::async_trait]
impl Concern for Noting {
    type State = NoState;

    fn name(&self) -> &'static str {
        "noting"
    }

    fn around_perform<'a>(
        &'a self,
        job: &'a JobContext,
        next: Next<'a>,
    ) -> futures_util::future::LocalBoxFuture<'a, JobResult> {
        Box::pin(async move {
            note(word(job.document()), "concern before");
            let result = next.run().await;
            note(word(job.document()), "concern after");
            result
        })
    }

    fn settle(&self, settlement: &mut Settlement<'_>, _state: &mut NoState) {
        let transition = settlement.outcome().transition();
        note(
            word(settlement.job()),
            &format!("concern settles {transition}"),
        );
    }

    fn before_transition(
        &self,
        transition: Transition,
        job: &JobDocument,
        _state: &mut NoState,
        _change: &mut Change,
    ) -> rocketjob::Result<()> {
        note(word(job), &format!("concern before {transition}"));
        Ok(())
    }

    fn observes(&self, _transition: Transition) -> bool {
        true
    }

    async fn after_transition(&self, transition: Transition, job: &JobDocument) {
        note(word(job), &format!("concern after {transition}"));
    }
}

/// Does what it is told to at each moment.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "CalledBack", keep_completed, concern(Noting))]
struct CalledBack {
    word: String,
    /// The moment at which something else happens.
    at: String,
    changed: Vec<String>,
}

impl CalledBack {
    fn new(fixture: &Fixture, at: &str) -> Self {
        let word = format!("{} {at}", fixture.store.next_id());
        Self {
            word,
            at: at.into(),
            changed: Vec::new(),
        }
    }

    fn moment(&mut self, moment: &str) -> JobResult {
        note(&self.word, moment);
        self.changed.push(moment.into());
        if self.at == moment {
            return Err("as it was told".into());
        }
        if self.at == format!("{moment} for good") {
            return Err("as it was told").discard();
        }
        Ok(())
    }
}

impl Perform for CalledBack {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        self.moment("perform")
    }
}

impl Callbacks for CalledBack {
    async fn before_perform(&mut self, _job: &JobContext) -> JobResult<Proceed> {
        self.moment("before perform")?;
        Ok(if self.at == "nothing to do" {
            Proceed::Complete
        } else {
            Proceed::Perform
        })
    }

    async fn around_perform(&mut self, job: &JobContext) -> JobResult {
        self.moment("around, before")?;
        self.perform(job).await?;
        self.moment("around, after")
    }

    async fn after_perform(&mut self, _job: &JobContext) -> JobResult {
        self.moment("after perform")
    }

    fn before_transition(&mut self, transition: Transition, job: &JobDocument) -> JobResult {
        assert_eq!(word(job), self.word);
        self.moment(&format!("before {transition}"))
    }

    async fn after_transition(self, transition: Transition, job: &JobDocument) {
        note(&self.word, &format!("after {transition}: {}", job.state()));
    }
}

const WHOLE: [&str; 11] = [
    "concern before",
    "before start",
    "before perform",
    "around, before",
    "perform",
    "around, after",
    "after perform",
    "concern after",
    "concern settles complete",
    "before complete",
    "concern after complete",
];

/// Performs a job that does something else at this moment, and returns it as it is then.
async fn performed(fixture: &Fixture, at: &str) -> JobHandle<CalledBack> {
    let mut job = CalledBack::new(fixture, at)
        .create(&fixture.store)
        .await
        .unwrap();
    let server = fixture.server::<CalledBack>().start().await.unwrap();
    eventually("it ends", async || {
        job.reload().await.unwrap();
        let ended = [State::Completed, State::Failed, State::Aborted].contains(&job.state());
        let told = happened(&job.word)
            .iter()
            .any(|what| what.starts_with("after "));
        (ended && told).then_some(())
    })
    .await;
    server.stop().await.unwrap();
    job
}

on_every_store! {
    /// Those of concerns and of the job, in their order; and what they changed is stored.
    async fn callbacks_surround_perform_and_transitions_in_order(fixture: &Fixture) {
        let job = performed(fixture, "nowhere").await;
        assert_eq!(job.state(), State::Completed);
        let mut expected = WHOLE.to_vec();
        expected.push("after complete: completed");
        assert_eq!(happened(&job.word), expected);
        let own: Vec<_> = WHOLE.into_iter().filter(|what| !what.starts_with("concern")).collect();
        assert_eq!(job.changed, own);
    }

    /// What fails, completes or discards the job before `perform` leaves `perform` out.
    async fn a_callback_decides_how_the_job_ends(fixture: &Fixture) {
        for (at, state, last) in [
            ("before start", State::Failed, "before start"),
            ("before perform", State::Failed, "before perform"),
            ("before perform for good", State::Aborted, "before perform"),
            ("nothing to do", State::Completed, "before perform"),
            ("around, before", State::Failed, "around, before"),
            ("around, after", State::Failed, "around, after"),
            ("after perform", State::Failed, "after perform"),
            // Of what it changed nothing is written.
            ("before complete", State::Failed, "after perform"),
        ] {
            let job = performed(fixture, at).await;
            assert_eq!(job.state(), state, "{at}");
            let moment = at.trim_end_matches(" for good").to_owned();
            assert!(at == "nothing to do" || happened(&job.word).contains(&moment), "{at}");
            let decided = job.changed.iter().rposition(|what| what == last).unwrap();
            let end = format!("before {}", match state {
                State::Failed => "fail",
                State::Aborted => "abort",
                _ => "complete",
            });
            assert_eq!(job.changed[decided + 1..].last().unwrap_or(&job.changed[decided]), &end, "{at}: {:?}", job.changed);
            let performed = job.changed.iter().any(|what| what == "perform");
            assert_eq!(performed, !matches!(last, "before start" | "before perform" | "around, before"), "{at}");
            if state != State::Completed {
                assert_eq!(job.exception().unwrap().message, "as it was told");
            }
        }
    }

    /// What an operator asks for may be refused, and what the callback changed is written with it.
    async fn a_callback_may_refuse_a_transition(fixture: &Fixture) {
        let mut job = CalledBack::new(fixture, "before pause").create(&fixture.store).await.unwrap();
        let refused = job.pause().await.unwrap_err();
        assert!(matches!(&refused, Error::Vetoed { transition: Transition::Pause, .. }), "{refused}");
        assert_eq!(refused.to_string(), format!("job {} may not pause: as it was told", job.id()));
        job.reload().await.unwrap();
        assert_eq!((job.state(), job.changed.len()), (State::Queued, 0));
        job.fail("by hand").await.unwrap();
        job.retry().await.unwrap();
        job.abort().await.unwrap();
        job.reload().await.unwrap();
        assert_eq!(job.changed, ["before fail", "before retry", "before abort"]);
        let mut expected = vec!["concern before pause".to_owned(), "before pause".into()];
        for (transition, state) in [("fail", "failed"), ("retry", "queued"), ("abort", "aborted")] {
            expected.push(format!("concern before {transition}"));
            expected.push(format!("before {transition}"));
            expected.push(format!("concern after {transition}"));
            expected.push(format!("after {transition}: {state}"));
        }
        assert_eq!(happened(&job.word), expected);
    }
}

/// Without a store the callbacks around `perform` run as well.
#[tokio::test]
async fn callbacks_run_in_place() {
    let word = "in place".to_owned();
    let job = CalledBack {
        word: word.clone(),
        at: "nowhere".into(),
        changed: Vec::new(),
    };
    let job = job.perform_now().await.unwrap();
    assert!(
        job.changed.contains(&"before perform".into())
            && job.changed.contains(&"after perform".into())
    );
}
