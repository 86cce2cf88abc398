//! What a server finds out about its store before it begins.

use std::time::Duration;

use rocketjob_core::{Inspection, Registry, Result, Store};

/// How many kinds are looked at.
const MOST_KINDS: usize = 1000;
/// From when on a difference of clocks is worth a word.
const NOTABLE_OFFSET: Duration = Duration::from_secs(2);

/// What a server found out about its store when it started.
#[derive(Debug, Clone, PartialEq)]
pub struct StartReport {
    /// What the store is, and what does not fit.
    pub inspection: Inspection,
    /// Kinds of which jobs are ready and which this server does not perform.
    pub foreign_kinds: Vec<String>,
}

/// Looks at the store, and says in the log what is worth knowing.
pub(crate) async fn check(store: &Store, registry: &Registry) -> Result<StartReport> {
    let inspection = store.inspect().await?;
    let mut foreign_kinds = Vec::new();
    let mut after = String::new();
    for _ in 0..MOST_KINDS {
        let Some(kind) = store.next_kind(&after).await? else {
            break;
        };
        if registry.handler(&kind).is_none() {
            foreign_kinds.push(kind.clone());
        }
        after = kind;
    }
    tracing::info!(
        store = store.address(),
        product = inspection.product,
        topology = inspection.topology,
        durability = inspection.durability,
        clock_offset = %inspection.clock_offset,
        "the store"
    );
    if inspection.clock_offset.unsigned_abs() >= NOTABLE_OFFSET {
        tracing::warn!(
            clock_offset = %inspection.clock_offset,
            "the store's clock differs from this machine's: all times of jobs are the store's"
        );
    }
    for finding in &inspection.findings {
        tracing::warn!(%finding, "the store is not as it should be");
    }
    if !foreign_kinds.is_empty() {
        tracing::warn!(
            kinds = foreign_kinds.join(", "),
            "jobs of kinds wait that this server does not perform: another server must, or nobody does"
        );
    }
    Ok(StartReport {
        inspection,
        foreign_kinds,
    })
}
