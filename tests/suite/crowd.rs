//! Counts who is at work at the same time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use parking_lot::Mutex;

/// How many are inside, by key, and how many were at most. Cloning it gives another handle.
#[derive(Clone, Default)]
pub(crate) struct Crowd(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    inside: BTreeMap<String, usize>,
    most: BTreeMap<String, usize>,
    total: usize,
    begun: Vec<Timestamp>,
    may_leave: bool,
}

impl Crowd {
    /// Somebody comes, at this time.
    pub(crate) fn enter(&self, key: &str, now: Timestamp) {
        let mut state = self.0.lock();
        let inside = state.inside.entry(key.to_owned()).or_default();
        *inside += 1;
        let inside = *inside;
        let most = state.most.entry(key.to_owned()).or_default();
        *most = inside.max(*most);
        state.total += 1;
        state.begun.push(now);
    }

    /// Somebody goes.
    pub(crate) fn leave(&self, key: &str) {
        if let Some(inside) = self.0.lock().inside.get_mut(key) {
            *inside -= 1;
        }
    }

    /// Waits until all may go.
    pub(crate) async fn stay(&self) {
        while !self.0.lock().may_leave {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Lets all go, also those who come later.
    pub(crate) fn open(&self) {
        self.0.lock().may_leave = true;
    }

    pub(crate) fn inside(&self, key: &str) -> usize {
        self.0.lock().inside.get(key).copied().unwrap_or(0)
    }

    pub(crate) fn most(&self, key: &str) -> usize {
        self.0.lock().most.get(key).copied().unwrap_or(0)
    }

    pub(crate) fn total(&self) -> usize {
        self.0.lock().total
    }

    /// The largest number of beginnings in a window of this length, wherever it lies.
    pub(crate) fn most_begun_within(&self, window: Duration) -> usize {
        let mut begun = self.0.lock().begun.clone();
        begun.sort_unstable();
        let in_window = |first: &Timestamp| {
            let end = rocketjob::later(*first, window);
            let behind = begun.iter().filter(|time| *time >= first);
            behind.filter(|time| **time < end).count()
        };
        begun.iter().map(in_window).max().unwrap_or(0)
    }
}
