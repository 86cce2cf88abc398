//! Many servers on one store, on a virtual clock, in one deterministic run for each seed.
//!
//! The servers are the real ones, with all their loops; their processes, the network and the clock
//! are simulated, and their workers are tasks instead of threads. Processes are killed, stopped and
//! continued between any two steps; requests and replies are lost or come late; clocks jump;
//! operators interfere. After each step of the store the invariants are checked, and at the end
//! whether everything has come to the end that it should.
//!
//! The same seed always takes the same course, so that a failure can be looked at again:
//! `cargo run --release -p rocketjob-testing --features simulation --example simulate -- --seed …`.

mod clock;
mod ear;
mod fleet;
mod jobs;
mod network;
mod world;

use std::{fmt, time::Duration};

use rocketjob_core::Result;
use tokio::{runtime::Builder, task::LocalSet};

pub use rocketjob_worker::simulation::Planted;

use self::world::World;

/// One run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Simulation {
    /// Decides everything that happens.
    pub seed: u64,
    /// A defect that is to be found.
    pub planted: Option<Planted>,
}

/// The course that a sound run took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Course {
    /// How many steps there were.
    pub steps: u64,
    /// Tells one course of events from another.
    pub hash: u64,
    /// How long it took, in virtual time.
    pub lasted: Duration,
}

/// What went wrong in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The run.
    pub simulation: Simulation,
    /// Which invariant is broken, and how.
    pub what: String,
    /// Tells one course of events from another.
    pub hash: u64,
    /// The last steps before.
    pub last_steps: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}: {}\nthe last steps:\n{}",
            self.simulation.seed, self.what, self.last_steps
        )
    }
}

impl Simulation {
    /// The run of `seed` with the code as it is.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            planted: None,
        }
    }

    /// Runs it, on this thread.
    ///
    /// # Errors
    /// The first invariant that was broken.
    ///
    /// # Panics
    /// When no runtime can be started.
    pub fn run(self) -> Result<Course, Box<Broken>> {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime can be started");
        let world = runtime.block_on(async { World::new(self.seed, self.planted) });
        jobs::start_links();
        let ended = LocalSet::new().block_on(&runtime, fleet::run(&world, self.seed));
        if let Err(error) = ended {
            world.broken(error.chain());
        }
        let (steps, hash) = world.course();
        let lasted = runtime.block_on(async { world.elapsed() });
        match world.violation() {
            None => Ok(Course {
                steps,
                hash,
                lasted,
            }),
            Some(what) => Err(Box::new(Broken {
                simulation: self,
                what,
                hash,
                last_steps: world.last_steps(),
            })),
        }
    }
}
