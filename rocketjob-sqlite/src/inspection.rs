//! [`InspectStore`] for a file.

use std::ops::RangeInclusive;

use async_trait::async_trait;
use rocketjob_core::{
    Clock, Finding, InspectStore, Inspection, JobDocument, JobSet, JobStore, Result, SetAside,
    Severity, Subject, SystemClock,
};
use rusqlite::Connection;

use crate::{
    error::Failure, job_set, options::SCHEME, schema, session::Session, store::SqliteStore,
};

#[async_trait]
impl InspectStore for SqliteStore {
    async fn inspect(&self) -> Result<Inspection> {
        let address = self.address();
        let clock_offset = self.time().duration_since(SystemClock.now());
        self.read(move |connection| {
            let path = address.strip_prefix(SCHEME).unwrap_or(&address);
            let mut findings = Vec::new();
            let journal: String = pragma(connection, "journal_mode")?;
            if journal != "wal" {
                findings.push(Finding::new(
                    Severity::Warning,
                    Subject::Topology,
                    format!("`{path}` is in journal mode {journal}, in which readers and writers wait for each other"),
                    "end the program that changed it, and open the file again",
                ));
            }
            let (durability, problem) = durability(pragma(connection, "synchronous")?);
            findings.extend(problem);
            findings.extend(schema::differences(connection, path)?);
            let pages: i64 = pragma(connection, "page_count")?;
            let page_size: i64 = pragma(connection, "page_size")?;
            let mebibytes = pages * page_size / (1 << 20) + 1;
            Ok(Inspection {
                product: format!("SQLite {}", rusqlite::version()),
                topology: format!(
                    "file {path} of {mebibytes} MiB in {} mode",
                    journal.to_uppercase()
                ),
                durability: durability.into(),
                clock_offset,
                findings,
            })
        })
        .await
    }

    async fn count_set(&self, set: &JobSet, at_most: u64) -> Result<u64> {
        let set = set.clone();
        self.read(move |connection| job_set::count(&Session::new(connection), &set, at_most))
            .await
    }

    async fn first_ready(
        &self,
        kind: &str,
        priorities: RangeInclusive<i64>,
        at_most: usize,
    ) -> Result<Vec<JobDocument>> {
        let kind = kind.to_owned();
        self.read(move |connection| {
            job_set::first_ready(&Session::new(connection), &kind, &priorities, at_most)
        })
        .await
    }

    async fn undecodable(&self, at_most: usize) -> Result<Vec<SetAside>> {
        self.read(move |connection| job_set::undecodable(&Session::new(connection), at_most))
            .await
    }
}

fn pragma<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> Result<T, Failure> {
    Ok(connection.pragma_query_value(None, name, |row| row.get(0))?)
}

/// When a write counts as made, and what is wrong with that.
fn durability(synchronous: i64) -> (&'static str, Option<Finding>) {
    match synchronous {
        0 => (
            "acknowledged at once, and on the disk at some time (synchronous=off)",
            Some(Finding::new(
                Severity::Warning,
                Subject::WriteConcern,
                "a power cut may damage the file",
                "open it with synchronous=full",
            )),
        ),
        1 => (
            "acknowledged by the operating system; a power cut may take the last moments (synchronous=normal)",
            None,
        ),
        _ => ("acknowledged by the disk (synchronous=full)", None),
    }
}
