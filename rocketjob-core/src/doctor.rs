//! What is wrong with a store and with those who work on it, and what to do about it.
//!
//! [`examine`] looks at everything that a person would look at one after the other. Each of its
//! queries is bounded and uses an index.

mod check;

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    error::Result,
    inspection::{Finding, Inspection, Severity, Subject},
    storage::Storage,
};

/// What [`examine`] has found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Diagnosis {
    /// What was looked at; never contains a password.
    pub address: String,
    /// When, on the store's clock.
    pub asked_at: Timestamp,
    /// What the store tells of itself; `None` when it cannot be reached.
    pub inspection: Option<Inspection>,
    /// How many servers are alive.
    pub live_servers: usize,
    /// What is not as it should be, the worst first.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// How bad the worst finding is; `None` when all is well.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }
}

/// Looks for what is wrong with `store`, its jobs and its servers.
///
/// A store that cannot be reached is a finding too, and so is what cannot be looked at.
///
/// # Errors
/// Those of a store that can be reached at first, and does not tell its servers.
///
/// # Examples
/// ```
/// use rocketjob_core::{MemoryStore, Store, examine};
///
/// # pollster::block_on(async {
/// let store = Store::new(MemoryStore::new());
/// let diagnosis = examine(&*store).await?;
/// assert_eq!(diagnosis.findings, []);
/// # Ok::<_, rocketjob_core::Error>(())
/// # }).unwrap();
/// ```
pub async fn examine(store: &dyn Storage) -> Result<Diagnosis> {
    let mut diagnosis = Diagnosis {
        address: store.address(),
        asked_at: store.now(),
        inspection: None,
        live_servers: 0,
        findings: Vec::new(),
    };
    let inspection = match store.inspect().await {
        Ok(inspection) => inspection,
        Err(error) => {
            diagnosis.findings.push(Finding::new(
                Severity::Error,
                Subject::Connection,
                format!("the store cannot be inspected: {}", error.chain()),
                "see whether it runs, and whether its address, user and password are right",
            ));
            return Ok(diagnosis);
        }
    };
    diagnosis.findings = inspection.findings.clone();
    diagnosis
        .findings
        .extend(check::clock(inspection.clock_offset));
    diagnosis.inspection = Some(inspection);
    let examination = check::Examination::start(store).await?;
    diagnosis.live_servers = examination.live().count();
    diagnosis.findings.extend(examination.run().await);
    diagnosis
        .findings
        .sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Ok(diagnosis)
}
