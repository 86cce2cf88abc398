//! Imports a file of facts into a database: the changes of the clocks of the world since 2005.
//!
//! ```text
//! cargo run --release --example import
//! cargo run --release --example import -- --store mongodb://127.0.0.1:27017/rocketjob
//! ```
//!
//! The job is stored in the store that `--store` names, performed by a worker thread of this
//! process, and followed from the outside, as a web page would: by reading it again.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

use std::{path::PathBuf, process::ExitCode, sync::Mutex, time::Duration};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};
use validator::Validate;

/// Imports a file of zone changes.
#[derive(RocketJob, Serialize, Deserialize, Validate, Debug)]
#[rocketjob(
    kind = "ImportJob",
    description = "Imports zone changes",
    priority = 20,
    keep_completed
)]
struct ImportJob {
    /// The CSV file.
    #[validate(length(min = 1, message = "must name a file"))]
    #[field(user_editable, label = "File")]
    file: String,
    /// Written by `perform`; visible on the completed job.
    summary: Option<Summary>,
}

/// What an import came to.
#[derive(Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
struct Summary {
    rows: i64,
    zones: i64,
    busiest_zone: String,
    busiest_changes: i64,
    rejected: Vec<String>,
}

/// A row of the file.
#[derive(Deserialize)]
struct ZoneChange {
    zone: String,
    changes_at: jiff::Timestamp,
    offset_minutes: i32,
    daylight_saving: String,
}

/// Where the rows go: the application's own database, shared by all its jobs.
struct Zones(Mutex<rusqlite::Connection>);

impl Perform for ImportJob {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        let zones = job.shared::<Zones>()?;
        let size = std::fs::metadata(&self.file)?.len().max(1);
        let mut reader = csv::Reader::from_path(&self.file)?;
        let mut rejected = Vec::new();
        loop {
            // A check point: stops here when the server does, and goes on from the start later.
            job.check()?;
            let rows: Vec<_> = reader.deserialize::<ZoneChange>().take(250).collect();
            if rows.is_empty() {
                break;
            }
            rejected.extend(zones.write(rows)?);
            let percent = reader.position().byte() * 100 / size;
            job.progress(u8::try_from(percent).unwrap_or(100));
            job.save(self).await?;
        }
        self.summary = Some(zones.summary(rejected)?);
        Ok(())
    }
}

impl Zones {
    fn open(path: &PathBuf) -> Result<Self, rusqlite::Error> {
        let database = rusqlite::Connection::open(path)?;
        database.execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE IF NOT EXISTS zone_changes (
                 zone TEXT NOT NULL, changes_at INTEGER NOT NULL, offset_minutes INTEGER NOT NULL,
                 daylight_saving INTEGER NOT NULL, PRIMARY KEY (zone, changes_at)) WITHOUT ROWID;
             DELETE FROM zone_changes;",
        )?;
        Ok(Self(Mutex::new(database)))
    }

    /// Writes rows, and returns what is wrong with those that are not rows.
    fn write(&self, rows: Vec<Result<ZoneChange, csv::Error>>) -> JobResult<Vec<String>> {
        let mut rejected = Vec::new();
        let mut database = self
            .0
            .lock()
            .map_err(|_| "the database connection is broken")?;
        let transaction = database.transaction()?;
        for row in rows {
            match row {
                Ok(row) => {
                    // A job may be performed again after a crash: writing a row twice must do no harm.
                    let sql = "INSERT OR REPLACE INTO zone_changes VALUES (?1, ?2, ?3, ?4)";
                    let daylight_saving = row.daylight_saving == "yes";
                    let values = (
                        row.zone,
                        row.changes_at.as_second(),
                        row.offset_minutes,
                        daylight_saving,
                    );
                    transaction.prepare_cached(sql)?.execute(values)?;
                }
                Err(error) => rejected.push(error.to_string()),
            }
        }
        transaction.commit()?;
        Ok(rejected)
    }

    fn summary(&self, rejected: Vec<String>) -> JobResult<Summary> {
        let database = self
            .0
            .lock()
            .map_err(|_| "the database connection is broken")?;
        let (rows, zones) = database.query_row(
            "SELECT count(*), count(DISTINCT zone) FROM zone_changes",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let (busiest_zone, busiest_changes) = database.query_row(
            "SELECT zone, count(*) AS changes FROM zone_changes GROUP BY zone ORDER BY changes DESC, zone LIMIT 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        Ok(Summary {
            rows,
            zones,
            busiest_zone,
            busiest_changes,
            rejected,
        })
    }
}

#[derive(Parser)]
#[command(about = "Imports the changes of the clocks of the world with a Rocket Job")]
struct Arguments {
    /// Where jobs are stored.
    #[arg(long, default_value = "sqlite://rocketjob-example.db")]
    store: String,
    /// Where the rows go.
    #[arg(long, default_value = "zone-changes.db")]
    database: PathBuf,
    /// The file to import.
    #[arg(default_value = "examples/data/zone-changes.csv")]
    file: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                eprintln!("  caused by: {cause}");
                source = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let store = rocketjob::connect(&arguments.store).await?;
    println!("Store:    {}", store.address());

    let zones = Zones::open(&arguments.database)?;
    let server = Server::builder(&store)
        .workers(2)
        .shared(zones)
        .start()
        .await?;
    let mut job = ImportJob {
        file: arguments.file,
        summary: None,
    }
    .create(&store)
    .await?;
    println!("Job:      {} {}", ImportJob::DEFINITION.kind, job.id());

    let style =
        ProgressStyle::with_template("Progress: [{bar:40}] {percent:>3} %")?.progress_chars("=> ");
    let bar = ProgressBar::new(100).with_style(style);
    while matches!(job.state(), State::Queued | State::Running) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        job.reload().await?;
        bar.set_position(u64::try_from(job.document().percent_complete())?);
    }
    bar.finish();
    server.stop().await?;

    if let Some(exception) = job.exception() {
        println!("Failed:   {exception}");
        return Ok(ExitCode::FAILURE);
    }
    let summary = job.summary.clone().unwrap_or_default();
    println!("State:    {}", job.state());
    println!(
        "Imported: {} changes of {} zones",
        summary.rows, summary.zones
    );
    println!(
        "Busiest:  {} with {} changes",
        summary.busiest_zone, summary.busiest_changes
    );
    println!("Rejected: {} rows", summary.rejected.len());
    for row in &summary.rejected {
        println!("          {row}");
    }
    Ok(ExitCode::SUCCESS)
}
