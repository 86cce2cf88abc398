//! A server process of the run: the same program under a subcommand.

use std::{path::PathBuf, time::Duration};

use rocketjob::{Error, Result, Stopped, prelude::*};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;

use crate::{
    Anything,
    ledger::Ledger,
    mix::{kinds, note::Notes},
};

/// How often a server gives a sign of life.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(500);
/// How long it may be silent until others take its jobs over.
pub(crate) const LEASE: Duration = Duration::from_secs(2);
/// How long a store that is away is waited for.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a server process is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    #[arg(long)]
    store: String,
    #[arg(long)]
    ledger: PathBuf,
    #[arg(long)]
    workers: usize,
    #[arg(long)]
    mix: bool,
}

/// What it tells when it has stopped, on its output.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Served {
    pub(crate) settled: usize,
    pub(crate) refused: usize,
    pub(crate) abandoned: usize,
}

impl From<Stopped> for Served {
    fn from(stopped: Stopped) -> Self {
        Self {
            settled: stopped.settled,
            refused: stopped.refused,
            abandoned: stopped.abandoned,
        }
    }
}

/// Works until it is told to stop.
pub(crate) async fn serve(serve: Serve) -> Anything<Served> {
    // Also a process that is stopped ends with the one that started it.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    tokio::select! {
        served = work(&serve) => Ok(served?.into()),
        () = parent_is_gone() => Err("whoever started this server is gone".into()),
    }
}

async fn work(serve: &Serve) -> Anything<Stopped> {
    let store = patiently(async || rocketjob::connect(&serve.store).await).await?;
    let server = patiently(async || {
        let server = Server::builder(&store)
            .workers(serve.workers)
            .heartbeat_interval(HEARTBEAT)
            .lease(LEASE);
        let server = if serve.mix {
            kinds::register(server).shared(Notes::open(&serve.ledger).map_err(unusable)?)
        } else {
            server.shared(Ledger::open(&serve.ledger).map_err(unusable)?)
        };
        server.start().await
    });
    let server = server.await?;
    Ok(server.run_until_terminated().await?)
}

fn unusable(error: std::io::Error) -> Error {
    Error::Storage(error.into())
}

/// The other end of the input is closed when that process ends, however it ends.
async fn parent_is_gone() {
    let _ = tokio::io::stdin().read(&mut [0]).await;
}

/// Repeats `call` while the store is away.
pub(crate) async fn patiently<T>(mut call: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        match call().await {
            Err(error) if error.is_transient() && tokio::time::Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            outcome => return outcome,
        }
    }
}
