//! Steering servers from outside: what lasts is written into their documents, and an event makes it
//! immediate.

use std::time::Duration;

use futures_util::future::try_join_all;

use super::{ServerAction, ServerCommand, Target};
use crate::{
    error::{Error, Result},
    server::{ServerDocument, ServerState},
    store::Store,
};

/// How many names an error tells.
const NAMED: usize = 10;

/// The servers that are meant.
///
/// # Errors
/// [`Error::Configuration`] when there is none, with the names that there are, and errors of the
/// store.
pub async fn select_servers(store: &Store, target: &Target) -> Result<Vec<ServerDocument>> {
    let servers = store.servers().await?;
    let selected: Vec<_> = target.select(&servers).into_iter().cloned().collect();
    if selected.is_empty() {
        return Err(nobody(target, &servers));
    }
    Ok(selected)
}

fn nobody(target: &Target, servers: &[ServerDocument]) -> Error {
    if servers.is_empty() {
        return Error::configuration("there are no servers");
    }
    let names = servers
        .iter()
        .take(NAMED)
        .map(|server| server.name.as_str());
    let names = names.collect::<Vec<_>>().join("`, `");
    let more = match servers.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let asked = match target {
        Target::Named(name) => format!("no server's name is `{name}` or contains it"),
        Target::Server(id) => format!("no server has the id {id}"),
        Target::All => "no server is meant".to_owned(),
    };
    Error::configuration(format!("{asked}: there are `{names}`{more}"))
}

/// Asks the servers that are meant for `action`, and returns them as they stand then.
///
/// Their state is changed in their documents, so that it also reaches who cannot be told at once;
/// servers of the original understand both. One that has ended meanwhile is left out.
///
/// # Errors
/// [`Error::Configuration`] when no server is meant, and errors of the store; then some may have
/// been told, and the call may be repeated.
pub async fn steer_servers(
    store: &Store,
    target: &Target,
    action: ServerAction,
) -> Result<Vec<ServerDocument>> {
    let selected = select_servers(store, target).await?;
    if let Some((from, to)) = lasting(action) {
        let changes = selected
            .iter()
            .map(|server| store.set_server_state(server.id, from, to));
        try_join_all(changes).await?;
    }
    let targets = match target {
        // Also those that register just now.
        Target::All => vec![Target::All],
        _ => selected
            .iter()
            .map(|server| Target::Server(server.id))
            .collect(),
    };
    let events: Vec<_> = targets
        .into_iter()
        .map(|target| ServerCommand { action, target }.to_event(store))
        .collect();
    try_join_all(events.iter().map(|event| store.publish(event))).await?;
    if lasting(action).is_none() {
        return Ok(selected);
    }
    let after = store.servers().await?.into_iter();
    let told = |server: &ServerDocument| selected.iter().any(|told| told.id == server.id);
    Ok(after.filter(told).collect())
}

/// What an action makes of a server's state, and in which states.
fn lasting(action: ServerAction) -> Option<(&'static [ServerState], ServerState)> {
    use ServerState::{Paused, Running, Starting, Stopping};
    match action {
        ServerAction::Pause => Some((&[Starting, Running], Paused)),
        ServerAction::Resume => Some((&[Paused], Running)),
        ServerAction::Stop | ServerAction::Kill { .. } => {
            Some((&[Starting, Running, Paused], Stopping))
        }
        ServerAction::Refresh | ServerAction::ThreadDump => None,
    }
}

/// The servers that are meant claim nothing more until they are resumed.
///
/// # Errors
/// As [`steer_servers`].
pub async fn pause_servers(store: &Store, target: &Target) -> Result<Vec<ServerDocument>> {
    steer_servers(store, target, ServerAction::Pause).await
}

/// Servers that were paused claim again.
///
/// # Errors
/// As [`steer_servers`].
pub async fn resume_servers(store: &Store, target: &Target) -> Result<Vec<ServerDocument>> {
    steer_servers(store, target, ServerAction::Resume).await
}

/// The servers that are meant let their jobs finish, and end.
///
/// # Errors
/// As [`steer_servers`].
pub async fn stop_servers(store: &Store, target: &Target) -> Result<Vec<ServerDocument>> {
    steer_servers(store, target, ServerAction::Stop).await
}

/// The servers that are meant end after `wait`, and hand back what is not finished by then.
///
/// # Errors
/// As [`steer_servers`].
pub async fn kill_servers(
    store: &Store,
    target: &Target,
    wait: Duration,
) -> Result<Vec<ServerDocument>> {
    steer_servers(store, target, ServerAction::Kill { wait }).await
}

/// The servers that are meant look at their documents at once.
///
/// # Errors
/// As [`steer_servers`].
pub async fn refresh_servers(store: &Store, target: &Target) -> Result<Vec<ServerDocument>> {
    steer_servers(store, target, ServerAction::Refresh).await
}

/// The servers that are meant write to their logs what each of their workers does.
///
/// # Errors
/// As [`steer_servers`].
pub async fn dump_servers(store: &Store, target: &Target) -> Result<Vec<ServerDocument>> {
    steer_servers(store, target, ServerAction::ThreadDump).await
}
