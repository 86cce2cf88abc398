//! `start`: a server in the user's program.

use std::process::Stdio;

use rocketjob::{Filter, ReadFrom, State};
use rocketjob_testing::eventually;

use crate::{
    program::{app, on_durable_stores, ran, rocketjob, run, signal},
    stores::Fixture,
};

async fn count(fixture: &Fixture, filter: Filter) -> u64 {
    fixture
        .store
        .count(&filter, ReadFrom::Primary)
        .await
        .unwrap()
}

on_durable_stores! {
    async fn a_server_performs_what_it_is_told_to_until_it_is_ended(fixture: &Fixture) {
        for fields in [r#"{"recipient": "ann@example.org"}"#, r#"{"recipient": "nobody@example.org"}"#] {
            run(app(fixture), &["enqueue", "Report", fields]).await.text();
        }
        run(app(fixture), &["enqueue", "Report", r#"{"recipient": "bob@example.org"}"#, "--priority", "99"]).await.text();
        run(app(fixture), &["enqueue", "Cleanup"]).await.text();
        let pid_file = fixture.path("server.pid");
        std::fs::write(&pid_file, "4194399\n").unwrap();
        let pid_path = pid_file.to_str().unwrap();
        let mut server = app(fixture);
        server.args(["start", "--workers", "2", "--name", "one", "--include", "Re*", "--exclude", "Re?t", "--where", "priority:<80"])
            .args(["--pid-file", pid_path, "--log-level", "info", "--log-format", "json"])
            .stdout(Stdio::piped()).stderr(Stdio::piped());
        let server = server.spawn().unwrap();
        eventually("the jobs have ended", async || {
            (count(fixture, Filter::states([State::Completed, State::Failed])).await == 2).then_some(())
        }).await;
        assert_eq!(count(fixture, Filter::state(State::Queued)).await, 2, "another kind, and another priority");
        let listed = rocketjob(fixture, &["servers", "list", "--json"]).await.json()["servers"][0].clone();
        assert_eq!((&listed["name"], &listed["max_workers"], &listed["kinds"]), (&"one".into(), &2.into(), &serde_json::json!(["Report"])));
        let written = std::fs::read_to_string(&pid_file).unwrap();
        assert_eq!(written.trim(), server.id().unwrap().to_string());
        run(app(fixture), &["start", "--pid-file", pid_path]).await.failed(1, "which runs: stop it, or name another file");
        signal(&server, "TERM").await;
        let ran = ran(server.wait_with_output().await.unwrap());
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(!pid_file.exists());
        let lines: Vec<serde_json::Value> = ran.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines.iter().any(|line| line["fields"]["message"] == "stopping"), "{ran:?}");
        let failed = rocketjob(fixture, &["jobs", "list", "--where", "error:mail"]).await.text();
        assert!(failed.contains("the mail box does not exist"), "{failed}");
    }

    async fn a_server_does_not_start_with_what_makes_no_sense(fixture: &Fixture) {
        run(app(fixture), &["start", "--include", "Import*"]).await.failed(3, "no kind fits the pattern `Import*`: there are `Cleanup`, `Report`, `Rest`");
        run(app(fixture), &["start", "--exclude", "*"]).await.failed(3, "leave no kind");
        run(app(fixture), &["start", "--include", "[a"]).await.failed(2, "the pattern `[a` makes no sense");
        run(app(fixture), &["start", "--where", "state:"]).await.failed(2, "expected a value");
        run(app(fixture), &["start", "--workers", "0"]).await.failed(2, "0 is not in 1..=10000");
        run(app(fixture), &["start", "--log-level", "app=loud"]).await.failed(2, "--log-level `app=loud` makes no sense");
        run(app(fixture), &["start", "--log-format", "xml"]).await.failed(2, "invalid value 'xml'");
        let folder = fixture.path("missing/server.pid");
        run(app(fixture), &["start", "--pid-file", folder.to_str().unwrap()]).await.failed(1, "cannot be written");
        rocketjob(fixture, &["start"]).await.failed(2, "no job kinds are registered");
    }

    async fn a_store_is_measured(fixture: &Fixture) {
        let ran = rocketjob(fixture, &["perf", "--count", "200", "--workers", "2"]).await;
        let lines: Vec<_> = ran.out.lines().collect();
        assert!(ran.code == 0 && lines.len() == 2, "{ran:?}");
        assert!(lines[0].starts_with("created   200 jobs in ") && lines[1].starts_with("performed 200 jobs in ") && lines[1].ends_with("jobs/s"), "{ran:?}");
        let measured = rocketjob(fixture, &["perf", "--count", "50", "--json"]).await.json();
        assert!(measured["jobs"] == 50 && measured["performed_per_second"].as_f64().unwrap() > 0.0, "{measured}");
        assert_eq!(count(fixture, Filter::all()).await, 0, "nothing is left");
        rocketjob(fixture, &["perf", "--count", "0"]).await.failed(2, "0 is not in 1..=");
    }
}
