//! For who writes a store, and for tests of Rocket Job.
//!
//! - [`conformance!`] runs the conformance suite on a store: every promise of the storage traits
//!   as a test of its own, random sequences of operations compared with a model among them. All it
//!   needs is a [`Harness`].
//! - [`Faulty`] fails scripted calls of any store, before or after the store has acted.
//! - [`job`], [`Claimer`] and [`FieldLimits`] put jobs into a store and claim them.
//! - `simulation` (feature) runs whole servers on a virtual clock, and checks every step.
//! - [`Gate`] holds a job up until a test says so, [`eventually`] waits for what must come true.
//!
//! The stores of this workspace hold their promises by the same suite.

#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests panic: that is how they fail"
)]

mod claimer;
pub mod conformance;
mod eventually;
mod factory;
mod faulty;
mod gate;
mod harness;
#[cfg(feature = "mongod")]
pub mod mongod;
pub mod operator;
mod promises;
#[cfg(feature = "simulation")]
pub mod simulation;

pub use claimer::{Claimer, FieldLimits, Wanted, claim_of, ids};
pub use eventually::eventually;
pub use factory::{JobBuilder, insert_all, job};
pub use faulty::{Call, Fault, Faulty};
pub use gate::Gate;
pub use harness::{Harness, Loss, run};
