//! A program with its kinds and the whole command line.
//!
//! ```sh
//! export ROCKETJOB_STORE=sqlite://jobs.db
//! cargo run --example command_line -- enqueue Report '{"recipient": "ann@example.org"}'
//! cargo run --example command_line -- start --workers 4
//! cargo run --example command_line -- jobs list
//! ```

use std::{process::ExitCode, time::Duration};

use jiff::civil::Date;
use rocketjob::prelude::*;
use serde::{Deserialize, Serialize};
use validator::Validate;

/// Mails the weekly report to one user.
#[derive(RocketJob, Serialize, Deserialize, Validate, Debug)]
#[rocketjob(keep_completed, priority = 70)]
struct Report {
    #[validate(email)]
    recipient: String,
    #[field(user_editable)]
    week: Option<Date>,
    rows: Option<u64>,
}

impl Perform for Report {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        if self.recipient.starts_with("nobody@") {
            return Err("the mail box does not exist".into());
        }
        self.rows = Some(42);
        Ok(())
    }
}

/// Deletes what nobody needs any more; never twice at the same time.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[singleton]
struct Cleanup {}

impl Perform for Cleanup {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

/// Takes its time.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(pausable)]
struct Rest {
    seconds: f64,
}

impl Perform for Rest {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        tokio::time::sleep(Duration::try_from_secs_f64(self.seconds)?).await;
        Ok(())
    }
}

fn main() -> ExitCode {
    rocketjob::main()
}
