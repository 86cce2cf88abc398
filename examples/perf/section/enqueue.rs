//! How fast jobs are created, many at a time and one by one, beside bare inserts of the same
//! documents.

use std::time::Duration;

use bson::Document;
use futures_util::future::try_join_all;
use mongodb::{
    Collection,
    options::{CollectionOptions, WriteConcern},
};
use rocketjob::prelude::*;
use rusqlite::{Connection, params_from_iter, types::Value as Cell};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    Anything,
    bare::sqlite,
    job::PerfJob,
    place::{self, Folder, JOBS, Mongo},
    plan::Plan,
    report::{Bound, Column, Section, Unit},
    statistics::number,
};

const COLUMNS: &[Column] = &[Column {
    figure: "rate",
    title: "jobs/s",
    decimals: 0,
}];

/// How many create jobs one by one at the same time.
const PRODUCERS: usize = 10;
/// So many fewer jobs are created one by one, which takes longer.
const FEWER: usize = 5;
/// How many documents the bare programs insert at a time; as many as the system.
const GROUP: usize = 1000;

pub(crate) async fn measure(plan: &Plan) -> Anything<Section> {
    let about = format!(
        "{} jobs at once and {} one by one. On MongoDB by the majority, with the journal, and one by \
         one by {PRODUCERS} producers at the same time; on SQLite with synchronous FULL. The bare \
         programs insert the same documents, which they have ready.",
        plan.jobs,
        plan.jobs.div_ceil(FEWER)
    );
    let mut section = Section::new("enqueue", about, COLUMNS);
    mongo(plan, &mut section).await?;
    file(plan, &mut section).await?;
    Ok(section)
}

async fn mongo(plan: &Plan, section: &mut Section) -> Anything<()> {
    let mongo = Mongo::start().await;
    let store = rocketjob::connect(&mongo.url()).await?;
    let database = mongo.client().await?.default_database();
    let mut concern = WriteConcern::majority();
    concern.journal = Some(true);
    let options = CollectionOptions::builder().write_concern(concern).build();
    let bare: Collection<Document> = database
        .ok_or("no database is named")?
        .collection_with_options(JOBS, options);
    let single = plan.jobs.div_ceil(FEWER);
    let [many, bare_many, one, bare_one] = [
        "mongodb, create_many",
        "mongodb, insert_many",
        "mongodb, create",
        "mongodb, insert_one",
    ];
    for round in 1..=plan.rounds {
        for way in in_turn([many, bare_many, one, bare_one], round) {
            place::empty(&store).await?;
            place::rest().await;
            let (jobs, time) = match way {
                _ if way == many => (plan.jobs, create_many(&store, plan.jobs).await?),
                _ if way == bare_many => (plan.jobs, insert_many(&store, &bare, plan.jobs).await?),
                _ if way == one => (single, create(&store, single).await?),
                _ => (single, insert_one(&store, &bare, single).await?),
            };
            add(section, &store, way, round, jobs, time).await?;
        }
    }
    let bound = Some(Bound::AtLeast(0.85));
    section.compare(many, bare_many, "rate", Unit::Percent, bound);
    section.compare(one, bare_one, "rate", Unit::Percent, bound);
    Ok(())
}

async fn file(plan: &Plan, section: &mut Section) -> Anything<()> {
    let folder = Folder::new()?;
    let store = rocketjob::connect(&folder.url("jobs.db")).await?;
    let single = plan.jobs.div_ceil(FEWER);
    let rows = rows(&folder, &store, plan.jobs).await?;
    let [many, bare_many, one, bare_one] = [
        "sqlite, create_many",
        "sqlite, bare, 1000 in a transaction",
        "sqlite, create",
        "sqlite, bare, 1 in a transaction",
    ];
    for round in 1..=plan.rounds {
        for way in in_turn([many, bare_many, one, bare_one], round) {
            place::empty(&store).await?;
            place::rest().await;
            let insert = |rows: &[Vec<Cell>], group| {
                let mut connection = sqlite::open(&folder.path("jobs.db"))?;
                insert_rows(&mut connection, rows, group)
            };
            let (jobs, time) = match way {
                _ if way == many => (plan.jobs, create_many(&store, plan.jobs).await?),
                _ if way == bare_many => (plan.jobs, insert(&rows, GROUP)?),
                _ if way == one => (single, create(&store, single).await?),
                _ => (single, insert(&rows[..single], 1)?),
            };
            add(section, &store, way, round, jobs, time).await?;
        }
    }
    section.compare(many, bare_many, "rate", Unit::Percent, None);
    section.compare(one, bare_one, "rate", Unit::Percent, None);
    Ok(())
}

/// No way always follows on the same one.
fn in_turn<const N: usize>(mut ways: [&str; N], round: usize) -> [&str; N] {
    if round.is_multiple_of(2) {
        ways.reverse();
    }
    ways
}

async fn add(
    section: &mut Section,
    store: &Store,
    way: &str,
    round: usize,
    jobs: usize,
    time: Duration,
) -> Anything<()> {
    let found = store
        .count(&Filter::all(), rocketjob::ReadFrom::Primary)
        .await?;
    let figures = json!({
        "jobs": jobs,
        "found": found,
        "seconds": time.as_secs_f64(),
        "rate": number(jobs) / time.as_secs_f64(),
    });
    section.add(way, round, figures);
    if found != jobs as u64 {
        return Err(format!("{found} of {jobs} jobs are there").into());
    }
    Ok(())
}

async fn create_many(store: &Store, jobs: usize) -> Anything<Duration> {
    let jobs: Vec<_> = PerfJob::some(jobs).collect();
    let began = Instant::now();
    for created in PerfJob::create_many(store, jobs).await? {
        created?;
    }
    Ok(began.elapsed())
}

async fn insert_many(
    store: &Store,
    bare: &Collection<Document>,
    jobs: usize,
) -> Anything<Duration> {
    let documents = documents(store, jobs)?;
    let began = Instant::now();
    for group in documents.chunks(GROUP) {
        bare.insert_many(group).ordered(false).await?;
    }
    Ok(began.elapsed())
}

async fn create(store: &Store, jobs: usize) -> Anything<Duration> {
    let parts = parts(PerfJob::some(jobs).collect());
    let began = Instant::now();
    let producers = parts.into_iter().map(|jobs| {
        let store = store.clone();
        tokio::spawn(async move {
            for job in jobs {
                job.create(&store).await?;
            }
            Ok::<_, rocketjob::Error>(())
        })
    });
    for produced in try_join_all(producers).await? {
        produced?;
    }
    Ok(began.elapsed())
}

async fn insert_one(store: &Store, bare: &Collection<Document>, jobs: usize) -> Anything<Duration> {
    let parts = parts(documents(store, jobs)?);
    let began = Instant::now();
    let producers = parts.into_iter().map(|documents| {
        let bare = bare.clone();
        tokio::spawn(async move {
            for document in documents {
                bare.insert_one(document).await?;
            }
            Ok::<_, mongodb::error::Error>(())
        })
    });
    for produced in try_join_all(producers).await? {
        produced?;
    }
    Ok(began.elapsed())
}

/// The documents that the system would insert.
fn documents(store: &Store, jobs: usize) -> Anything<Vec<Document>> {
    let jobs = PerfJob::some(jobs).map(rocketjob::NewJob::from);
    jobs.map(|job| Ok(job.prepare(&**store)?.into_document()))
        .collect()
}

/// A part for each producer.
fn parts<T>(all: Vec<T>) -> Vec<Vec<T>> {
    let mut parts: Vec<_> = (0..PRODUCERS).map(|_| Vec::new()).collect();
    for (number, one) in all.into_iter().enumerate() {
        parts[number % PRODUCERS].push(one);
    }
    parts
}

/// The rows that the system writes for so many jobs.
async fn rows(folder: &Folder, store: &Store, jobs: usize) -> Anything<Vec<Vec<Cell>>> {
    PerfJob::create_many(store, PerfJob::some(jobs)).await?;
    let connection = sqlite::open(&folder.path("jobs.db"))?;
    let mut statement = connection.prepare("SELECT * FROM jobs ORDER BY id")?;
    let width = statement.column_count();
    let rows = statement.query_map([], |row| (0..width).map(|column| row.get(column)).collect())?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn insert_rows(
    connection: &mut Connection,
    rows: &[Vec<Cell>],
    group: usize,
) -> Anything<Duration> {
    let width = rows.first().map_or(0, Vec::len);
    let places = vec!["?"; width].join(", ");
    let insert = format!("INSERT INTO jobs VALUES ({places})");
    let began = Instant::now();
    for group in rows.chunks(group) {
        let transaction =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for row in group {
            transaction
                .prepare_cached(&insert)?
                .execute(params_from_iter(row))?;
        }
        transaction.commit()?;
    }
    Ok(began.elapsed())
}
