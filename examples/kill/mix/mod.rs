//! The mix: kinds with all concerns in one round, and what must hold of each of them.
//!
//! A folder with its own `mod.rs`, since `tests/kill.rs` reads the same files by their path.

pub(crate) mod chain;
pub(crate) mod check;
pub(crate) mod claim;
pub(crate) mod kinds;
pub(crate) mod limit;
pub(crate) mod note;
pub(crate) mod plan;
pub(crate) mod told;
pub(crate) mod unique;
