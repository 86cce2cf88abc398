//! The bell: how a store tells those who wait that there is something to do.

use std::pin::pin;

use bson::Document;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{change::Patch, document::JobDocument, name, state::State};

/// How often the bell of a store has rung so far, for each reason: what a waiter knows of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bells {
    /// For work that may be claimed.
    pub ready: u64,
    /// For queued jobs that cannot be claimed as they are: scheduled ones, and those that the
    /// original wrote.
    pub waiting: u64,
}

/// What a write has to tell those who wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct News {
    /// Work may be claimed.
    pub ready: bool,
    /// A queued job is to be made ready: at its time, or because it carries no mark.
    pub waiting: bool,
}

impl News {
    /// There is work that may be claimed.
    pub const READY: Self = Self {
        ready: true,
        waiting: false,
    };

    /// What a document tells that was inserted as it is.
    pub fn of_document(document: &Document) -> Self {
        let state = document
            .get_str(name::STATE)
            .ok()
            .and_then(State::from_name);
        let queued = state == Some(State::Queued);
        let active = queued || state == Some(State::Running);
        let ready = active && document.get_bool(name::READY).unwrap_or(false);
        let hold = document.get_str(name::HOLD).ok();
        Self {
            ready,
            waiting: queued && !ready && hold.is_none_or(|hold| hold == name::HOLD_SCHEDULED),
        }
    }

    /// What jobs tell that are inserted.
    pub fn of_jobs(jobs: &[JobDocument]) -> Self {
        let news = jobs.iter().map(|job| Self::of_document(job.as_document()));
        news.fold(Self::default(), Self::and)
    }

    /// What a change tells, if it is made.
    pub fn of_patch(patch: &Patch) -> Self {
        let set = &patch.change.set;
        let ready = set.get_bool(name::READY).unwrap_or(false);
        let scheduled = set.get_str(name::HOLD).ok() == Some(name::HOLD_SCHEDULED);
        Self {
            ready,
            waiting: scheduled || (!ready && set.contains_key(name::RUN_AT)),
        }
    }

    /// What changes tell, if they are made.
    pub fn of_patches(patches: &[Patch]) -> Self {
        let news = patches.iter().map(Self::of_patch);
        news.fold(Self::default(), Self::and)
    }

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            ready: self.ready || other.ready,
            waiting: self.waiting || other.waiting,
        }
    }

    /// Whether there is anything to tell.
    pub fn is_any(self) -> bool {
        self.ready || self.waiting
    }
}

/// The bell of a store within one process; for those who write one.
///
/// Everyone who waits is told, and who came too late finds it in the count.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Mutex<Bells>,
    // In the order in which they wait, so that a simulation takes the same course each time.
    waiting: Notify,
}

impl Bell {
    /// One that has not rung.
    pub fn new() -> Self {
        Self::default()
    }

    /// Rings for what there is to tell.
    pub fn ring(&self, news: News) {
        if news.is_any() {
            {
                let mut rung = self.rung.lock();
                rung.ready += u64::from(news.ready);
                rung.waiting += u64::from(news.waiting);
            }
            self.waiting.notify_waiters();
        }
    }

    /// How often it has rung so far.
    pub fn rung(&self) -> Bells {
        *self.rung.lock()
    }

    /// Returns when it has rung otherwise than `known`, with how often by then.
    pub async fn wait(&self, known: Bells) -> Bells {
        self.wait_until(|rung| rung != known).await
    }

    /// As [`wait`](Self::wait), for those to whom only [`Bells::ready`] says anything: whoever waits
    /// for events.
    pub async fn wait_for_ready(&self, known: u64) -> u64 {
        self.wait_until(|rung| rung.ready != known).await.ready
    }

    async fn wait_until(&self, is_news: impl Fn(Bells) -> bool) -> Bells {
        loop {
            let mut told = pin!(self.waiting.notified());
            // From now on it is told, so that nothing is missed between the look and the wait.
            told.as_mut().enable();
            let rung = self.rung();
            if is_news(rung) {
                return rung;
            }
            told.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn each_document_tells_what_is_to_be_done_with_it() {
        let of = |document| News::of_document(&document);
        let waiting = News {
            ready: false,
            waiting: true,
        };
        assert_eq!(of(doc! { "state": "queued", "ready": true }), News::READY);
        assert_eq!(of(doc! { "state": "queued", "hold": "scheduled" }), waiting);
        assert_eq!(of(doc! { "state": "queued" }), waiting);
        let held = doc! { "state": "queued", "hold": "limit:a" };
        assert_eq!(of(held), News::default());
        assert_eq!(of(doc! { "state": "running" }), News::default());
        let aborted = doc! { "state": "aborted", "ready": true };
        assert_eq!(of(aborted), News::default());
    }

    #[test]
    fn a_bell_between_the_look_and_the_wait_is_heard_by_all() {
        let bell = Bell::new();
        let known = bell.rung();
        bell.ring(News::READY);
        for _ in 0..2 {
            let heard = pollster::block_on(bell.wait(known));
            assert_eq!(heard.ready, known.ready + 1);
        }
        bell.ring(News::default());
        assert_eq!(bell.rung().ready, known.ready + 1, "nothing was to be told");
    }

    #[test]
    fn who_waits_for_one_reason_is_told_of_no_other() {
        let bell = Bell::new();
        let waiting = News {
            ready: false,
            waiting: true,
        };
        bell.ring(waiting);
        assert_eq!(bell.wait_for_ready(0).now_or_never(), None);
        bell.ring(waiting.and(News::READY));
        assert_eq!(bell.wait_for_ready(0).now_or_never(), Some(1));
        assert_eq!(bell.wait_for_ready(1).now_or_never(), None);
    }
}
