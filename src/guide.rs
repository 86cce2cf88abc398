//! The guide: a page for each concern.

#[doc = include_str!("../docs/concerns/cron.md")]
pub mod cron {}

#[doc = include_str!("../docs/concerns/restart.md")]
pub mod restart {}
