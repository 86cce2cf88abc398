//! The command line through the real programs: `rocketjob`, which knows no kinds itself, and the
//! example `command_line`, which has some compiled in.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails"
)]

mod enqueue;
mod insight;
mod jobs;
mod list;
mod many;
mod program;
mod servers;
mod start;
#[path = "../suite/stores.rs"]
#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the suite's own module, of which this needs a part"
)]
mod stores;
mod terminal;
mod usage;
