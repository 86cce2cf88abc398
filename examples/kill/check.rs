//! Compares what the ledger tells with what the store holds when all is done.
//!
//! An outcome and the count of accepted outcomes are stored in one step, and each line of the ledger
//! tells what the job's document said when the job was claimed. So whatever was claimed after an
//! outcome shows it, and what was accepted twice counts two. This needs no clock.
//!
//! A job that was claimed before it completed elsewhere and begun after it, by a server that was
//! stopped in between, is found by time: all processes share the host's monotonic clock. The time of
//! a beginning is taken before the job's first look at its context, and only what that look lets pass
//! is begun. Neither may its line stand behind that of the end: no process can exclude this, since it
//! can be stopped between its look and its line, but it must not happen in a run that counts.

use std::collections::{BTreeSet, HashMap};

use rocketjob::{JobDocument, State, name};

use crate::{
    job::{accepted, number, retries},
    ledger::{Entry, Event},
};

/// What the comparison found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// How often a job was begun.
    pub(crate) begins: usize,
    /// How often it was begun although an earlier beginning of the same attempt had been in vain.
    pub(crate) repeated: usize,
    /// How often a process went on under another incarnation.
    pub(crate) reincarnations: usize,
    /// What must not be, in words.
    pub(crate) violations: Vec<String>,
}

/// Checks the `jobs` jobs that were created, all of which should be done.
pub(crate) fn check(jobs: i64, documents: &[JobDocument], ledger: &[Entry]) -> Findings {
    let mut findings = Findings {
        reincarnations: reincarnations(ledger),
        ..Findings::default()
    };
    let mut lines: HashMap<&str, Vec<&Entry>> = HashMap::new();
    for entry in ledger {
        lines.entry(&entry.job).or_default().push(entry);
    }
    let mut numbers = BTreeSet::new();
    for document in documents {
        let number = number(document);
        let id = document.id().to_hex();
        let mut violation = |what: String| {
            findings
                .violations
                .push(format!("job {number} ({id}) {what}"));
        };
        if !(0..jobs).contains(&number) || !numbers.insert(number) {
            violation("was created more than once".into());
        }
        check_document(document, &mut violation);
        let lines = lines.remove(id.as_str()).unwrap_or_default();
        check_lines(document, &lines, &mut violation);
        let begins = lines.iter().filter(|line| line.event == Event::Begun);
        let begins: Vec<_> = begins.copied().collect();
        findings.begins += begins.len();
        let needed = usize::try_from(retries(number) + 1).unwrap_or(0);
        findings.repeated += begins.len().saturating_sub(needed);
    }
    for number in (0..jobs).filter(|number| !numbers.contains(number)) {
        findings.violations.push(format!("job {number} is missing"));
    }
    for (id, lines) in lines {
        let last = lines.iter().map(|line| line.at).max().unwrap_or(0);
        findings.violations.push(format!(
            "job {id} is in the ledger, last at {last}, and not in the store"
        ));
    }
    findings
}

/// What the document alone tells.
fn check_document(document: &JobDocument, violation: &mut impl FnMut(String)) {
    let number = number(document);
    if document.state() != State::Completed {
        violation(format!("is {}, not completed", document.state()));
    }
    let outcomes = retries(number) + 1;
    if accepted(document) != outcomes {
        violation(format!(
            "has {} accepted outcomes, not {outcomes}",
            accepted(document)
        ));
    }
    if document.failure_count() != retries(number) {
        violation(format!(
            "has failed {} times, not {}",
            document.failure_count(),
            retries(number)
        ));
    }
    for field in [name::READY, name::HOLD, name::WORKER_NAME, name::SUCCESSORS] {
        if let Some(value) = document.get(field) {
            violation(format!("still has `{field}`: {value}"));
        }
    }
}

/// What the ledger tells of the job.
fn check_lines(document: &JobDocument, lines: &[&Entry], violation: &mut impl FnMut(String)) {
    let attempts = retries(number(document)) + 1;
    let begins = || lines.iter().filter(|line| line.event == Event::Begun);
    for attempt in 1..=attempts.unsigned_abs() {
        if !begins().any(|line| line.attempt == attempt) {
            violation(format!("was never begun in attempt {attempt}"));
        }
    }
    let mut claims = BTreeSet::new();
    for line in begins() {
        if line.accepted >= attempts {
            violation(format!(
                "was claimed again after it had completed, and begun by process {} under claim {}",
                line.process, line.claim
            ));
        } else if line.attempt != line.accepted.unsigned_abs() + 1 {
            violation(format!(
                "was begun as attempt {} after {} accepted outcomes",
                line.attempt, line.accepted
            ));
        }
        if !claims.insert(&line.claim) {
            violation(format!("was begun twice under claim {}", line.claim));
        }
    }
    let token = document.as_document().get_str(name::CLAIM).unwrap_or("");
    let done = |(_, line): &(usize, &&Entry)| line.event == Event::Done && line.claim == token;
    let done: Vec<_> = lines.iter().enumerate().filter(done).collect();
    let [(place, done)] = done[..] else {
        let count = done.len();
        return violation(format!(
            "completed under claim {token}, under which the ledger has {count} ends and not one"
        ));
    };
    for line in lines.iter().skip(place) {
        if line.event == Event::Begun {
            violation(format!(
                "has a line of a beginning under claim {} behind that of its end under claim {token}",
                line.claim
            ));
        }
    }
    for line in begins().filter(|line| line.claim != token && line.at >= done.at) {
        violation(format!(
            "was begun by thread `{}` under claim {}, {} µs after it was done under claim {token}",
            line.thread,
            line.claim,
            line.at - done.at
        ));
    }
}

/// The incarnation in the token of a claim.
fn server(line: &Entry) -> &str {
    line.claim.split(':').next().unwrap_or("")
}

fn reincarnations(ledger: &[Entry]) -> usize {
    let lives: BTreeSet<_> = ledger
        .iter()
        .map(|line| (line.process, server(line)))
        .collect();
    let processes: BTreeSet<_> = lives.iter().map(|(process, _)| process).collect();
    lives.len() - processes.len()
}
