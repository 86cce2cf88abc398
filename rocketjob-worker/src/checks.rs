//! What a server finds out about its store before it begins.

use std::time::Duration;

use bson::oid::ObjectId;
use rocketjob_core::{
    ALL_PRIORITIES, Error, Handler, Inspection, JobDocument, Registry, Result, Store,
};

/// How many kinds are looked at.
const MOST_KINDS: usize = 1000;
/// From when on a difference of clocks is worth a word.
const NOTABLE_OFFSET: Duration = Duration::from_secs(2);

/// How many of the jobs of a kind that come first are read to see whether they can be.
const SAMPLE: usize = 20;

/// What a server found out about its store when it started.
#[derive(Debug, Clone, PartialEq)]
pub struct StartReport {
    /// What the store is, and what does not fit.
    pub inspection: Inspection,
    /// Kinds of which jobs are ready and which this server does not perform.
    pub foreign_kinds: Vec<String>,
    /// Kinds of which jobs wait that this server performs and cannot read: they will fail as soon as
    /// they are claimed, or wait for a newer server.
    pub unreadable: Vec<Unreadable>,
}

/// Jobs of a kind that wait and do not fit the kind's struct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The kind, or the alias, under which they are stored.
    pub kind: String,
    /// How many of those that were looked at.
    pub count: usize,
    /// How many were looked at: those that come first.
    pub looked_at: usize,
    /// The first of them.
    pub first: ObjectId,
    /// What is wrong with it.
    pub reason: String,
}

/// Looks at the store, and says in the log what is worth knowing.
pub(crate) async fn check(store: &Store, registry: &Registry) -> Result<StartReport> {
    let inspection = store.inspect().await?;
    let (mut foreign_kinds, mut unreadable) = (Vec::new(), Vec::new());
    let mut after = String::new();
    for _ in 0..MOST_KINDS {
        let Some(kind) = store.next_kind(&after).await? else {
            break;
        };
        match registry.handler(&kind) {
            None => foreign_kinds.push(kind.clone()),
            Some(handler) => {
                let sample = store.first_ready(&kind, ALL_PRIORITIES, SAMPLE).await?;
                unreadable.extend(unreadable_of(&**handler, &kind, &sample));
            }
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
    for unreadable in &unreadable {
        let Unreadable {
            kind,
            count,
            looked_at,
            first,
            reason,
        } = unreadable;
        tracing::error!(
            kind,
            count,
            looked_at,
            %first,
            reason,
            "jobs wait that this program cannot read: give the kind an `Upgrade`, or the fields defaults"
        );
    }
    Ok(StartReport {
        inspection,
        foreign_kinds,
        unreadable,
    })
}

fn unreadable_of(handler: &dyn Handler, kind: &str, sample: &[JobDocument]) -> Option<Unreadable> {
    let mut reasons = sample.iter().filter_map(|job| match handler.check(job) {
        Err(Error::Undecodable { reason, .. }) => Some((job.id(), reason)),
        // Rules are for those who create jobs.
        _ => None,
    });
    let (first, reason) = reasons.next()?;
    Some(Unreadable {
        kind: kind.to_owned(),
        count: 1 + reasons.count(),
        looked_at: sample.len(),
        first,
        reason,
    })
}
