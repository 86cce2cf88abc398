//! Kinds of which one job for each customer is active, and what becomes of each create.

use std::ops::Range;

use clap::ValueEnum;
use rocketjob::{Created, Error, prelude::*, whole_number};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

/// Mails a customer's invoice; a second one is refused.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[unique(by = [customer])]
pub(crate) struct InvoiceMail {
    customer: i64,
    number: i64,
}

impl Perform for InvoiceMail {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

/// Imports a customer's orders; a second import is the first.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[unique(by = [customer], on_conflict = return_existing)]
pub(crate) struct OrderImport {
    customer: i64,
    number: i64,
}

impl Perform for OrderImport {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

/// Writes a customer's new address everywhere; the last one counts.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[unique(by = [customer], on_conflict = replace)]
pub(crate) struct AddressChange {
    customer: i64,
    number: i64,
}

impl Perform for AddressChange {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

/// What becomes of a second job: each has a kind here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnConflict {
    Reject,
    ReturnExisting,
    Replace,
}

/// What became of a create.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub(crate) struct Outcome {
    /// Which create it was.
    pub(crate) create: i64,
    pub(crate) became: Became,
    /// The job that holds the key.
    pub(crate) job: String,
    /// By which create that job is as it is; who was refused does not know.
    pub(crate) number: Option<i64>,
    /// What was said to who was refused.
    pub(crate) error: Option<String>,
}

#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Became {
    Inserted,
    Existing,
    Replaced,
    Refused,
}

/// Creates a job for the same customer with each number, all at once.
///
/// # Errors
/// When one has failed in another way than by a conflict.
pub(crate) async fn create_all(
    store: &Store,
    on_conflict: OnConflict,
    numbers: Range<i64>,
) -> Result<Vec<Outcome>, Error> {
    let customer = 1;
    match on_conflict {
        OnConflict::Reject => all(store, numbers, |number| InvoiceMail { customer, number }).await,
        OnConflict::ReturnExisting => {
            all(store, numbers, |number| OrderImport { customer, number }).await
        }
        OnConflict::Replace => {
            all(store, numbers, |number| AddressChange { customer, number }).await
        }
    }
}

async fn all<T: Job>(
    store: &Store,
    numbers: Range<i64>,
    job: impl Fn(i64) -> T,
) -> Result<Vec<Outcome>, Error> {
    let mut creates = JoinSet::new();
    for number in numbers {
        let (store, job) = (store.clone(), job(number));
        creates.spawn(async move { outcome(number, job.create_unique(&store).await) });
    }
    creates.join_all().await.into_iter().collect()
}

fn outcome<T: Job>(create: i64, created: Result<Created<T>, Error>) -> Result<Outcome, Error> {
    let (became, job) = match created {
        Ok(Created::Inserted(job)) => (Became::Inserted, job),
        Ok(Created::Existing(job)) => (Became::Existing, job),
        Ok(Created::Replaced(job)) => (Became::Replaced, job),
        Err(error) => {
            let Error::Existing { existing, .. } = &error else {
                return Err(error);
            };
            return Ok(Outcome {
                create,
                became: Became::Refused,
                job: existing.to_string(),
                number: None,
                error: Some(error.to_string()),
            });
        }
    };
    Ok(Outcome {
        create,
        became,
        job: job.id().to_string(),
        number: job.document().get("number").and_then(whole_number),
        error: None,
    })
}
