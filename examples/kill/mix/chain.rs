//! Chains: each instance is there once, and none is left out.
//!
//! Whatever has been created is performed in the end, so a chain that forked shows two jobs for one
//! place in it. An instance exists only when what comes before it has ended, or has begun where the
//! next one is made at the start: so a second waiting one would be a second one in the ledger too.

use std::collections::{BTreeMap, BTreeSet};

use rocketjob::JobDocument;

use crate::mix::{
    note::{Event, Note},
    plan::Kind,
};

/// The second of the schedule that a stored job is for.
pub(crate) fn slot(document: &JobDocument) -> Option<i64> {
    let slot = document.as_document().get_datetime("cron_slot").ok()?;
    Some(slot.timestamp_millis().div_euclid(1000))
}

/// The schedule whose instances stay: each second has one, from the first to the last.
pub(crate) fn check_slots(documents: &[&JobDocument], violation: &mut impl FnMut(String)) {
    let kind = Kind::Cron.as_str();
    let mut slots: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for document in documents {
        match slot(document) {
            Some(slot) => slots.entry(slot).or_default().push(document.id().to_hex()),
            None => violation(format!("{kind}: job {} is for no time", document.id())),
        }
    }
    for (slot, jobs) in slots.iter().filter(|(_, jobs)| jobs.len() > 1) {
        violation(format!(
            "{kind}: the time {slot} has {} jobs: {}",
            jobs.len(),
            jobs.join(", ")
        ));
    }
    let times: Vec<_> = slots.keys().copied().collect();
    for pair in times.windows(2) {
        if let [before, after] = pair
            && after - before != 1
        {
            let missing = after - before - 1;
            violation(format!(
                "{kind}: {missing} times were missed after {before}"
            ));
        }
    }
    if times.is_empty() {
        violation(format!("{kind}: no time was kept"));
    }
}

/// The chains of a kind whose instances vanish: each link is there once, in its turn.
pub(crate) fn check_links(
    kind: Kind,
    chains: i64,
    links: i64,
    notes: &[Note],
    violation: &mut impl FnMut(String),
) {
    for chain in 0..chains {
        let of_chain = |note: &&Note| note.kind == kind && note.number == chain;
        let notes: Vec<_> = notes.iter().filter(of_chain).collect();
        let mut violation =
            |what: String| violation(format!("{}: chain {chain} {what}", kind.as_str()));
        check_chain(kind, links, &notes, &mut violation);
    }
}

fn check_chain(kind: Kind, links: i64, notes: &[&Note], violation: &mut impl FnMut(String)) {
    let mut before: Option<i64> = None;
    for link in 0..links {
        let of_link: Vec<_> = notes.iter().filter(|note| note.link == link).collect();
        let jobs: BTreeSet<_> = of_link.iter().map(|note| note.job.as_str()).collect();
        if jobs.len() > 1 {
            let jobs: Vec<_> = jobs.into_iter().collect();
            violation(format!("forks at link {link}: jobs {}", jobs.join(", ")));
        }
        if !of_link.iter().any(|note| note.event == Event::Done) {
            violation(format!("has no end of link {link}"));
        }
        let begun = |note: &&&Note| note.event == Event::Begun;
        let mut slots = of_link
            .iter()
            .filter(|note| begun(note))
            .filter_map(|note| note.slot);
        let slot = slots.next();
        if kind == Kind::CronEnd
            && let (Some(before), Some(slot)) = (before, slot)
            && slot - before != 1
        {
            violation(format!(
                "goes from the time {before} to {slot} at link {link}"
            ));
        }
        before = slot;
        let next = notes.iter().filter(|note| note.link == link + 1);
        let next = next
            .filter(|note| note.event == Event::Begun)
            .map(|note| note.at)
            .min();
        let late = |note: &&&&Note| begun(note) && next.is_some_and(|next| note.at >= next);
        if let Some(note) = of_link.iter().find(late) {
            violation(format!(
                "has link {link} begun again as job {}, after the next one",
                note.job
            ));
        }
    }
    if let Some(note) = notes.iter().find(|note| note.link >= links) {
        violation(format!(
            "goes on with link {} of {links}: job {}",
            note.link, note.job
        ));
    }
}
