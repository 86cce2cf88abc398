//! The checks of the mix notice what they are there to notice.

use bson::{Bson, DateTime, Document, doc, oid::ObjectId};
use rocketjob::JobDocument;

use crate::{
    check::Findings,
    mix::{
        check::{Made, check},
        note::{Event, Note, Notes, read},
        plan::{CHAINS, Kind},
        told::{Answer, Told},
    },
};

const LINKS: i64 = 4;
const CLAIM: &str = "000000000000000000000001";
/// Between the beginnings of two jobs of a kind, in microseconds.
const APART: i64 = 300_000;
/// Between those of two attempts.
const ATTEMPT: i64 = 60_000;
/// How long each is performed.
const WORKS: i64 = 50_000;
/// When jobs of [`Kind::After`] begin, so that none of [`Kind::First`] runs.
const AFTER: i64 = 100_000;
/// The first second of the schedule.
const FIRST_SLOT: i64 = 101;

/// What a round of the mix leaves.
struct Traces {
    made: Made,
    documents: Vec<Document>,
    notes: Vec<Note>,
    claims: i64,
}

impl Traces {
    /// Of a round in which all went well.
    fn sound() -> Self {
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

    fn check(self) -> Findings {
        let documents = self.documents.into_iter().map(JobDocument::new);
        let documents: Vec<_> = documents.map(Result::unwrap).collect();
        check(&self.made, &documents, &self.notes)
    }

    fn document(&mut self, kind: Kind, place: usize) -> &mut Document {
        let of_kind =
            |job: &&mut Document| job.get_str("_type").is_ok_and(|name| name == kind.as_str());
        self.documents
            .iter_mut()
            .filter(of_kind)
            .nth(place)
            .unwrap()
    }

    /// The line with which the job of the kind at this place is begun.
    fn line(&mut self, kind: Kind, place: usize) -> &mut Note {
        let begun = |note: &&mut Note| note.kind == kind && note.event == Event::Begun;
        self.notes.iter_mut().filter(begun).nth(place).unwrap()
    }

    /// Somebody else begins the same at this time, for as long as `works`.
    fn also(&mut self, kind: Kind, place: usize, at: i64, works: i64) {
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

    fn told(&mut self, kind: Kind, place: usize) -> &mut Told {
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

#[test]
fn traces_of_a_round_that_went_well_show_no_violation() {
    let mut traces = Traces::sound();
    // One that was killed before it was performed for good, by a process that came back as another.
    let at = traces.line(Kind::Throttle, 2).at - 20_000;
    traces.also(Kind::Throttle, 2, at, 0);
    let last = traces.notes.len() - 1;
    traces.notes[last].process = 7;
    traces.notes[last].claim = "000000000000000000000002:1".into();
    let findings = traces.check();
    assert_eq!(findings.violations, Vec::<String>::new());
    assert_eq!((findings.repeated, findings.reincarnations), (1, 1));
}

type Damage = fn(&mut Traces);

fn assert_noticed(damages: &[(&str, Damage)]) {
    for (expected, damage) in damages {
        let mut traces = Traces::sound();
        damage(&mut traces);
        let found = traces.check().violations;
        assert!(
            found.iter().any(|violation| violation.contains(expected)),
            "`{expected}` is not among {found:?}"
        );
    }
}

#[test]
fn violations_of_single_jobs_are_noticed() {
    assert_noticed(&[
        ("MixRetry: job 2 is missing", |traces| {
            traces.document(Kind::Retry, 2).insert("number", 3);
        }),
        ("was created more than once", |traces| {
            traces.document(Kind::Retry, 2).insert("number", 3);
        }),
        ("is in the ledger, and not in the store", |traces| {
            traces
                .document(Kind::Retry, 2)
                .insert("_id", ObjectId::new());
        }),
        ("is completed, not failed", |traces| {
            traces.document(Kind::Retry, 4).insert("state", "completed");
        }),
        ("has 1 accepted outcomes, not 4", |traces| {
            traces
                .document(Kind::Retry, 3)
                .insert("accepted", vec!["a"]);
        }),
        ("has failed 2 times, not 3", |traces| {
            traces.document(Kind::Retry, 3).insert("failure_count", 2);
        }),
        ("has the history", |traces| {
            traces
                .document(Kind::Retry, 3)
                .insert("history", vec!["start", "complete"]);
        }),
        ("still has `hold`", |traces| {
            traces
                .document(Kind::Retry, 3)
                .insert("hold", "limit:kill:few");
        }),
        ("still has `successors`", |traces| {
            traces
                .document(Kind::Retry, 3)
                .insert("successors", vec![doc! {}]);
        }),
        ("was claimed again after it had ended", |traces| {
            traces.line(Kind::First, 0).accepted = 1;
        }),
        (
            "was begun as attempt 2 after 0 accepted outcomes",
            |traces| {
                traces.line(Kind::First, 0).attempt = 2;
            },
        ),
        ("was begun twice under claim", |traces| {
            let line = traces.line(Kind::First, 0).clone();
            traces.notes.push(line);
        }),
        ("under which the ledger has 0 ends and not one", |traces| {
            traces
                .notes
                .retain(|note| note.kind != Kind::First || note.event == Event::Begun);
        }),
        ("ended with Again under claim", |traces| {
            let end = |note: &&mut Note| note.kind == Kind::First && note.event == Event::Done;
            traces.notes.iter_mut().find(end).unwrap().event = Event::Again;
        }),
        ("0 µs after it had ended under claim", |traces| {
            let at = traces.line(Kind::First, 0).at + WORKS;
            traces.also(Kind::First, 0, at, 0);
        }),
        ("MixRestart: job -1", |traces| {
            let job = doc! { "_id": ObjectId::new(), "_type": "MixRestart", "state": "queued" };
            traces.documents.push(job);
        }),
    ]);
}

#[test]
fn violations_of_keys_are_noticed() {
    assert_noticed(&[
        ("with the key 0 were both active", |traces| {
            // Inserted while the one before was performed.
            let first = traces.line(Kind::Reject, 0).at;
            let second = traces.told(Kind::Reject, 2);
            (second.asked, second.answered) = (first, first + 10);
        }),
        ("with the key 0 were both active", |traces| {
            let at = traces.line(Kind::Singleton, 0).at;
            traces.line(Kind::Singleton, 1).at = at + 1;
        }),
        ("which is missing", |traces| {
            traces.told(Kind::Return, 1).answer = Answer::Existing(ObjectId::new());
        }),
        ("which has the key 5", |traces| {
            traces.document(Kind::Return, 0).insert("key", 5);
        }),
        ("was active", |traces| {
            let other = traces
                .document(Kind::Return, 2)
                .get_object_id("_id")
                .unwrap();
            traces.told(Kind::Return, 1).answer = Answer::Existing(other);
        }),
        ("was told Existing", |traces| {
            let other = traces
                .document(Kind::Reject, 0)
                .get_object_id("_id")
                .unwrap();
            traces.told(Kind::Reject, 1).answer = Answer::Existing(other);
        }),
        ("though its creator was told of job", |traces| {
            traces.told(Kind::Reject, 2).answer = traces.told(Kind::Reject, 0).answer;
        }),
        ("though it was not created", |traces| {
            traces.document(Kind::Return, 0).insert("number", 12);
        }),
        ("and is missing", |traces| {
            traces.document(Kind::Singleton, 0).insert("number", 31);
        }),
        ("took its place", |traces| {
            let number = traces.told(Kind::Replace, 0).number;
            traces.document(Kind::Replace, 0).insert("number", number);
        }),
        ("had taken its place", |traces| {
            let number = traces.told(Kind::Replace, 0).number;
            let at = traces.line(Kind::Replace, 0).at;
            traces.also(Kind::Replace, 0, at, 0);
            traces.notes.last_mut().unwrap().number = number;
        }),
    ]);
}

#[test]
fn violations_of_limits_are_noticed() {
    assert_noticed(&[
        ("5 of MixThrottle with the key 0 ran at", |traces| {
            let at = traces.line(Kind::Throttle, 0).at;
            (1..5).for_each(|place| traces.also(Kind::Throttle, place, at + 10, WORKS));
        }),
        // Also when the last one was killed right after it began.
        ("3 of MixThrottleBy with the key 1 ran at", |traces| {
            let at = traces.line(Kind::ThrottleBy, 1).at;
            traces.also(Kind::ThrottleBy, 4, at + 10, WORKS);
            traces.also(Kind::ThrottleBy, 1, at + 20, 0);
        }),
        ("4 of MixReturn with the key 0 ran at", |traces| {
            let at = traces.line(Kind::Return, 0).at;
            (1..4).for_each(|place| traces.also(Kind::Return, place, at + 10, WORKS));
        }),
        ("2 of MixCronEnd with the key 0 ran at", |traces| {
            let at = traces.line(Kind::CronEnd, 0).at;
            traces.also(Kind::CronEnd, 4, at + 10, WORKS);
        }),
        ("16 of MixRate began within 999999 µs", |traces| {
            let at = traces.line(Kind::Rate, 0).at - 5_000_000;
            (0..15).for_each(|place| traces.also(Kind::Rate, 1, at + place, 0));
            traces.also(Kind::Rate, 1, at + 999_999, 0);
        }),
        ("while job", |traces| {
            let first = traces.line(Kind::First, 0).at;
            let after = traces.line(Kind::After, 0);
            (after.claimed, after.at) = (first + 50_000, first + WORKS);
        }),
        ("2000 ms after its window had opened", |traces| {
            traces.line(Kind::Window, 0).started_at = 6000;
        }),
    ]);
}

#[test]
fn violations_of_chains_are_noticed() {
    assert_noticed(&[
        ("1 times were missed after 103", |traces| {
            let slot = DateTime::from_millis((FIRST_SLOT + 10) * 1000);
            traces.document(Kind::Cron, 3).insert("cron_slot", slot);
        }),
        ("the time 104 has 2 jobs", |traces| {
            let slot = DateTime::from_millis((FIRST_SLOT + 3) * 1000);
            traces.document(Kind::Cron, 4).insert("cron_slot", slot);
        }),
        ("is for no time", |traces| {
            traces
                .document(Kind::Cron, 4)
                .insert("cron_slot", Bson::Null);
        }),
        ("another chain was accepted", |traces| {
            traces.told(Kind::Cron, 3).answer = traces.told(Kind::Cron, 0).answer;
        }),
        ("chain 0 forks at link 2", |traces| {
            let job = ObjectId::new().to_hex();
            traces.line(Kind::Restart, 2).job = job;
        }),
        ("has no end of link 1", |traces| {
            traces
                .notes
                .retain(|note| note.kind != Kind::Restart || note.link != 1);
        }),
        ("goes from the time 102 to 104 at link 2", |traces| {
            traces.line(Kind::CronEnd, 2).slot = Some(104);
        }),
        ("has link 1 begun again", |traces| {
            let at = traces.line(Kind::Restart, 2).at;
            traces.also(Kind::Restart, 1, at, 0);
        }),
        ("goes on with link 4 of 4", |traces| {
            traces.line(Kind::Restart, 3).link = LINKS;
        }),
    ]);
}

#[test]
fn a_line_that_was_cut_spoils_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.txt");
    let notes = Notes::open(&path).unwrap();
    let lines = Traces::sound().notes;
    notes.note(&lines[0]).unwrap();
    notes.note(&lines[1]).unwrap();
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.truncate(text.len() - 4);
    std::fs::write(&path, text).unwrap();
    notes.note(&lines[2]).unwrap();
    assert_eq!(
        read(&path).unwrap(),
        (vec![lines[0].clone(), lines[2].clone()], 1)
    );
}
