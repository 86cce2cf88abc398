//! What a round of the mix leaves when all goes well, to be damaged by tests.

use bson::{Bson, DateTime, Document, doc, oid::ObjectId};
use rocketjob::JobDocument;

use crate::{
    check::Findings,
    mix::{
        check::{Made, check},
        note::{Event, Note},
        plan::{CHAINS, Kind},
        told::{Answer, Told},
    },
};

pub(crate) const LINKS: i64 = 4;
const CLAIM: &str = "000000000000000000000001";
/// Between the beginnings of two jobs of a kind, in microseconds.
const APART: i64 = 300_000;
/// Between those of two attempts.
const ATTEMPT: i64 = 60_000;
/// How long each is performed.
pub(crate) const WORKS: i64 = 50_000;
/// When jobs of [`Kind::After`] begin, so that none of [`Kind::First`] runs.
const AFTER: i64 = 100_000;
/// The first second of the schedule.
pub(crate) const FIRST_SLOT: i64 = 101;

/// What a round of the mix leaves.
pub(crate) struct Traces {
    pub(crate) made: Made,
    pub(crate) documents: Vec<Document>,
    pub(crate) notes: Vec<Note>,
    claims: i64,
}

impl Traces {
    /// Of a round in which all went well.
    pub(crate) fn sound() -> Self {
        let mut traces = Self {
            made: Made {
                links: LINKS,
                ..Made::default()
            },
            documents: Vec::new(),
            notes: Vec::new(),
            claims: 0,
        };
        for kind in Kind::ALL {
            traces.made.numbers.insert(kind, kind.per_second());
            for number in 0..kind.per_second() {
                let at = number * APART + if kind == Kind::After { AFTER } else { 0 };
                traces.perform(kind, number, None, at);
            }
        }
        for slot in FIRST_SLOT..FIRST_SLOT + 6 {
            let job = traces.perform(Kind::Cron, 0, Some(slot), slot * APART);
            let first = slot == FIRST_SLOT;
            let answer = if first {
                Answer::Inserted(job)
            } else {
                Answer::Refused(job)
            };
            traces.tell(Kind::Cron, slot, 0, answer);
        }
        for (number, kind) in (0..).zip(Kind::UNIQUE) {
            traces.compete(kind, 10 * number);
        }
        for kind in [Kind::CronEnd, Kind::Restart] {
            for chain in 0..CHAINS {
                traces.chain(kind, chain);
            }
        }
        traces
    }

    /// A job is performed from `at` on, as it is planned.
    fn perform(&mut self, kind: Kind, number: i64, slot: Option<i64>, at: i64) -> ObjectId {
        let (plan, id) = (kind.plan(number, slot), ObjectId::new());
        let mut accepted: Vec<String> = Vec::new();
        for attempt in 1..=plan.outcomes() {
            self.claims += 1;
            let again = i64::try_from(attempt).unwrap() <= plan.failures;
            let begun = Note {
                attempt: attempt.try_into().unwrap(),
                accepted: attempt - 1,
                slot,
                ..self.begun(
                    kind,
                    number,
                    id,
                    at + ATTEMPT * i64::try_from(attempt - 1).unwrap(),
                )
            };
            let event = if again { Event::Again } else { Event::Done };
            let ended = Note {
                event,
                at: begun.at + WORKS,
                ..begun.clone()
            };
            accepted.push(begun.claim.clone());
            self.notes.extend([begun, ended]);
        }
        let history = if matches!(kind, Kind::Retry | Kind::Return) {
            plan.history()
        } else {
            vec![]
        };
        let slot = slot.map(|slot| DateTime::from_millis(slot * 1000));
        self.documents.push(doc! {
            "_id": id, "_type": kind.as_str(), "state": plan.ends.as_str(), "worker_name": Bson::Null,
            "failure_count": plan.failures, "number": number, "key": key(kind, number),
            "accepted": accepted, "history": history, "cron_slot": slot,
        });
        id
    }

    fn begun(&self, kind: Kind, number: i64, id: ObjectId, at: i64) -> Note {
        Note {
            event: Event::Begun,
            kind,
            number,
            key: key(kind, number),
            link: 0,
            slot: None,
            job: id.to_hex(),
            attempt: 1,
            accepted: 0,
            claim: format!("{CLAIM}:{}", self.claims),
            process: 7,
            at,
            claimed: at - 1000,
            started_at: 5000,
            looked: at - 100,
        }
    }

    /// Three jobs with one key, one after the other, and who wanted another one in between.
    fn compete(&mut self, kind: Kind, from: i64) {
        for number in (from..from + 9).step_by(3) {
            let at = number * APART;
            let shown = if kind == Kind::Replace {
                number + 1
            } else {
                number
            };
            let id = self.perform(kind, shown, None, at);
            self.tell(kind, number, at - 200, Answer::Inserted(id));
            if kind == Kind::Replace {
                self.tell(kind, number + 1, at - 100, Answer::Replaced(id));
            }
            let during = match kind {
                Kind::Return => Answer::Existing(id),
                _ => Answer::Refused(id),
            };
            self.tell(kind, number + 2, at + 1000, during);
        }
    }

    fn tell(&mut self, kind: Kind, number: i64, asked: i64, answer: Answer) {
        let (key, answered) = (key(kind, number), asked + 50);
        self.made.told.push(Told {
            kind,
            number,
            key,
            asked,
            answered,
            answer,
        });
    }

    fn chain(&mut self, kind: Kind, chain: i64) {
        for link in 0..LINKS {
            self.claims += 1;
            let at = (chain * 10 + link) * APART;
            let slot = (kind == Kind::CronEnd).then_some(FIRST_SLOT + link);
            let begun = Note {
                link,
                slot,
                ..self.begun(kind, chain, ObjectId::new(), at)
            };
            let ended = Note {
                event: Event::Done,
                at: at + WORKS,
                ..begun.clone()
            };
            self.notes.extend([begun, ended]);
        }
    }

    pub(crate) fn check(self) -> Findings {
        let documents = self.documents.into_iter().map(JobDocument::new);
        let documents: Vec<_> = documents.map(Result::unwrap).collect();
        check(&self.made, &documents, &self.notes)
    }

    pub(crate) fn document(&mut self, kind: Kind, place: usize) -> &mut Document {
        let of_kind =
            |job: &&mut Document| job.get_str("_type").is_ok_and(|name| name == kind.as_str());
        self.documents
            .iter_mut()
            .filter(of_kind)
            .nth(place)
            .unwrap()
    }

    /// The line with which the job of the kind at this place is begun.
    pub(crate) fn line(&mut self, kind: Kind, place: usize) -> &mut Note {
        let begun = |note: &&mut Note| note.kind == kind && note.event == Event::Begun;
        self.notes.iter_mut().filter(begun).nth(place).unwrap()
    }

    /// Somebody else begins the same at this time, for as long as `works`.
    pub(crate) fn also(&mut self, kind: Kind, place: usize, at: i64, works: i64) {
        let claim = format!("{CLAIM}:other:{at}");
        let begun = Note {
            claim,
            at,
            claimed: at - 1000,
            looked: at,
            process: 8,
            ..self.line(kind, place).clone()
        };
        let ended = Note {
            event: Event::Done,
            at: at + works,
            ..begun.clone()
        };
        self.notes.push(begun);
        if works > 0 {
            self.notes.push(ended);
        }
    }

    pub(crate) fn told(&mut self, kind: Kind, place: usize) -> &mut Told {
        self.made
            .told
            .iter_mut()
            .filter(|told| told.kind == kind)
            .nth(place)
            .unwrap()
    }
}

fn key(kind: Kind, number: i64) -> i64 {
    if matches!(kind, Kind::Throttle | Kind::ThrottleBy) {
        number % 3
    } else {
        0
    }
}
