//! Compares what the ledger tells of a round of the mix with what the store holds after it, and with
//! what creators were told.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rocketjob::{JobDocument, whole_number};

use crate::{
    check::Findings,
    mix::{
        chain,
        claim::{check_claims, check_document},
        limit,
        note::{Event, Note},
        plan::{CHAINS, Kind},
        told::{Answer, Told},
        unique,
    },
};

/// What a round has created.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// Of each kind, how many jobs there must be, with the numbers from 0 on.
    pub(crate) numbers: BTreeMap<Kind, i64>,
    /// How many instances each chain has that ends by itself.
    pub(crate) links: i64,
    /// What the creators of jobs with a key were told.
    pub(crate) told: Vec<Told>,
}

impl Made {
    /// How many jobs there are, chains by a schedule apart.
    pub(crate) fn jobs(&self) -> i64 {
        let told = self.told.iter();
        let inserted = told
            .filter(|told| matches!(told.answer, Answer::Inserted(_)))
            .count();
        let chains = 2 * CHAINS * self.links;
        self.numbers.values().sum::<i64>() + i64::try_from(inserted).unwrap_or(0) + chains
    }

    /// How many creators were told what.
    pub(crate) fn answers(&self) -> BTreeMap<&'static str, usize> {
        let mut answers = BTreeMap::new();
        for told in &self.told {
            let answer = match told.answer {
                Answer::Inserted(_) => "inserted",
                Answer::Existing(_) => "existing",
                Answer::Replaced(_) => "replaced",
                Answer::Refused(_) => "refused",
                Answer::Unknown => "unknown",
            };
            *answers.entry(answer).or_insert(0) += 1;
        }
        answers
    }

    /// What creators were told, for people who look for what went wrong.
    pub(crate) fn told_lines(&self) -> String {
        let lines = self.told.iter().map(|told| format!("{told:?}\n"));
        lines.collect()
    }
}

/// Checks a round; all of its jobs should have ended.
pub(crate) fn check(made: &Made, documents: &[JobDocument], notes: &[Note]) -> Findings {
    let mut findings = Findings {
        begins: notes
            .iter()
            .filter(|note| note.event == Event::Begun)
            .count(),
        repeated: repeated(notes),
        reincarnations: reincarnations(notes),
        violations: Vec::new(),
    };
    let mut violation = |what: String| findings.violations.push(what);
    let mut by_kind: BTreeMap<Kind, Vec<&JobDocument>> = BTreeMap::new();
    for document in documents {
        match Kind::of(document.kind()) {
            Some(kind) => by_kind.entry(kind).or_default().push(document),
            None => violation(format!("job {} is a {}", document.id(), document.kind())),
        }
    }
    let mut of_job: HashMap<&str, Vec<&Note>> = HashMap::new();
    for note in notes {
        of_job.entry(&note.job).or_default().push(note);
    }
    for kind in Kind::ALL {
        let documents = by_kind.remove(&kind).unwrap_or_default();
        check_kind(kind, made, &documents, &mut of_job, &mut violation);
        check_concern(kind, made, &documents, notes, &mut violation);
    }
    for (id, notes) in of_job {
        let kind = notes.first().map(|note| note.kind);
        if let Some(kind) = kind.filter(|kind| !kind.vanishes()) {
            violation(format!(
                "{}: job {id} is in the ledger, and not in the store",
                kind.as_str()
            ));
        }
    }
    limit::check(notes, &mut violation);
    findings
}

/// Each job of a kind by itself, and that all are there.
fn check_kind(
    kind: Kind,
    made: &Made,
    documents: &[&JobDocument],
    of_job: &mut HashMap<&str, Vec<&Note>>,
    violation: &mut impl FnMut(String),
) {
    let mut numbers = BTreeSet::new();
    for document in documents {
        let (number, id) = (number(document), document.id().to_hex());
        let mut violation =
            |what: String| violation(format!("{}: job {number} ({id}) {what}", kind.as_str()));
        if kind.vanishes() {
            violation(format!("is still there, {}", document.state()));
            continue;
        }
        if kind != Kind::Cron && !numbers.insert(number) {
            violation("was created more than once".into());
        }
        let plan = kind.plan(number, chain::slot(document));
        check_document(kind, plan, document, &mut violation);
        let mut notes = of_job.remove(id.as_str()).unwrap_or_default();
        // What a job was before another took its place is looked at elsewhere.
        notes.retain(|note| note.number == number);
        check_claims(plan, document, &notes, &mut violation);
    }
    let expected = made.numbers.get(&kind).copied().unwrap_or(0);
    for number in (0..expected).filter(|number| !numbers.contains(number)) {
        violation(format!("{}: job {number} is missing", kind.as_str()));
    }
}

/// What the concerns of a kind promise for all of its jobs together.
fn check_concern(
    kind: Kind,
    made: &Made,
    documents: &[&JobDocument],
    notes: &[Note],
    violation: &mut impl FnMut(String),
) {
    match kind {
        Kind::Reject | Kind::Return | Kind::Replace | Kind::Singleton => {
            let traces = unique::Traces {
                kind,
                documents: documents.to_vec(),
                notes: notes.iter().filter(|note| note.kind == kind).collect(),
                told: made.told.iter().filter(|told| told.kind == kind).collect(),
            };
            unique::check(&traces, violation);
        }
        Kind::Cron => {
            chain::check_slots(documents, violation);
            check_one_chain(made, violation);
        }
        Kind::CronEnd | Kind::Restart => {
            chain::check_links(kind, CHAINS, made.links, notes, violation);
        }
        _ => {}
    }
}

/// Wherever a schedule was created again, it was there already.
fn check_one_chain(made: &Made, violation: &mut impl FnMut(String)) {
    let inserted = made
        .told
        .iter()
        .filter(|told| told.kind == Kind::Cron && matches!(told.answer, Answer::Inserted(_)));
    for told in inserted.skip(1) {
        violation(format!(
            "{}: another chain was accepted, at {} ({:?})",
            Kind::Cron.as_str(),
            told.answered,
            told.answer
        ));
    }
}

fn number(document: &JobDocument) -> i64 {
    document.get("number").and_then(whole_number).unwrap_or(-1)
}

/// How often an attempt was begun again, since its earlier beginning had been in vain.
fn repeated(notes: &[Note]) -> usize {
    let begun = notes.iter().filter(|note| note.event == Event::Begun);
    let mut attempts = BTreeSet::new();
    begun
        .filter(|note| !attempts.insert((&note.job, note.number, note.accepted)))
        .count()
}

/// How often a process went on under another incarnation.
fn reincarnations(notes: &[Note]) -> usize {
    let server = |note: &Note| note.claim.split(':').next().map(ToOwned::to_owned);
    let lives: BTreeSet<_> = notes
        .iter()
        .map(|note| (note.process, server(note)))
        .collect();
    let processes: BTreeSet<_> = lives.iter().map(|(process, _)| process).collect();
    lives.len() - processes.len()
}
