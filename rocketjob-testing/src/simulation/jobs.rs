//! The jobs of the simulation: each kind goes after some promise.

use std::{cell::Cell, time::Duration};

use bson::{Bson, oid::ObjectId};
use jiff::Timestamp;
use rocketjob_core::{
    Concern, Cron, Definition, FailJob, FieldDefinition, FieldType, Job, JobContext, JobDocument,
    JobResult, Limit, LostClaim, Misfire, NoState, Outcome, Perform, Registry, Result, ScalarType,
    Settlement, Singleton, State, name,
};
use serde::{Deserialize, Serialize};

use super::world::Local;

/// No kind but [`Poison`] and those of a seed without other deaths may run out of lost claims: here
/// servers die all the time, and not for a job's fault.
const OFTEN: u32 = u32::MAX;

macro_rules! kind {
    ($type:ident, $definition:expr) => {
        impl Job for $type {
            const DEFINITION: &'static Definition = &$definition;
        }
    };
}

/// Takes a while, fails a few times before, and is kept.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Plain {
    pub(super) fails: u64,
    pub(super) millis: u64,
    /// How often it was completed, as far as the store has accepted it.
    #[serde(default)]
    pub(super) done: u64,
}

kind!(
    Plain,
    Definition {
        keep_completed: true,
        max_lost_claims: OFTEN,
        ..Definition::new("Plain", "Plain")
    }
);

impl Perform for Plain {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        let local = begin(job)?;
        work(job, self.millis).await?;
        if job.attempt() <= self.fails {
            return Err("not yet").retry_after(local.pause());
        }
        self.done += 1;
        Ok(())
    }
}

/// As [`Plain`], but no server may die with it more than twice: where servers die only of poison,
/// no innocent job is failed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Innocent {
    pub(super) millis: u64,
}

kind!(
    Innocent,
    Definition {
        keep_completed: true,
        ..Definition::new("Innocent", "Innocent")
    }
);

impl Perform for Innocent {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        begin(job)?;
        work(job, self.millis).await
    }
}

/// Goes when it completes, and takes nothing with it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Vanishing {
    pub(super) millis: u64,
}

kind!(
    Vanishing,
    Definition {
        max_lost_claims: OFTEN,
        ..Definition::new("Vanishing", "Vanishing")
    }
);

impl Perform for Vanishing {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        begin(job)?;
        work(job, self.millis).await
    }
}

/// Runs long, and stops when it is told to, or does not.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Long {
    pub(super) seconds: u64,
    pub(super) stubborn: bool,
}

kind!(
    Long,
    Definition {
        keep_completed: true,
        max_lost_claims: OFTEN,
        ..Definition::new("Long", "Long")
    }
);

impl Perform for Long {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        begin(job)?;
        for second in 0..self.seconds {
            tokio::time::sleep(Duration::from_secs(1)).await;
            job.progress(u8::try_from(second).unwrap_or(99));
            if !self.stubborn {
                job.check()?;
            }
        }
        Ok(())
    }
}

/// Kills its server.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Poison {}

kind!(Poison, Definition::new("Poison", "Poison"));

impl Perform for Poison {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        let local = begin(job)?;
        work(job, local.world.number(0..30)).await?;
        local.die();
        std::future::pending().await
    }
}

/// Is never performed twice without someone's consent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Once {
    pub(super) millis: u64,
}

kind!(
    Once,
    Definition {
        keep_completed: true,
        on_lost_claim: LostClaim::Fail,
        ..Definition::new("Once", "Once")
    }
);

impl Perform for Once {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        begin(job)?;
        work(job, self.millis).await
    }
}

/// One at a time.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Single {
    pub(super) millis: u64,
}

kind!(
    Single,
    Definition {
        keep_completed: true,
        max_lost_claims: OFTEN,
        concerns: &[&Singleton],
        ..Definition::new("Single", "Single")
    }
);

impl Perform for Single {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        begin(job)?;
        work(job, self.millis).await
    }
}

/// How many [`Limited`] jobs may run.
pub(super) const LIMIT: u32 = 2;

/// A few at a time.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Limited {
    pub(super) millis: u64,
}

#[derive(Debug)]
struct FewAtATime;

impl Concern for FewAtATime {
    type State = NoState;

    fn name(&self) -> &'static str {
        "few_at_a_time"
    }

    fn limits(&self, job: &JobDocument, _state: &NoState, _now: Timestamp) -> Vec<Limit> {
        vec![Limit::running(format!("few:{}", job.kind()), LIMIT)]
    }
}

kind!(
    Limited,
    Definition {
        keep_completed: true,
        max_lost_claims: OFTEN,
        concerns: &[&FewAtATime],
        ..Definition::new("Limited", "Limited")
    }
);

impl Perform for Limited {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        begin(job)?;
        work(job, self.millis).await
    }
}

/// One link after the other.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Chain {
    pub(super) index: i64,
    pub(super) last: i64,
}

/// The stored name of a link's number.
pub(super) const INDEX: &str = "index";

#[derive(Debug)]
struct NextLink;

thread_local! {
    static LINKS: Cell<u32> = const { Cell::new(0) };
}

/// Starts the ids of links anew, so that each run mints the same.
pub(super) fn start_links() {
    LINKS.set(0);
}

fn next_link() -> ObjectId {
    let number = LINKS.get() + 1;
    LINKS.set(number);
    let [_, high, middle, low] = number.to_be_bytes();
    ObjectId::from_parts(1_767_225_600, *b"links", [high, middle, low])
}

impl Concern for NextLink {
    type State = NoState;

    fn name(&self) -> &'static str {
        "next_link"
    }

    fn settle(&self, settlement: &mut Settlement<'_>, _state: &mut NoState) {
        let job = settlement.job();
        let number = |field| job.get(field).and_then(rocketjob_core::whole_number);
        let (Some(index), Some(last)) = (number(INDEX), number("last")) else {
            return;
        };
        if *settlement.outcome() != Outcome::Complete || index >= last {
            return;
        }
        let mut document = job.as_document().clone();
        for field in [
            name::CLAIM,
            name::BEGUN_CLAIM,
            name::WORKER_NAME,
            name::STARTED_AT,
            name::LOST_CLAIMS,
        ] {
            document.remove(field);
        }
        document.insert(name::ID, next_link());
        document.insert(name::STATE, State::Queued.as_str());
        document.insert(name::READY, true);
        document.insert(INDEX, index + 1);
        if let Ok(next) = JobDocument::new(document) {
            settlement.add_successor(next);
        }
    }
}

kind!(
    Chain,
    Definition {
        keep_completed: true,
        max_lost_claims: OFTEN,
        concerns: &[&NextLink],
        ..Definition::new("Chain", "Chain")
    }
);

impl Perform for Chain {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        begin(job)?;
        work(job, 5).await
    }
}

/// The schedule of [`Clocked`], and how far its times lie apart.
const SCHEDULE: &str = "*/5 * * * * *";
pub(super) const CLOCKED_SECONDS: i64 = 5;
/// Of so many times that were missed in one go each has its instance: of all, since clocks jump by two
/// hours at most.
const MISSED: u32 = 10_000;

/// The stored name of an instance's schedule.
pub(super) const CRON_SCHEDULE: &str = "cron_schedule";

/// An instance for each time of a schedule, until that is taken away.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Clocked {
    pub(super) millis: u64,
}

kind!(
    Clocked,
    Definition {
        keep_completed: true,
        max_lost_claims: OFTEN,
        fields: &[FieldDefinition {
            name: "millis",
            field_type: FieldType::One(ScalarType::Integer),
            via_text: false,
            optional: false,
            label: None,
            description: None,
            user_editable: false,
            copy_on_restart: true,
            default: None,
        }],
        concerns: &[&Cron {
            schedule: Some(SCHEDULE),
            misfire: Misfire::RunAll(MISSED),
            ..Cron::ad_hoc()
        }],
        ..Definition::new("Clocked", "Clocked")
    }
);

impl Perform for Clocked {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        begin(job)?;
        work(job, self.millis).await
    }
}

/// The time of the schedule that a stored instance is for, in seconds.
pub(super) fn slot(job: &JobDocument) -> Option<i64> {
    match job.get("cron_slot") {
        Some(Bson::DateTime(slot)) => Some(slot.timestamp_millis() / 1000),
        _ => None,
    }
}

/// All kinds.
pub(super) fn registry() -> Result<Registry> {
    let mut registry = Registry::new();
    registry.register::<Plain>()?;
    registry.register::<Innocent>()?;
    registry.register::<Vanishing>()?;
    registry.register::<Long>()?;
    registry.register::<Poison>()?;
    registry.register::<Once>()?;
    registry.register::<Single>()?;
    registry.register::<Limited>()?;
    registry.register::<Chain>()?;
    registry.register::<Clocked>()?;
    Ok(registry)
}

fn begin(job: &JobContext) -> JobResult<std::sync::Arc<Local>> {
    let local = job.shared::<Local>()?;
    local.begins(job.document());
    Ok(local)
}

async fn work(job: &JobContext, millis: u64) -> JobResult {
    if millis > 0 {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
    job.check()
}
