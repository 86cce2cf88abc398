//! What the ledger says of the limits.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::ledger::Entry;

/// How many were at work at the same time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Crowding {
    pub(crate) most: usize,
    /// Over the time from the first beginning to the last.
    pub(crate) mean: f64,
}

/// Counts those at work with one key. Who was killed has been at work until then.
pub(crate) fn crowding(entries: &[Entry], killed: &BTreeMap<u32, i64>) -> Crowding {
    let mut inside: BTreeSet<(&str, u32)> = BTreeSet::new();
    let mut changes: Vec<(i64, i32)> = Vec::new();
    for entry in entries {
        let who = (entry.job.as_str(), entry.process);
        if entry.begins {
            inside.insert(who);
            changes.push((entry.at, 1));
        } else if inside.remove(&who) {
            changes.push((entry.at, -1));
        }
    }
    for (_, process) in inside {
        let died = killed.get(&process).copied().unwrap_or(i64::MAX);
        changes.push((died, -1));
    }
    // Of two at the same microsecond who leaves comes first: the place was given on.
    changes.sort_unstable();
    let first = changes.first().map_or(0, |(at, _)| *at);
    let last = changes.iter().rev().find(|(_, by)| *by > 0);
    let last = last.map_or(first, |(at, _)| *at);
    let (mut now, mut most, mut area, mut before) = (0_i32, 0, 0.0, first);
    for (at, by) in changes {
        if at <= last {
            area += f64::from(now) * microseconds(at - before);
            before = at;
        }
        now += by;
        most = most.max(now);
    }
    Crowding {
        most: usize::try_from(most).unwrap_or(0),
        mean: area / microseconds((last - first).max(1)),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn microseconds(span: i64) -> f64 {
    span as f64
}

/// The largest number of beginnings in any window, and how many of all that could have been in the
/// time from the first to the last were used.
pub(crate) fn rate(entries: &[Entry], per: i64, max: usize) -> (usize, f64) {
    let begun: Vec<_> = entries.iter().filter(|entry| entry.begins).collect();
    let mut window = VecDeque::new();
    let mut most = 0;
    for entry in &begun {
        while window.front().is_some_and(|first| *first <= entry.at - per) {
            window.pop_front();
        }
        window.push_back(entry.at);
        most = most.max(window.len());
    }
    let span = match (begun.first(), begun.last()) {
        (Some(first), Some(last)) => last.at - first.at,
        _ => 0,
    };
    // In a span of so many windows there may be one burst more than windows.
    let possible = count(max) * (microseconds(span) / microseconds(per)) + count(max);
    (most, count(begun.len()) / possible.max(1.0))
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(crate) fn count(number: usize) -> f64 {
    number as f64
}
