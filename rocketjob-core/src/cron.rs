//! Schedules, and jobs that are performed by one.

mod calendar;
mod concern;
mod format;
mod schedule;

pub use concern::{Cron, CronState, Misfire};
pub use schedule::{Schedule, ScheduleError};

#[cfg(test)]
mod tests;
