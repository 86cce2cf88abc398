//! One page for each concern: what it is for, what it guarantees, and an example that runs. Two more
//! say what concerns do together, and where they differ from those of Rocket Job for Ruby.

#[doc = include_str!("../docs/concerns/callbacks.md")]
pub mod callbacks {}
#[doc = include_str!("../docs/concerns/depends_on.md")]
pub mod depends_on {}
#[doc = include_str!("../docs/concerns/processing_window.md")]
pub mod processing_window {}
#[doc = include_str!("../docs/concerns/rate_limit.md")]
pub mod rate_limit {}
#[doc = include_str!("../docs/concerns/throttle.md")]
pub mod throttle {}

#[doc = include_str!("../docs/concerns/cron.md")]
pub mod cron {}

#[doc = include_str!("../docs/concerns/restart.md")]
pub mod restart {}

#[doc = include_str!("../docs/concerns/retry.md")]
pub mod retry {}

#[doc = include_str!("../docs/concerns/unique.md")]
pub mod unique {}

#[cfg(feature = "jobs")]
#[doc = include_str!("../docs/concerns/housekeeping.md")]
pub mod housekeeping {}

#[cfg(feature = "worker")]
#[doc = include_str!("../docs/concerns/versions.md")]
pub mod versions {}

#[doc = include_str!("../docs/concerns/together.md")]
pub mod together {}

#[doc = include_str!("../docs/concerns/quirks.md")]
pub mod quirks {}
