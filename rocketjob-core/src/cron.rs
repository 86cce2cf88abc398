//! Schedules, and jobs that are performed by one.

mod calendar;
mod format;
mod schedule;

pub use schedule::{Schedule, ScheduleError};

#[cfg(test)]
mod tests;
