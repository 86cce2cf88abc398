//! Schedules, and jobs that are performed by one.

mod calendar;
mod concern;
mod format;
mod schedule;
mod span;
mod state;

pub use concern::{Cron, Misfire};
pub use schedule::{Schedule, ScheduleError};
pub use state::CronState;

#[cfg(test)]
mod tests;
