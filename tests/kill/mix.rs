//! The checks of the mix notice what they are there to notice.

use bson::{Bson, DateTime, doc, oid::ObjectId};

use crate::{
    mix::{
        note::{Event, Note, Notes, read},
        plan::Kind,
        told::Answer,
    },
    traces::{FIRST_SLOT, LINKS, Traces, WORKS},
};

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
