//! What is done to the processes of a run, chosen by a seed.

use std::{cell::Cell, time::Duration};

use fastrand::Rng;
use rocketjob_testing::mongod::Mongod;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{Anything, fleet::Fleet, serve::LEASE};

/// Between two faults of servers.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);
/// The same in the mix, whose jobs wait for each other: servers must live long enough to work.
pub(crate) const MIX_INTERVAL: Duration = Duration::from_secs(2);
/// Between two deaths of the store, after those of the first round.
const STORE_INTERVAL: Duration = Duration::from_mins(3);
/// The parts of the first round's jobs that are done when the store is killed.
const STORE_KILLS: [f64; 2] = [0.25, 0.6];
/// A paused server is so much longer silent than its lease, at least and at most.
const BEYOND: (f64, f64) = (1.25, 2.5);

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Fault {
    /// A server process is killed, and started again at once.
    Kill,
    /// A server process is stopped for longer than its lease, and goes on then.
    Pause,
    /// The process that keeps the jobs is killed, and started again on its data.
    Store,
}

/// How many faults there were.
#[derive(Debug, Default)]
pub(crate) struct Count {
    pub(crate) kills: Cell<usize>,
    pub(crate) pauses: Cell<usize>,
    pub(crate) store_kills: Cell<usize>,
}

fn add_one(count: &Cell<usize>) {
    count.set(count.get() + 1);
}

/// Does harm to servers until `calm`, then wakes those that are paused. Returns what must not be.
pub(crate) async fn torment(
    fleet: &mut Fleet,
    (kinds, interval): (&[Fault], Duration),
    random: &mut Rng,
    count: &Count,
    mut calm: watch::Receiver<bool>,
) -> Anything<Vec<String>> {
    let mut violations = Vec::new();
    let most_awake = fleet.awake().len();
    let mut next = Instant::now() + interval;
    while !*calm.borrow() {
        let at = fleet.next_wake().map_or(next, |wake| wake.min(next));
        tokio::select! {
            () = sleep_until(at) => {}
            _ = calm.wait_for(|calm| *calm) => break,
        }
        fleet.wake(Instant::now())?;
        if Instant::now() < next {
            continue;
        }
        next += interval;
        violations.extend(fleet.replace_ended()?);
        // Who is paused is to come back by itself.
        let awake = fleet.awake();
        let Some(victim) = random.choice(awake.iter().copied()) else {
            continue;
        };
        // Somebody must be there to notice, where it can be two, who get in each other's way.
        let may_pause = kinds.contains(&Fault::Pause) && awake.len() > 2.min(most_awake - 1);
        let may_kill = kinds.contains(&Fault::Kill);
        if may_pause && (!may_kill || random.bool()) {
            let (least, most) = BEYOND;
            let length = LEASE.mul_f64(least + (most - least) * random.f64());
            fleet.pause(victim, length)?;
            add_one(&count.pauses);
        } else if may_kill {
            fleet.kill(victim).await?;
            add_one(&count.kills);
        }
    }
    while let Some(wake) = fleet.next_wake() {
        sleep_until(wake).await;
        fleet.wake(Instant::now())?;
    }
    violations.extend(fleet.replace_ended()?);
    Ok(violations)
}

/// When the store is to be killed.
#[derive(Debug)]
pub(crate) struct StoreKills {
    /// Of the first round.
    left: Vec<f64>,
    last: Instant,
}

impl StoreKills {
    pub(crate) fn new() -> Self {
        Self {
            left: STORE_KILLS.to_vec(),
            last: Instant::now(),
        }
    }

    fn are_due(&mut self, done: f64) -> bool {
        let due = match self.left.first() {
            Some(part) => done >= *part,
            None => self.last.elapsed() >= STORE_INTERVAL,
        };
        if due {
            self.last = Instant::now();
            self.left.drain(..self.left.len().min(1));
        }
        due
    }
}

/// Kills `mongod` when its time has come, and starts it again, until `calm`. `done` tells which part
/// of the round is done.
pub(crate) async fn torment_store(
    mongod: &mut Mongod,
    kills: &mut StoreKills,
    count: &Count,
    done: &Cell<f64>,
    calm: watch::Receiver<bool>,
) {
    while !*calm.borrow() {
        if kills.are_due(done.get()) {
            mongod.kill();
            add_one(&count.store_kills);
            mongod.restart().await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
