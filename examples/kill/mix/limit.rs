//! What lets jobs wait: places, rates, other kinds and windows.
//!
//! What can soundly be claimed? A process may die, or be stopped, at any moment, and its code may go
//! on after its claim was given to another: no store can prevent that. What holds is said of claims
//! that are *in force*. The ledger has two moments at which that is known: the time of a beginning
//! and that of an end, each taken before a look at the context that let it pass (see [`Note`]).
//! Between the two the claim was in force as well, since no claim comes back. So a performance
//! counts from its beginning to its end, and one that was killed counts for the moment of its
//! beginning only: its place is taken for longer than that, until others declare its server dead,
//! but nothing in the ledger proves it. A killed one so makes the check weaker, and never wrong.

use std::collections::HashMap;

use crate::mix::{
    note::{Event, Note},
    plan::{Kind, RATE, WINDOW_EVERY, WINDOW_OPEN},
};

/// The length of the window of [`Kind::Rate`], in microseconds.
const SECOND: i64 = 1_000_000;
/// How far a process may be wrong about when its claim was begun, in microseconds: it knows it by
/// the store's clock, in whole milliseconds, and may have set that right in between.
const CLOCK: i64 = 50_000;

/// A performance while its claim was in force: from when to when, in microseconds.
#[derive(Debug, Clone, Copy)]
struct Span<'a> {
    begun: &'a Note,
    until: i64,
}

pub(crate) fn check(notes: &[Note], violation: &mut impl FnMut(String)) {
    let spans = spans(notes);
    for kind in Kind::ALL {
        if let Some((most, by_key)) = kind.running() {
            check_running(kind, most, by_key, &spans, violation);
        }
    }
    check_rate(notes, violation);
    check_dependency(&spans, violation);
    check_window(notes, violation);
}

fn spans(notes: &[Note]) -> Vec<Span<'_>> {
    let ends = notes
        .iter()
        .filter(|note| matches!(note.event, Event::Done | Event::Again));
    let ends: HashMap<_, _> = ends
        .map(|note| ((&note.job, &note.claim), note.at))
        .collect();
    let begun = notes.iter().filter(|note| note.event == Event::Begun);
    begun
        .map(|begun| Span {
            begun,
            until: ends
                .get(&(&begun.job, &begun.claim))
                .map_or(begun.at, |end| *end),
        })
        .collect()
}

/// No more than `most` are performed at the same time.
fn check_running(
    kind: Kind,
    most: usize,
    by_key: bool,
    spans: &[Span<'_>],
    violation: &mut impl FnMut(String),
) {
    let of_kind = spans.iter().filter(|span| span.begun.kind == kind);
    let mut groups: HashMap<i64, Vec<&Span<'_>>> = HashMap::new();
    for span in of_kind {
        let group = if by_key { span.begun.key } else { 0 };
        groups.entry(group).or_default().push(span);
    }
    for (group, mut spans) in groups {
        spans.sort_by_key(|span| span.begun.at);
        let mut running: Vec<&Span<'_>> = Vec::new();
        for span in spans {
            running.retain(|other| other.until > span.begun.at);
            running.push(span);
            if running.len() > most {
                let jobs: Vec<_> = running.iter().map(|span| span.begun.job.as_str()).collect();
                violation(format!(
                    "{} of {} with the key {group} ran at {}, not {most} at most: jobs {}",
                    running.len(),
                    kind.as_str(),
                    span.begun.at,
                    jobs.join(", ")
                ));
            }
        }
    }
}

/// How many of a kind ran at the same time at most, as far as it is known.
pub(crate) fn most_at_once(kind: Kind, notes: &[Note]) -> usize {
    let spans = spans(notes);
    let spans: Vec<_> = spans
        .iter()
        .filter(|span| span.begun.kind == kind)
        .collect();
    let at = |time: i64| {
        let runs = |span: &&&Span<'_>| span.begun.at <= time && time < span.until;
        spans.iter().filter(runs).count()
    };
    spans
        .iter()
        .map(|span| at(span.begun.at))
        .max()
        .unwrap_or(0)
}

/// No window of a second has more beginnings than the rate says.
///
/// The product looks for a last time at the clock, and begins. The machine may stop the thread between
/// the two, which no program can exclude: then it begins late, and the next ones come sooner after it
/// than they should. So the first one of a window counts from its look, and the last one from its
/// beginning. Performances that were in vain count as well.
fn check_rate(notes: &[Note], violation: &mut impl FnMut(String)) {
    let begun = |note: &&Note| note.kind == Kind::Rate && note.event == Event::Begun;
    let mut begins: Vec<_> = notes.iter().filter(begun).collect();
    begins.sort_by_key(|note| note.at);
    for window in begins.windows(RATE + 1) {
        let [first, .., last] = window else { continue };
        let from = if first.looked > 0 {
            first.looked.min(first.at)
        } else {
            first.at
        };
        if last.at - from < SECOND {
            violation(format!(
                "{} of {} began within {} µs, from job {} on ({} µs after its look) to job {}",
                window.len(),
                Kind::Rate.as_str(),
                last.at - from,
                first.job,
                first.at - from,
                last.job
            ));
        }
    }
}

/// None begins to wait for a worker while a job of the other kind runs.
///
/// It is decided as a job is claimed, and the claim lies between the time that it carries and the
/// beginning: on MongoDB the look does too, since a claim takes its time first and looks then. A job
/// of the other kind that ran all that time also ran at that moment.
fn check_dependency(spans: &[Span<'_>], violation: &mut impl FnMut(String)) {
    let mut firsts: Vec<_> = spans
        .iter()
        .filter(|span| span.begun.kind == Kind::First)
        .collect();
    firsts.sort_by_key(|span| span.begun.at);
    for after in spans.iter().filter(|span| span.begun.kind == Kind::After) {
        let claimed = after.begun.claimed - CLOCK;
        let runs = |first: &&&Span<'_>| first.begun.at <= claimed && after.begun.at <= first.until;
        if let Some(first) = firsts.iter().find(runs) {
            violation(format!(
                "job {} of {} was claimed at {} and begun at {}, while job {} of {} ran from {} to {}",
                after.begun.job,
                Kind::After.as_str(),
                after.begun.claimed,
                after.begun.at,
                first.begun.job,
                Kind::First.as_str(),
                first.begun.at,
                first.until
            ));
        }
    }
}

/// None is claimed outside of its window, by the time that the claim carries: that of the store, to
/// the millisecond. One that begins a little later was let in all the same.
fn check_window(notes: &[Note], violation: &mut impl FnMut(String)) {
    let begun = |note: &&Note| note.kind == Kind::Window && note.event == Event::Begun;
    for note in notes.iter().filter(begun) {
        let into = note.started_at.rem_euclid(WINDOW_EVERY * 1000);
        if into >= WINDOW_OPEN * 1000 {
            violation(format!(
                "job {} of {} was started {into} ms after its window had opened",
                note.job,
                Kind::Window.as_str()
            ));
        }
    }
}
