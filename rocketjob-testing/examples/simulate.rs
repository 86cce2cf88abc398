//! Runs the simulation for as long as wanted, or one seed of it.
//!
//! ```text
//! cargo run --release -p rocketjob-testing --features simulation --example simulate -- --minutes 20
//! ```

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

use std::{
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use rocketjob_testing::simulation::{Broken, Planted, Simulation};

#[derive(Parser)]
#[command(about = "Simulates many servers, and what may befall them")]
struct Arguments {
    /// Run this seed alone.
    #[arg(long, conflicts_with_all = ["seeds", "minutes"])]
    seed: Option<u64>,
    /// How many seeds to run.
    #[arg(long, default_value_t = 5000)]
    seeds: u64,
    /// Run for this long instead.
    #[arg(long)]
    minutes: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Plant a defect, which is to be found.
    #[arg(long)]
    planted: Option<Bug>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Bug {
    UnfencedSettle,
    WallClock,
    SuccessorBeforeSettle,
    ClaimTwice,
    LostReplyIsFailure,
}

impl From<Bug> for Planted {
    fn from(bug: Bug) -> Self {
        match bug {
            Bug::UnfencedSettle => Self::UnfencedSettle,
            Bug::WallClock => Self::WallClock,
            Bug::SuccessorBeforeSettle => Self::SuccessorBeforeSettle,
            Bug::ClaimTwice => Self::ClaimTwice,
            Bug::LostReplyIsFailure => Self::LostReplyIsFailure,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let planted = arguments.planted.map(Planted::from);
    if let Some(seed) = arguments.seed {
        return match (Simulation { seed, planted }).run() {
            Ok(course) => {
                println!(
                    "seed {seed}: sound; {} steps in {:.1} s of virtual time, course {:016x}",
                    course.steps,
                    course.lasted.as_secs_f64(),
                    course.hash
                );
                ExitCode::SUCCESS
            }
            Err(broken) => {
                eprintln!("{broken}\ncourse {:016x}", broken.hash);
                ExitCode::FAILURE
            }
        };
    }
    run_many(&arguments, planted)
}

fn run_many(arguments: &Arguments, planted: Option<Planted>) -> ExitCode {
    let began = Instant::now();
    let end = arguments
        .minutes
        .map(|minutes| began + Duration::from_mins(minutes));
    let next = AtomicU64::new(arguments.from);
    let (steps, virtual_seconds) = (AtomicU64::new(0), AtomicU64::new(0));
    let found = AtomicBool::new(false);
    let first: Mutex<Option<Box<Broken>>> = Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let over = match end {
                        Some(end) => Instant::now() >= end,
                        None => seed >= arguments.from + arguments.seeds,
                    };
                    if over || found.load(Ordering::Relaxed) {
                        break;
                    }
                    match (Simulation { seed, planted }).run() {
                        Ok(course) => {
                            steps.fetch_add(course.steps, Ordering::Relaxed);
                            virtual_seconds.fetch_add(course.lasted.as_secs(), Ordering::Relaxed);
                        }
                        Err(broken) => {
                            found.store(true, Ordering::Relaxed);
                            if let Ok(mut first) = first.lock() {
                                first.get_or_insert(broken);
                            }
                        }
                    }
                }
            });
        }
    });
    if let Some(broken) = first.into_inner().ok().flatten() {
        eprintln!("{broken}");
        return ExitCode::FAILURE;
    }
    println!(
        "{} seeds from {}: sound; {} steps, {} min of virtual time, {:.0} s",
        next.into_inner() - arguments.from - threads as u64,
        arguments.from,
        steps.into_inner(),
        virtual_seconds.into_inner() / 60,
        began.elapsed().as_secs_f64()
    );
    ExitCode::SUCCESS
}
