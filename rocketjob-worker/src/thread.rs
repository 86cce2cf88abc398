//! What the system tells of a thread.

use crate::dump::ThreadDump;

/// A thread of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Thread(i32);

impl Thread {
    /// The one that calls, where the system has ids for them.
    #[cfg(target_os = "linux")]
    #[expect(clippy::unnecessary_wraps, reason = "elsewhere there is none")]
    pub(crate) fn current() -> Option<Self> {
        Some(Self(rustix::thread::gettid().as_raw_nonzero().get()))
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn current() -> Option<Self> {
        None
    }

    /// How it is; `None` when it has ended, or the system does not tell.
    pub(crate) fn look(self) -> Option<ThreadDump> {
        let read =
            |what: &str| std::fs::read_to_string(format!("/proc/self/task/{}/{what}", self.0)).ok();
        // The name before it may have any sign in it, also spaces and brackets.
        let stat = read("stat")?;
        let (_, rest) = stat.rsplit_once(')')?;
        let waits_in = read("wchan").filter(|place| !place.is_empty() && place != "0");
        Some(ThreadDump {
            id: self.0,
            state: rest.trim_start().chars().next()?,
            waits_in,
        })
    }
}
