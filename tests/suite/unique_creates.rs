//! Unique under many creates at once: in tasks of one process on the store that has no others, and
//! otherwise in several processes.

use std::process::Stdio;

use bson::{Document, doc};
use clap::ValueEnum;
use futures_util::StreamExt;
use mongodb::change_stream::{ChangeStream, event::ChangeStreamEvent};
use rocketjob::{ReadFrom, name, prelude::*, whole_number};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use crate::{
    creates::{AddressChange, Became, InvoiceMail, OnConflict, OrderImport, Outcome, create_all},
    process,
    stores::{Fixture, on_every_store},
};

const PROCESSES: i64 = 4;
const CREATES: i64 = 50;
const ALL: i64 = PROCESSES * CREATES;

on_every_store! {
    async fn of_200_one_is_inserted_and_the_others_are_refused(fixture: &Fixture) {
        let race = race(fixture, OnConflict::Reject).await;
        for outcome in race.all_but_the_first(Became::Refused) {
            let told = format!(
                "Validation failed: State Another job with the same customer is already queued or running (job {})",
                race.job()
            );
            assert_eq!(outcome.error.as_deref(), Some(told.as_str()));
            assert_eq!(outcome.number, None);
        }
        assert_eq!(race.only::<InvoiceMail>(fixture).await, race.first.create);
        race.wrote_only([race.first.create]);
    }

    async fn of_200_one_is_inserted_and_stands_for_the_others(fixture: &Fixture) {
        let race = race(fixture, OnConflict::ReturnExisting).await;
        for outcome in race.all_but_the_first(Became::Existing) {
            assert_eq!(outcome.number, Some(race.first.create), "{outcome:?}");
        }
        assert_eq!(race.only::<OrderImport>(fixture).await, race.first.create);
        race.wrote_only([race.first.create]);
    }

    async fn of_200_each_takes_the_place_of_another_and_the_last_one_stands(fixture: &Fixture) {
        let race = race(fixture, OnConflict::Replace).await;
        for outcome in race.all_but_the_first(Became::Replaced) {
            assert_eq!(outcome.number, Some(outcome.create), "{outcome:?}");
        }
        let last = race.only::<AddressChange>(fixture).await;
        let Some(history) = &race.history else { return };
        assert_eq!((history.first(), history.last()), (Some(&race.first.create), Some(&last)));
        // Each stood there once: so each but the last has been replaced, by the next one alone.
        let mut each: Vec<_> = history.clone();
        each.sort_unstable();
        assert_eq!(each, (0..ALL).collect::<Vec<_>>(), "{history:?}");
        let others_came = |pair: &&[i64]| pair[0] / CREATES != pair[1] / CREATES;
        let turns = history.windows(2).filter(others_came).count();
        println!("number {} came first and {last} last; {turns} times the next one came from another process", race.first.create);
    }
}

/// What became of all creates.
struct Race {
    /// That of the one that was inserted.
    first: Outcome,
    others: Vec<Outcome>,
    /// The numbers that were written, in their order, where the store tells.
    history: Option<Vec<i64>>,
}

/// Lets all begin at once.
async fn race(fixture: &Fixture, on_conflict: OnConflict) -> Race {
    let witness = Witness::call(fixture).await;
    let mut others = if fixture.database.is_none() && fixture.address == "memory://" {
        create_all(&fixture.store, on_conflict, 0..ALL)
            .await
            .unwrap()
    } else {
        in_processes(fixture, on_conflict).await
    };
    let mut creates: Vec<_> = others.iter().map(|outcome| outcome.create).collect();
    creates.sort_unstable();
    assert_eq!(
        creates,
        (0..ALL).collect::<Vec<_>>(),
        "each says what became of it"
    );
    let inserted = |outcome: &Outcome| outcome.became == Became::Inserted;
    let first = others.iter().position(inserted).expect("one is inserted");
    let first = others.swap_remove(first);
    assert_eq!(first.number, Some(first.create));
    let history = witness.history(fixture).await;
    Race {
        first,
        others,
        history,
    }
}

async fn in_processes(fixture: &Fixture, on_conflict: OnConflict) -> Vec<Outcome> {
    let on_conflict = on_conflict.to_possible_value().unwrap();
    let mut children = Vec::new();
    for process in 0..PROCESSES {
        let mut child = process::example("unique")
            .args(["--store", &fixture.address, "--wait"])
            .args(["--creates", &CREATES.to_string()])
            .args(["--first", &(process * CREATES).to_string()])
            .args(["--on-conflict", on_conflict.get_name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example can be started");
        let says = BufReader::new(child.stdout.take().unwrap());
        children.push((child, says));
    }
    for (_, says) in &mut children {
        let mut line = String::new();
        says.read_line(&mut line).await.unwrap();
        assert_eq!(line, "ready\n");
    }
    for (child, _) in &mut children {
        drop(child.stdin.take());
    }
    let mut outcomes = Vec::new();
    for (mut child, mut says) in children {
        let mut text = String::new();
        says.read_to_string(&mut text).await.unwrap();
        assert!(child.wait().await.unwrap().success());
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        outcomes.extend(lines);
    }
    outcomes
}

impl Race {
    fn job(&self) -> &str {
        &self.first.job
    }

    /// All others, of which this became, beside the same job.
    fn all_but_the_first(&self, became: Became) -> &[Outcome] {
        for outcome in &self.others {
            assert_eq!(
                (outcome.became, outcome.job.as_str()),
                (became, self.job()),
                "{outcome:?}"
            );
        }
        &self.others
    }

    /// The number of the job that is there: one of the kind, which waits and has the key.
    async fn only<T: Job>(&self, fixture: &Fixture) -> i64 {
        let jobs = T::query(&fixture.store).documents().await.unwrap();
        let [job] = jobs.as_slice() else {
            panic!("{jobs:?}")
        };
        assert_eq!(
            (job.id().to_string().as_str(), job.state()),
            (self.job(), State::Queued)
        );
        let with_key = Filter::exists(name::UNIQUE_KEY);
        let with_key = fixture.store.count(&with_key, ReadFrom::Primary).await;
        assert_eq!(with_key.unwrap(), 1);
        job.get("number").and_then(whole_number).unwrap()
    }

    fn wrote_only(&self, numbers: impl Into<Vec<i64>>) {
        if let Some(history) = &self.history {
            assert_eq!(history, &numbers.into());
        }
    }
}

/// Sees which numbers are written one after the other: the store itself tells.
enum Witness {
    Nobody,
    File(rusqlite::Connection),
    Stream(Box<ChangeStream<ChangeStreamEvent<Document>>>),
}

/// Notes each row of a job as it is written, in the same transaction.
const NOTE: &str = "
    CREATE TABLE written (place INTEGER PRIMARY KEY AUTOINCREMENT, rest BLOB);
    CREATE TRIGGER inserted AFTER INSERT ON jobs
        BEGIN INSERT INTO written (rest) VALUES (NEW.rest); END;
    CREATE TRIGGER updated AFTER UPDATE ON jobs
        BEGIN INSERT INTO written (rest) VALUES (NEW.rest); END;";

impl Witness {
    async fn call(fixture: &Fixture) -> Self {
        if let Some(database) = &fixture.database {
            let client = database.client().await;
            let jobs = client
                .database(database.name())
                .collection("rocket_job.jobs");
            return Self::Stream(Box::new(jobs.watch().await.unwrap()));
        }
        if fixture.address == "memory://" {
            return Self::Nobody;
        }
        let file = rusqlite::Connection::open(fixture.path("jobs.db")).unwrap();
        file.execute_batch(NOTE).unwrap();
        Self::File(file)
    }

    async fn history(self, fixture: &Fixture) -> Option<Vec<i64>> {
        let number = |fields: &Document| fields.get("number").and_then(whole_number);
        match self {
            Self::Nobody => None,
            Self::File(file) => {
                let mut rows = file
                    .prepare("SELECT rest FROM written ORDER BY place")
                    .unwrap();
                let rests = rows.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
                let fields =
                    rests.map(|rest| Document::from_reader(rest.unwrap().as_slice()).unwrap());
                Some(fields.map(|fields| number(&fields).unwrap()).collect())
            }
            Self::Stream(mut stream) => {
                // What is written behind all the others ends the stream.
                let end = doc! { "number": -1 };
                let database = fixture.database.as_ref().unwrap();
                let client = database.client().await;
                let jobs = client
                    .database(database.name())
                    .collection("rocket_job.jobs");
                let end = jobs.insert_one(end).await.unwrap().inserted_id;
                let mut history = Vec::new();
                loop {
                    let event = stream.next().await.unwrap().unwrap();
                    let fields = event
                        .full_document
                        .or(event.update_description.map(|update| update.updated_fields));
                    match number(&fields.unwrap()).unwrap() {
                        -1 => break,
                        number => history.push(number),
                    }
                }
                jobs.delete_one(doc! { "_id": end }).await.unwrap();
                Some(history)
            }
        }
    }
}
