//! A schedule through whatever happens: a clock that jumps, calls that fail, servers that die between
//! any two steps. The steps of a server are made by hand, so that each can be the last one.

use std::{sync::Arc, time::Duration};

use bson::oid::ObjectId;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use rocketjob::{
    ClaimRequest, ClaimToken, Cron, IdSource, JobDocument, ManualClock, NoLimits, Registry,
    Schedule, Settled, create_successors, later, name, prelude::*, recover, recover_successors,
    timestamp,
};
use rocketjob_testing::{Call, Fault, Faulty};
use serde::{Deserialize, Serialize};

const EVERY_TEN_MINUTES: &str = "*/10 * * * * Europe/Berlin";

type Performed = Mutex<Vec<(ObjectId, Timestamp)>>;

macro_rules! kinds {
    ($($kind:ident $after_start:literal;)+) => {
        $(
            /// Fails now and then.
            #[derive(RocketJob, Serialize, Deserialize, Debug, Default)]
            #[rocketjob(keep_completed, max_lost_claims = 1000)]
            #[cron("*/10 * * * * Europe/Berlin", after_start = $after_start, misfire = run_all(1000000))]
            struct $kind {
                #[field(copy_on_restart)]
                number: u64,
            }

            impl Perform for $kind {
                async fn perform(&mut self, job: &JobContext) -> JobResult {
                    let slot = job.concern::<Cron>()?.cron_slot.ok_or("it has its time")?;
                    job.shared::<Performed>()?.lock().push((job.id(), slot));
                    self.number += 1;
                    if slot.as_second() % 7 == 0 && job.attempt() == 1 {
                        return Err(JobError::from("now and then"));
                    }
                    Ok(())
                }
            }
        )+
    };
}

kinds! {
    ChainAfterStart true;
    ChainAfterEnd false;
}

/// Servers that live as long as they like.
struct World {
    random: fastrand::Rng,
    clock: ManualClock,
    sound: Store,
    faulty: Faulty,
    store: Store,
    registry: Registry,
    shared: rocketjob::Shared,
    sequence: u64,
}

impl World {
    fn new<T: Perform>(seed: u64) -> Self {
        let start: Timestamp = "2026-03-28T22:00:00Z".parse().unwrap();
        let clock = ManualClock::new(start);
        let ids = IdSource::of([7; 5]);
        let sound = Store::new(rocketjob::MemoryStore::with_ids(clock.clone(), ids));
        let faulty = Faulty::new(&sound);
        let mut registry = Registry::new();
        registry.register::<T>().unwrap();
        Self {
            random: fastrand::Rng::with_seed(seed),
            clock,
            store: Store::new(faulty.clone()),
            sound,
            faulty,
            registry,
            shared: rocketjob::Shared::new().with(Performed::default()),
            sequence: 0,
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.u32(0..100) < percent
    }

    /// Some minutes pass, or hours, and the clock may be set back.
    fn pass(&mut self) {
        let minutes = match self.random.u32(0..20) {
            0 => 200,
            1 => -15,
            _ => self.random.i64(0..14),
        };
        let now = self.sound.now() + SignedDuration::from_mins(minutes);
        self.clock.set(now);
    }

    /// What a server does with the next job, as far as it lives.
    async fn serve<T: Perform>(&mut self, perilous: bool) -> Option<()> {
        self.sound.promote(100).await.unwrap();
        self.sequence += 1;
        let token = ClaimToken {
            server: ObjectId::new(),
            sequence: self.sequence,
        };
        let request = ClaimRequest {
            token,
            workers: &["host:1:1".to_owned()],
            count: 1,
            kinds: &[T::DEFINITION.kind.to_owned()],
            filter: None,
            skip: 0,
            may_lag: false,
            at_once: 1,
            limits: &NoLimits,
        };
        let claimed = self.sound.claim(&request).await.unwrap();
        let job = claimed.jobs.into_iter().next()?;
        if perilous && self.chance(10) {
            return Some(());
        }
        if perilous && self.chance(30) {
            let fault = *[Fault::Before, Fault::After].get(self.random.usize(0..2))?;
            let call =
                *[Call::Settle, Call::UpdateAndInsert, Call::Get].get(self.random.usize(0..3))?;
            self.faulty.fail_next(call, fault);
        }
        let claim = job.claim()?;
        let context = JobContext::claimed(
            job,
            T::DEFINITION,
            self.shared.clone(),
            self.store.clone(),
            Arc::new(|| true),
        );
        let handler = self.registry.handler(T::DEFINITION.kind)?.clone();
        let performed = handler.perform(&context).await;
        if perilous && self.chance(10) {
            return Some(());
        }
        let settling = performed.settle(&context, claim, self.sound.now());
        let settled = self.store.settle(vec![settling.patch]).await;
        let accepted = settled.is_ok_and(|settled| settled == [Settled::Accepted]);
        if accepted && !(perilous && self.chance(20)) {
            let _ = create_successors(&*self.store, context.id()).await;
        }
        Some(())
    }

    /// Others end the claims of the dead and create what they left; failed jobs are retried.
    async fn clean_up<T: Perform>(&mut self) {
        recover(&*self.sound, &self.registry).await.unwrap();
        rocketjob::release_suspects(&*self.sound).await.unwrap();
        recover_successors(&*self.sound, 100, Duration::ZERO)
            .await
            .unwrap();
        if self.chance(50) {
            for mut job in T::query(&self.sound)
                .state(State::Failed)
                .list()
                .await
                .unwrap()
            {
                job.retry().await.unwrap();
            }
        }
    }

    async fn instances<T: Job>(&self) -> Vec<JobDocument> {
        T::query(&self.sound)
            .limit(100_000)
            .documents()
            .await
            .unwrap()
    }
}

fn slot(job: &JobDocument) -> Timestamp {
    timestamp(*job.as_document().get_datetime("cron_slot").unwrap()).unwrap()
}

/// One instance for each time, from the first to the one that waits.
fn check_chain(instances: &[JobDocument], seed: u64) {
    let schedule = Schedule::parse(EVERY_TEN_MINUTES).unwrap();
    let mut slots: Vec<_> = instances.iter().map(slot).collect();
    slots.sort();
    for pair in slots.windows(2) {
        assert_eq!(schedule.next_after(pair[0]), Some(pair[1]), "seed {seed}");
    }
    let going_on = instances
        .iter()
        .filter(|job| job.get("cron_schedule").is_some());
    let going_on: Vec<_> = going_on.collect();
    assert_eq!(going_on.len(), 1, "seed {seed}: one chain");
    assert_eq!(Some(&slot(going_on[0])), slots.last(), "seed {seed}");
}

async fn through_perils<T: Perform + Default>() {
    for seed in 0..10 {
        let mut world = World::new::<T>(seed);
        T::default().create(&world.sound).await.unwrap();
        for _ in 0..120 {
            world.pass();
            world.serve::<T>(true).await;
            if world.chance(40) {
                world.clean_up::<T>().await;
            }
        }
        // Whatever is left half done is finished.
        for _ in 0..4 {
            world.clean_up::<T>().await;
            while world.serve::<T>(false).await.is_some() {}
        }
        let instances = world.instances::<T>().await;
        assert!(instances.len() > 20, "seed {seed}: {}", instances.len());
        check_chain(&instances, seed);
        let half_done = instances
            .iter()
            .find(|job| job.get(name::SUCCESSORS).is_some());
        assert!(half_done.is_none(), "seed {seed}: {half_done:?}");
    }
}

#[tokio::test]
async fn a_chain_through_deaths_lost_answers_and_jumps_of_the_clock() {
    through_perils::<ChainAfterStart>().await;
}

#[tokio::test]
async fn a_chain_that_goes_on_at_the_end_through_the_same() {
    through_perils::<ChainAfterEnd>().await;
}

#[tokio::test]
async fn a_thousand_successors_over_the_change_of_the_clock() {
    let mut world = World::new::<ChainAfterStart>(0);
    ChainAfterStart::default()
        .create(&world.sound)
        .await
        .unwrap();
    for _ in 0..1_000 {
        let end = later(world.sound.now(), Duration::from_mins(10));
        world.clock.set(end);
        while world.serve::<ChainAfterStart>(false).await.is_some() {}
    }
    let instances = world.instances::<ChainAfterStart>().await;
    assert_eq!(instances.len(), 1_001);
    check_chain(&instances, 0);
    let performed = world.shared.get::<Performed>().unwrap();
    assert_eq!(performed.lock().len(), 1_000, "each once");
}
