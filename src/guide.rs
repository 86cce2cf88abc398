//! The guide: a page for each concern.

#[doc = include_str!("../docs/concerns/retry.md")]
pub mod retry {}

#[doc = include_str!("../docs/concerns/unique.md")]
pub mod unique {}

#[cfg(feature = "jobs")]
#[doc = include_str!("../docs/concerns/housekeeping.md")]
pub mod housekeeping {}
