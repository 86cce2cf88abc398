//! `why`, `doctor`, and what a server tells over HTTP.

use std::{process::Stdio, time::Duration};

use bson::doc;
use rocketjob::{Change, Guard, Patch, after, date};
use rocketjob_testing::eventually;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::{
    enqueue::publish,
    program::{app, on_durable_stores, rocketjob, run, signal, stored},
    stores::Fixture,
};

/// What an address answers to a request for `path`.
async fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// A failed job whose envelope cannot be read.
async fn unreadable(fixture: &Fixture) -> String {
    let id = stored(fixture, "failed", doc! {}).await;
    let change = Change::new().set("priority", "urgent");
    let patch = Patch {
        id: id.parse().unwrap(),
        guard: Guard::default(),
        change,
    };
    // It is written, and then cannot be read.
    fixture.store.update(patch).await.unwrap_err();
    id
}

on_durable_stores! {
    async fn the_reason_for_which_a_job_does_not_run_is_told(fixture: &Fixture) {
        let tomorrow = date(after(&fixture.store, Duration::from_hours(24)));
        let scheduled = stored(fixture, "queued", doc! { "run_at": tomorrow, "hold": "scheduled", "ready": bson::Bson::Null }).await;
        let told = rocketjob(fixture, &["why", &scheduled]).await;
        assert!(told.code == 0 && told.out.contains("scheduled"), "{told:?}");
        let told = rocketjob(fixture, &["why", &scheduled, "--json"]).await.json();
        assert_eq!((&told["id"], &told["kind"], &told["state"]), (&scheduled.as_str().into(), &"Import".into(), &"queued".into()));
        let alone = stored(fixture, "queued", doc! {}).await;
        let told = rocketjob(fixture, &["why", &alone]).await;
        assert!(told.code == 0 && told.out.contains("server"), "{told:?}");
        let missing = fixture.store.next_id().to_hex();
        rocketjob(fixture, &["why", &missing]).await.failed(3, "there is no job");
        rocketjob(fixture, &["why", "42"]).await.failed(2, "invalid value '42'");
    }

    async fn what_is_wrong_is_told_and_makes_the_command_fail(fixture: &Fixture) {
        publish(fixture, "host:1").await;
        let sound = rocketjob(fixture, &["doctor"]).await;
        assert!(sound.code == 0 && sound.out.contains("topology") && sound.out.contains("1 alive"), "{sound:?}");
        stored(fixture, "queued", doc! { "_type": "Unheard" }).await;
        let sick = rocketjob(fixture, &["doctor"]).await;
        sick.failed(1, "not as it should be");
        assert!(sick.out.contains("Unheard") && sick.out.contains('→'), "{sick:?}");
        let sick = rocketjob(fixture, &["doctor", "--json"]).await;
        let told: serde_json::Value = serde_json::from_str(&sick.out).unwrap();
        assert!(told["findings"].as_array().unwrap().iter().any(|finding| finding["subject"] == "kind"), "{told}");
    }

    async fn a_job_that_cannot_be_read_is_listed_set_right_and_put_back(fixture: &Fixture) {
        let id = unreadable(fixture).await;
        let listed = rocketjob(fixture, &["jobs", "list", "--undecodable"]).await;
        assert!(listed.code == 0 && listed.out.contains(&id) && listed.out.contains("`priority` must be a whole number"), "{listed:?}");
        let listed = rocketjob(fixture, &["jobs", "list", "--undecodable", "--json"]).await.json();
        assert_eq!(listed["unreadable"][0]["id"], id.as_str());
        rocketjob(fixture, &["jobs", "retry", &id]).await.failed(1, "cannot be decoded: field `priority`");
        assert_eq!(rocketjob(fixture, &["jobs", "set", &id, "priority=50"]).await.text(), "changed: 1 job");
        assert_eq!(rocketjob(fixture, &["jobs", "retry", &id]).await.text(), "retried: 1 job");
        let listed = rocketjob(fixture, &["jobs", "list", "--undecodable", "--json"]).await.json();
        assert_eq!(listed["unreadable"], serde_json::json!([]));
    }

    async fn a_server_tells_metrics_and_hears_what_it_is_asked(fixture: &Fixture) {
        run(app(fixture), &["enqueue", "Report", r#"{"recipient": "ann@example.org"}"#]).await.text();
        let mut server = app(fixture);
        server.args(["start", "--workers", "2", "--name", "one", "--http", "127.0.0.1:0", "--log-format", "json"]).stderr(Stdio::piped());
        let mut server = server.spawn().unwrap();
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
        let address = loop {
            let line: serde_json::Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
            if let Some(address) = line["fields"]["address"].as_str() {
                break address.to_owned();
            }
        };
        let drained = tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        assert!(get(&address, "/health").await.starts_with("HTTP/1.1 200"));
        assert!(get(&address, "/ready").await.starts_with("HTTP/1.1 200"));
        eventually("a completed job is counted", async || {
            let metrics = get(&address, "/metrics").await;
            let counted = metrics.lines().any(|line| line.starts_with("rocketjob_") && line.contains("completed") && line.ends_with(" 1"));
            counted.then_some(())
        }).await;
        rocketjob(fixture, &["servers", "pause", "one"]).await.text();
        eventually("it is not ready", async || (!get(&address, "/ready").await.starts_with("HTTP/1.1 200")).then_some(())).await;
        run(app(fixture), &["start", "--http", &address, "--name", "two"]).await.failed(2, "listen");
        rocketjob(fixture, &["servers", "stop", "one"]).await.text();
        assert!(server.wait().await.unwrap().success());
        drained.await.unwrap();
        let mut server = app(fixture);
        let server = server.args(["start", "--name", "three"]).stderr(Stdio::null()).spawn().unwrap();
        eventually("it is there", async || (!fixture.store.servers().await.unwrap().is_empty()).then_some(())).await;
        signal(&server, "INT").await;
        assert!(server.wait_with_output().await.unwrap().status.success());
    }
}
