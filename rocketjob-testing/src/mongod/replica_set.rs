//! Makes servers a replica set, and waits for them.

use std::path::Path;
use std::time::{Duration, Instant};

use bson::{Document, doc};
use mongodb::Client;
use mongodb::error::ErrorKind;
use mongodb::options::{ClientOptions, ServerAddress};

use super::Attempt;

/// How long a server may take to answer, and a set to have a primary. Starting takes about a
/// second; the rest is for machines that are busy with other tests.
const LIMIT: Duration = Duration::from_mins(1);

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(50);

/// A client of the one server at `port`, whatever its role.
pub(super) fn direct(port: u16) -> Attempt<Client> {
    let options = ClientOptions::builder()
        .hosts(vec![ServerAddress::Tcp {
            host: "127.0.0.1".to_owned(),
            port: Some(port),
        }])
        .direct_connection(true)
        .server_selection_timeout(Duration::from_millis(500))
        .build();
    Client::with_options(options).map_err(|problem| problem.to_string())
}

async fn ask(client: &Client, command: Document) -> mongodb::error::Result<Document> {
    client.database("admin").run_command(command).await
}

/// Waits until the server at `port` answers, and is the one with this data folder: another process
/// may have taken the port first. Gives up at once when `is_running` says so.
pub(super) async fn ready(port: u16, data: &Path, is_running: impl Fn() -> bool) -> Attempt<()> {
    let client = direct(port)?;
    let start = Instant::now();
    loop {
        let problem = match ask(&client, doc! { "getCmdLineOpts": 1 }).await {
            Ok(reply) if data_folder(&reply) == data.to_str() => return Ok(()),
            Ok(_) => return Err(format!("another server has port {port}")),
            Err(problem) => problem,
        };
        if !is_running() {
            return Err("it has ended".to_owned());
        }
        if start.elapsed() > LIMIT {
            return Err(format!("it does not answer: {problem}"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn data_folder(options: &Document) -> Option<&str> {
    options
        .get_document("parsed")
        .ok()?
        .get_document("storage")
        .ok()?
        .get_str("dbPath")
        .ok()
}

/// Makes the servers at `ports` the replica set `name`, unless they are one already, and waits for
/// a primary.
pub(super) async fn initiate(name: &str, ports: &[u16]) -> Attempt<()> {
    let first = ports
        .first()
        .ok_or("a replica set has at least one member")?;
    let members: Vec<_> = (0..)
        .zip(ports)
        .map(|(id, port)| member(id, *port))
        .collect();
    // A fifth of what MongoDB takes by itself until it replaces a lost primary: tests wait for it.
    let settings = doc! { "electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500 };
    let config = doc! { "_id": name, "members": members, "settings": settings };
    let command = doc! { "replSetInitiate": config };
    match ask(&direct(*first)?, command).await {
        Ok(_) => {}
        Err(problem) if is_already_initiated(&problem) => {}
        Err(problem) => return Err(format!("the replica set cannot be initiated: {problem}")),
    }
    primary(ports).await
}

fn member(id: i32, port: u16) -> Document {
    doc! { "_id": id, "host": format!("127.0.0.1:{port}") }
}

fn is_already_initiated(problem: &mongodb::error::Error) -> bool {
    matches!(problem.kind.as_ref(), ErrorKind::Command(command) if command.code_name == "AlreadyInitialized")
}

/// Waits until one of the servers at `ports` takes writes.
pub(super) async fn primary(ports: &[u16]) -> Attempt<()> {
    let clients = ports
        .iter()
        .map(|port| direct(*port))
        .collect::<Attempt<Vec<_>>>()?;
    let start = Instant::now();
    while start.elapsed() <= LIMIT {
        for client in &clients {
            if let Ok(reply) = ask(client, doc! { "hello": 1 }).await
                && reply.get_bool("isWritablePrimary").unwrap_or(false)
            {
                return Ok(());
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(format!(
        "the replica set has no primary after {} seconds",
        LIMIT.as_secs()
    ))
}
