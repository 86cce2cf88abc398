//! `servers`: listed and steered by name, by a part of the name, or all.

use std::{process::Stdio, time::Duration};

use rocketjob::{Heartbeat, PublishedDefinition, ServerDocument, ServerState, control};
use rocketjob_testing::eventually;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::{
    enqueue::publish,
    program::{admin, on_durable_stores, rocketjob, signal},
    stores::Fixture,
};

/// A server's document, as one that has just given a sign of life.
pub(crate) fn document(
    fixture: &Fixture,
    name: &str,
    state: ServerState,
    definitions: Vec<PublishedDefinition>,
) -> ServerDocument {
    let now = fixture.store.now();
    let mut server = starting(fixture, name);
    server.state = state;
    server.started_at = Some(now);
    server.heartbeat = Some(Heartbeat {
        updated_at: now,
        workers: 3,
        counter: 1,
    });
    server.definitions = definitions;
    server
}

fn starting(fixture: &Fixture, name: &str) -> ServerDocument {
    ServerDocument {
        id: fixture.store.next_id(),
        name: name.into(),
        max_workers: 10,
        started_at: None,
        state: ServerState::Starting,
        heartbeat: None,
        lease: Some(Duration::from_mins(1)),
        version: "0.1.0".into(),
        definitions: Vec::new(),
        filter: None,
        poll_interval: None,
    }
}

async fn states(fixture: &Fixture) -> Vec<String> {
    let servers = fixture.store.servers().await.unwrap();
    servers
        .iter()
        .map(|server| format!("{}={}", server.name, server.state.as_str()))
        .collect()
}

on_durable_stores! {
    async fn servers_are_listed(fixture: &Fixture) {
        let none = rocketjob(fixture, &["servers", "list"]).await;
        assert_eq!((none.code, none.err.as_str()), (0, "no servers\n"));
        assert_eq!(rocketjob(fixture, &["servers", "list", "--json"]).await.json(), serde_json::json!({ "servers": [] }));
        publish(fixture, "import-1").await;
        let listed = rocketjob(fixture, &["servers", "list"]).await;
        let expected = "\
NAME STATE WORKERS STARTED LAST SIGN VERSION KINDS
import-1 running 3/10 AGE ago AGE ago 0.1.0 Report, Cleanup, Call";
        assert_eq!(listed.text(), expected);
        let server = rocketjob(fixture, &["servers", "list", "--json"]).await.json()["servers"][0].clone();
        assert_eq!((&server["name"], &server["workers"], &server["lease_seconds"]), (&"import-1".into(), &3.into(), &60.0.into()));
        assert_eq!(server["kinds"], serde_json::json!(["Report", "Cleanup", "Call"]));

        let mut live = admin(fixture);
        live.args(["servers", "list", "--live", "--interval", "0.1", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut live = live.spawn().unwrap();
        let mut lines = BufReader::new(live.stdout.take().unwrap()).lines();
        assert!(lines.next_line().await.unwrap().unwrap().contains("running"));
        let id = server["id"].as_str().unwrap().parse().unwrap();
        fixture.store.set_server_state(id, &[ServerState::Running], ServerState::Paused).await.unwrap();
        while !lines.next_line().await.unwrap().unwrap().contains("paused") {}
        signal(&live, "INT").await;
        assert!(live.wait().await.unwrap().success());
        rocketjob(fixture, &["servers", "list", "--live", "--interval", "-1"]).await.failed(2, "--interval");
    }

    async fn servers_are_steered_by_name_part_of_it_or_all(fixture: &Fixture) {
        rocketjob(fixture, &["servers", "pause", "--all"]).await.failed(3, "there are no servers");
        for name in ["import-1", "import-2", "mail-1"] {
            publish(fixture, name).await;
        }
        rocketjob(fixture, &["servers", "pause", "nobody"]).await.failed(3, "no server's name is `nobody` or contains it");
        rocketjob(fixture, &["servers", "pause"]).await.failed(2, "required");
        rocketjob(fixture, &["servers", "pause", "x", "--all"]).await.failed(2, "cannot be used with");
        let paused = rocketjob(fixture, &["servers", "pause", "import"]).await.text();
        assert!(paused.contains("import-1 paused") && paused.contains("import-2 paused") && !paused.contains("mail"), "{paused}");
        assert_eq!(states(fixture).await, ["import-1=paused", "import-2=paused", "mail-1=running"]);
        rocketjob(fixture, &["servers", "resume", "import-2"]).await.text();
        assert_eq!(states(fixture).await, ["import-1=paused", "import-2=running", "mail-1=running"]);
        let begin = fixture.store.event_end().await.unwrap();
        let dumped = rocketjob(fixture, &["servers", "dump", "--all", "--json"]).await.json();
        assert_eq!(dumped["servers"].as_array().unwrap().len(), 3);
        let told = || async { fixture.store.events(&begin, 10).await.unwrap().0 };
        eventually("the event is there", async || (!told().await.is_empty()).then_some(())).await;
        let command = control::ServerCommand::from_event(&told().await[0]).unwrap();
        assert_eq!(command.action, control::ServerAction::ThreadDump);

        rocketjob(fixture, &["servers", "stop", "import"]).await.failed(2, "Stop import-1, import-2? Nobody can be asked here");
        rocketjob(fixture, &["servers", "kill", "--all"]).await.failed(2, "Kill import-1, import-2, mail-1?");
        rocketjob(fixture, &["servers", "kill", "mail-1", "--wait", "-5"]).await.failed(2, "--wait");
        rocketjob(fixture, &["servers", "kill", "mail-1", "--wait", "0.5"]).await.text();
        assert_eq!(states(fixture).await, ["import-1=paused", "import-2=running", "mail-1=stopping"]);
        rocketjob(fixture, &["servers", "stop", "import", "--yes"]).await.text();
        assert_eq!(states(fixture).await, ["import-1=stopping", "import-2=stopping", "mail-1=stopping"]);
    }
}
