//! `servers`: listed and steered.

use std::time::Duration;

use rocketjob_core::{ServerDocument, Store, control, control::Target};
use serde_json::{Value, json};

use crate::{
    arguments::{ServersCommand, TargetArguments},
    failure::Failure,
    interrupt::Interrupt,
    output::{Output, written},
    screen::Screen,
    table::Column,
    view::ago,
};

const COLUMNS: [Column; 7] = [
    Column::whole("NAME"),
    Column::whole("STATE"),
    Column::whole("WORKERS"),
    Column::spare("STARTED"),
    Column::whole("LAST SIGN"),
    Column::spare("VERSION"),
    Column::rest("KINDS"),
];

/// Does what the command says.
pub(crate) async fn servers(
    store: &Store,
    command: &ServersCommand,
    output: &Output,
) -> Result<(), Failure> {
    let told = match command {
        ServersCommand::List { live: false, .. } => {
            return show(store, &store.servers().await?, output);
        }
        ServersCommand::List { interval, .. } => return live(store, *interval, output).await,
        ServersCommand::Pause(target) => {
            control::pause_servers(store, &select(store, target).await?).await?
        }
        ServersCommand::Resume(target) => {
            control::resume_servers(store, &select(store, target).await?).await?
        }
        ServersCommand::Dump(target) => {
            control::dump_servers(store, &select(store, target).await?).await?
        }
        ServersCommand::Stop(target) => {
            let selected = select(store, target).await?;
            confirm(store, "Stop", &selected, target, output).await?;
            control::stop_servers(store, &selected).await?
        }
        ServersCommand::Kill { target, wait } => {
            let wait = seconds("--wait", *wait)?;
            let selected = select(store, target).await?;
            confirm(store, "Kill", &selected, target, output).await?;
            control::kill_servers(store, &selected, wait).await?
        }
    };
    show(store, &told, output)
}

/// The servers that are meant, if there is one.
async fn select(store: &Store, arguments: &TargetArguments) -> Result<Target, Failure> {
    let target = match &arguments.name {
        Some(name) => Target::Named(name.clone()),
        None => Target::All,
    };
    match control::select_servers(store, &target).await {
        Ok(_) => Ok(target),
        Err(error @ rocketjob_core::Error::Configuration(_)) => {
            Err(Failure::nothing(error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

async fn confirm(
    store: &Store,
    verb: &str,
    target: &Target,
    arguments: &TargetArguments,
    output: &Output,
) -> Result<(), Failure> {
    if arguments.yes {
        return Ok(());
    }
    let selected = control::select_servers(store, target).await?;
    // Whoever names just one has said which.
    if selected.len() == 1 && selected.first().map(|server| &server.name) == arguments.name.as_ref()
    {
        return Ok(());
    }
    let names: Vec<_> = selected.iter().map(|server| server.name.as_str()).collect();
    output.confirm(&format!("{verb} {}?", names.join(", ")))
}

fn show(store: &Store, servers: &[ServerDocument], output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.document(&document(servers));
    }
    if servers.is_empty() {
        output.note("no servers");
        return Ok(());
    }
    output.line(&table(store, servers, output))
}

fn document(servers: &[ServerDocument]) -> Value {
    let servers: Vec<_> = servers.iter().map(server_json).collect();
    json!({ "servers": servers })
}

fn table(store: &Store, servers: &[ServerDocument], output: &Output) -> String {
    let now = store.now();
    let rows = servers.iter().map(|server| {
        let alive = server.heartbeat.map_or(0, |heartbeat| heartbeat.workers);
        let kinds: Vec<_> = server
            .definitions
            .iter()
            .map(|known| known.kind.as_str())
            .collect();
        vec![
            server.name.clone(),
            server.state.as_str().to_owned(),
            format!("{alive}/{}", server.max_workers),
            ago(server.started_at, now),
            ago(server.heartbeat.map(|heartbeat| heartbeat.updated_at), now),
            server.version.clone(),
            kinds.join(", "),
        ]
    });
    output.table(&COLUMNS, &rows.collect::<Vec<_>>())
}

/// A server in the stable form.
fn server_json(server: &ServerDocument) -> Value {
    let kinds: Vec<_> = server.definitions.iter().map(|known| &known.kind).collect();
    json!({
        "id": server.id.to_hex(),
        "name": server.name,
        "state": server.state.as_str(),
        "workers": server.heartbeat.map(|heartbeat| heartbeat.workers),
        "max_workers": server.max_workers,
        "started_at": server.started_at.map(|time| time.to_string()),
        "heartbeat_at": server.heartbeat.map(|heartbeat| heartbeat.updated_at.to_string()),
        "lease_seconds": server.lease().as_secs_f64(),
        "version": server.version,
        "kinds": kinds,
    })
}

/// Shows the servers until the process is asked to end.
async fn live(store: &Store, interval: f64, output: &Output) -> Result<(), Failure> {
    let interval = seconds("--interval", interval)?.max(Duration::from_millis(100));
    let interrupt = Interrupt::listen();
    let mut screen = output.is_live().then(Screen::new);
    while !interrupt.is_asked() {
        let shown = store.servers().await;
        if output.is_json() {
            output.document_line(&document(&shown?))?;
        } else {
            let text = match &shown {
                Ok(servers) => format!(
                    "{}\n{}",
                    summary(store, servers),
                    body(store, servers, output)
                ),
                // It may come back; nobody wants to start the command again.
                Err(error) => error.chain(),
            };
            match &mut screen {
                Some(screen) => written(screen.draw(&text))?,
                None => output.line(&text)?,
            }
        }
        pause(interval, &interrupt, screen.as_ref()).await;
    }
    Ok(())
}

/// One line on all of them, and when they were so.
fn summary(store: &Store, servers: &[ServerDocument]) -> String {
    let beats = servers.iter().filter_map(|server| server.heartbeat);
    let workers: u64 = beats.map(|beat| u64::from(beat.workers)).sum();
    let time = store.now().strftime("%F %T UTC");
    match servers {
        [] => format!("no servers, {time}"),
        [_] => format!("1 server, {workers} workers, {time}"),
        _ => format!("{} servers, {workers} workers, {time}", servers.len()),
    }
}

fn body(store: &Store, servers: &[ServerDocument], output: &Output) -> String {
    if servers.is_empty() {
        return String::new();
    }
    table(store, servers, output)
}

/// Waits, and not any longer than until the process is asked to end, or the terminal gets another
/// size.
async fn pause(interval: Duration, interrupt: &Interrupt, screen: Option<&Screen>) {
    const STEP: Duration = Duration::from_millis(50);
    let mut left = interval;
    let is_resized = || screen.is_some_and(Screen::is_resized);
    while !left.is_zero() && !interrupt.is_asked() && !is_resized() {
        let step = left.min(STEP);
        tokio::time::sleep(step).await;
        left = left.saturating_sub(step);
    }
}

fn seconds(option: &str, seconds: f64) -> Result<Duration, Failure> {
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        Failure::usage(format!(
            "{option} takes a number of seconds, and not `{seconds}`"
        ))
    })
}
