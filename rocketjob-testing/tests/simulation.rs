//! Many seeds of the simulation, and the planted defects, which must be found.
//!
//! `.ci/run` has 5,000 further seeds of an optimized build.

use std::sync::atomic::{AtomicU64, Ordering};

use rocketjob_testing::simulation::{Planted, Simulation};

/// How many seeds are run here.
const SEEDS: u64 = 100;
/// Within how many seeds each planted defect must be found.
const ENOUGH: u64 = 5000;

#[test]
fn nothing_is_broken_in_any_course_of_events() {
    let next = AtomicU64::new(1_000_000);
    let steps = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= 1_000_000 + SEEDS {
                        break;
                    }
                    match Simulation::new(seed).run() {
                        Ok(course) => steps.fetch_add(course.steps, Ordering::Relaxed),
                        Err(broken) => panic!("{broken}"),
                    };
                }
            });
        }
    });
    let steps = steps.into_inner();
    assert!(steps > SEEDS * 300, "only {steps} steps were simulated");
}

#[test]
fn a_seed_takes_the_same_course_each_time() {
    for seed in 0..20 {
        let first = Simulation::new(seed).run();
        assert_eq!(first, Simulation::new(seed).run(), "seed {seed}");
    }
    let hash = |seed| Simulation::new(seed).run().map(|course| course.hash);
    assert_ne!(hash(0), hash(1));
}

fn is_found(planted: Planted, said: &str) {
    let found = (0..ENOUGH).find_map(|seed| {
        let planted = Some(planted);
        Simulation { seed, planted }.run().err()
    });
    let Some(found) = found else {
        panic!("{planted:?} was not found within {ENOUGH} seeds");
    };
    let what = &found.what;
    assert!(what.contains(said), "{what}");
    let again = found.simulation.run();
    assert_eq!(
        again,
        Err(found.clone()),
        "the seed replays to the same failure"
    );
    let sound = Simulation::new(found.simulation.seed).run();
    assert!(
        sound.is_ok(),
        "without the defect the seed is sound: {sound:?}"
    );
}

#[test]
fn an_unfenced_settle_is_found() {
    is_found(Planted::UnfencedSettle, "a write under");
}

#[test]
fn a_sweep_that_trusts_the_wall_clock_is_found() {
    is_found(Planted::WallClock, "was declared dead");
}

#[test]
fn a_successor_created_before_the_settle_is_found() {
    is_found(Planted::SuccessorBeforeSettle, "the chain forks");
}

#[test]
fn a_claim_returned_twice_is_found() {
    is_found(Planted::ClaimTwice, "while it is claimed under");
}

#[test]
fn a_lost_reply_taken_as_failure_is_found() {
    is_found(Planted::LostReplyIsFailure, "not ended within");
}
