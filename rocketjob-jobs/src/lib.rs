//! Jobs that come with Rocket Job, for a program to perform if it likes.
//!
//! None of them is performed by itself: a server is told with `register::<HousekeepingJob>()`.

mod housekeeping;

pub use housekeeping::HousekeepingJob;
