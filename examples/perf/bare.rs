//! The bare programs: what can be reached with nothing but the driver, or with `SQLite` itself. Each
//! works on the documents and indexes of the system, as a process of its own.

pub(crate) mod classic;
pub(crate) mod mongo;
pub(crate) mod sqlite;

use crate::{
    Anything,
    fleet::{Order, Served, Told},
    serve::{Orders, tell},
};

/// The worker in whose name the bare programs claim.
const WORKER: &str = "perf:1:1";

/// What a bare program is told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Bare {
    /// The address of the store.
    #[arg(long)]
    pub(crate) store: String,
    /// How many jobs are claimed at a time.
    #[arg(long, default_value_t = 1)]
    pub(crate) group: usize,
    /// Keeps completed jobs in place of deleting them.
    #[arg(long)]
    pub(crate) keep: bool,
}

impl Bare {
    /// The arguments with which the program is started as this process.
    pub(crate) fn arguments(role: &str, store: &str, group: usize, keep: bool) -> Vec<String> {
        let group = group.to_string();
        let arguments = [role, "--store", store, "--group", group.as_str()];
        let keep = keep.then_some("--keep");
        arguments
            .into_iter()
            .chain(keep)
            .map(ToOwned::to_owned)
            .collect()
    }
}

/// Waits for the word to begin.
async fn begin(orders: &mut Orders) -> Anything<()> {
    tell(&Told::Ready)?;
    match orders.next().await? {
        Some(Order::Begin) => Ok(()),
        other => Err(format!("the word was {other:?}, not to begin").into()),
    }
}

/// Says how many jobs were settled, and waits for the word to end.
async fn end(mut orders: Orders, settled: u64) -> Anything<()> {
    tell(&Told::Settled(settled))?;
    while orders.next().await?.is_some() {}
    tell(&Told::Served(Served {
        settled,
        ..Served::default()
    }))
}
