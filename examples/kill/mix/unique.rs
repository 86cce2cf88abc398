//! Of jobs that are alike one is active, and whoever created one was told the truth.
//!
//! A job is active from its insertion to the write that ends it. Both moments are known only from one
//! side: it is there when its creator is told so, or when it is begun, whichever comes first; and it
//! is there until it notes the end that was accepted, since that is written later. In between it is
//! active for sure, and no other may be.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rocketjob::JobDocument;

use crate::mix::{
    claim::accepted,
    note::{Event, Note},
    plan::Kind,
    told::{Answer, Told},
};

/// A job while it is active for sure.
#[derive(Debug)]
struct Active<'a> {
    id: String,
    number: i64,
    key: i64,
    document: &'a JobDocument,
    from: i64,
    until: i64,
}

/// What there is of one kind.
pub(crate) struct Traces<'a> {
    pub(crate) kind: Kind,
    pub(crate) documents: Vec<&'a JobDocument>,
    pub(crate) notes: Vec<&'a Note>,
    pub(crate) told: Vec<&'a Told>,
}

pub(crate) fn check(traces: &Traces<'_>, violation: &mut impl FnMut(String)) {
    let kind = traces.kind.as_str();
    let mut violation = |what: String| violation(format!("{kind}: {what}"));
    let active = actives(traces);
    check_one_at_a_time(&active, &mut violation);
    check_told(traces, &active, &mut violation);
    check_numbers(traces, &active, &mut violation);
    check_replaced(traces, &active, &mut violation);
}

fn number_of(document: &JobDocument, field: &str) -> i64 {
    document
        .get(field)
        .and_then(rocketjob::whole_number)
        .unwrap_or(-1)
}

fn actives<'a>(traces: &Traces<'a>) -> Vec<Active<'a>> {
    let mut known: HashMap<String, i64> = HashMap::new();
    let mut note = |id: String, at: i64| {
        let first = known.entry(id).or_insert(at);
        *first = at.min(*first);
    };
    for told in &traces.told {
        if let Some(id) = told.holder().or(told.other()) {
            note(id.to_hex(), told.answered);
        }
    }
    let mut ends: HashMap<(&str, &str), i64> = HashMap::new();
    for line in &traces.notes {
        note(line.job.clone(), line.at);
        if line.event != Event::Begun {
            ends.insert((&line.job, &line.claim), line.at);
        }
    }
    let documents = traces.documents.iter().filter_map(|document| {
        let id = document.id().to_hex();
        let from = *known.get(&id)?;
        let last = accepted(document).last().copied()?;
        Some(Active {
            number: number_of(document, "number"),
            key: number_of(document, "key"),
            document,
            from,
            until: *ends.get(&(id.as_str(), last))?,
            id,
        })
    });
    documents.collect()
}

fn check_one_at_a_time(active: &[Active<'_>], violation: &mut impl FnMut(String)) {
    let mut by_key: BTreeMap<i64, Vec<&Active<'_>>> = BTreeMap::new();
    for job in active {
        by_key.entry(job.key).or_default().push(job);
    }
    for (key, mut jobs) in by_key {
        jobs.sort_by_key(|job| job.from);
        let mut before: Option<&Active<'_>> = None;
        for job in jobs {
            if let Some(other) = before.filter(|other| other.until > job.from) {
                violation(format!(
                    "jobs {} and {} with the key {key} were both active at {}",
                    other.id, job.id, job.from
                ));
            }
            before = Some(
                before
                    .filter(|other| other.until > job.until)
                    .unwrap_or(job),
            );
        }
    }
}

/// Who is named as the one that is there has the same key, and no other was active for all of the call.
fn check_told(traces: &Traces<'_>, active: &[Active<'_>], violation: &mut impl FnMut(String)) {
    let keys = traces
        .documents
        .iter()
        .map(|job| (job.id(), number_of(job, "key")));
    let keys: HashMap<_, _> = keys.collect();
    for told in &traces.told {
        let Some(id) = told.holder().or(told.other()) else {
            continue;
        };
        let number = told.number;
        match keys.get(&id) {
            None => violation(format!(
                "the creator of {number} was told of job {id}, which is missing"
            )),
            Some(key) if *key != told.key => violation(format!(
                "the creator of {number} with the key {} was told of job {id}, which has the key {key}",
                told.key
            )),
            Some(_) => {}
        }
        let covers = |job: &&Active<'_>| {
            job.key == told.key && job.from <= told.asked && told.answered <= job.until
        };
        if let Some(other) = active
            .iter()
            .filter(covers)
            .find(|job| job.document.id() != id)
        {
            violation(format!(
                "the creator of {number} was told of job {id} ({:?}), while job {} was active",
                told.answer, other.id
            ));
        }
        let allowed = match told.answer {
            Answer::Existing(_) => traces.kind == Kind::Return,
            Answer::Replaced(_) => traces.kind == Kind::Replace,
            Answer::Refused(_) => traces.kind != Kind::Return,
            Answer::Inserted(_) | Answer::Unknown => true,
        };
        if !allowed {
            violation(format!(
                "the creator of {number} was told {:?}",
                told.answer
            ));
        }
    }
}

/// What was created is there, and what was not is nowhere.
fn check_numbers(traces: &Traces<'_>, active: &[Active<'_>], violation: &mut impl FnMut(String)) {
    let held = traces
        .told
        .iter()
        .filter_map(|told| Some((told.number, told.holder()?.to_hex())));
    let held: HashMap<_, _> = held.collect();
    let unknown = traces
        .told
        .iter()
        .filter(|told| told.answer == Answer::Unknown);
    let unknown: BTreeSet<_> = unknown.map(|told| told.number).collect();
    let stored = active.iter().map(|job| (job.number, job.id.as_str()));
    let noted = traces
        .notes
        .iter()
        .map(|note| (note.number, note.job.as_str()));
    let mut seen = BTreeSet::new();
    for (number, id) in stored.chain(noted).filter(|place| seen.insert(*place)) {
        match held.get(&number) {
            Some(told) if told == id => {}
            Some(told) => violation(format!(
                "{number} is in job {id}, though its creator was told of job {told}"
            )),
            None if unknown.contains(&number) => {}
            None => violation(format!(
                "{number} is in job {id}, though it was not created"
            )),
        }
    }
    let present: BTreeSet<_> = active.iter().map(|job| job.number).collect();
    for told in &traces.told {
        let Answer::Inserted(id) = told.answer else {
            continue;
        };
        let replaced = traces.kind == Kind::Replace;
        if !present.contains(&told.number) && !replaced {
            violation(format!(
                "{} was created as job {id}, and is missing",
                told.number
            ));
        }
    }
}

/// Once another has taken its place, nothing of a job is begun or stays.
fn check_replaced(traces: &Traces<'_>, active: &[Active<'_>], violation: &mut impl FnMut(String)) {
    let holders: Vec<_> = traces
        .told
        .iter()
        .filter(|told| told.holder().is_some())
        .collect();
    for later in holders
        .iter()
        .filter(|told| matches!(told.answer, Answer::Replaced(_)))
    {
        let earlier = holders
            .iter()
            .filter(|told| told.holder() == later.holder() && told.answered < later.asked);
        for told in earlier {
            let (old, new) = (told.number, later.number);
            if let Some(job) = active.iter().find(|job| job.number == old) {
                violation(format!(
                    "job {} is {old}, though {new} took its place",
                    job.id
                ));
            }
            let begun = |note: &&&Note| {
                note.number == old && note.event == Event::Begun && note.at > later.answered
            };
            if let Some(note) = traces.notes.iter().find(begun) {
                violation(format!(
                    "job {} was begun as {old}, after {new} had taken its place",
                    note.job
                ));
            }
        }
    }
}
