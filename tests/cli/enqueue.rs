//! `enqueue`: by a kind that is compiled in, and by a definition that a server publishes.

use rocketjob::{PublishedDefinition, ServerDocument, ServerState};
use serde_json::json;

use crate::program::{admin, app, on_durable_stores, rocketjob, run, run_with_input};
use crate::stores::Fixture;

/// A server that publishes what the program `command_line` has.
pub(crate) async fn publish(fixture: &Fixture, name: &str) -> ServerDocument {
    let field = |name: &str, scalar: &str, optional: bool, editable: bool| json!({ "name": name, "field_type": { "one": scalar }, "optional": optional, "user_editable": editable });
    let report = json!({
        "kind": "Report", "rust_type": "app::Report", "priority": 70, "keep_completed": true,
        "fields": [field("recipient", "string", false, false), field("week", "date", true, true), field("rows", "integer", true, false)],
    });
    let cleanup = json!({ "kind": "Cleanup", "rust_type": "app::Cleanup", "priority": 50, "concerns": ["singleton"] });
    let throttled =
        json!({ "kind": "Call", "rust_type": "app::Call", "priority": 50, "concerns": ["slowly"] });
    let definitions = [report, cleanup, throttled]
        .map(|known| serde_json::from_value::<PublishedDefinition>(known).unwrap());
    let server: ServerDocument =
        crate::servers::document(fixture, name, ServerState::Running, definitions.into());
    fixture.store.insert_server(&server).await.unwrap();
    server
}

on_durable_stores! {
    async fn a_compiled_kind_is_checked_by_its_type_and_its_rules(fixture: &Fixture) {
        let ran = run(app(fixture), &["enqueue", "Report", r#"{"recipient": "ann@example.org", "week": "2026-01-05"}"#]).await;
        assert_eq!(ran.text(), "ID");
        let job = fixture.store.get(ran.out.trim().parse().unwrap()).await.unwrap().unwrap();
        assert_eq!((job.kind(), job.priority(), job.is_ready(), job.destroy_on_complete()), ("Report", 70, true, false));
        assert!(matches!(job.get("week"), Some(bson::Bson::DateTime(_))), "{job:?}");
        let options = [
            "enqueue", "Report", r#"{"recipient": "ann@example.org"}"#, "--priority", "5", "--description", "by hand", "--run-at", "+2h",
            "--expires-at", "2999-01-31", "--log-level", "debug", "--keep-completed", "false", "--throttle-group", "mail", "--json",
        ];
        let job = run(app(fixture), &options).await.json()["job"].clone();
        assert_eq!((&job["priority"], &job["description"], &job["hold"]), (&5.into(), &"by hand".into(), &"scheduled".into()));
        assert_eq!((&job["expires_at"], &job["log_level"]), (&"2999-01-31T00:00:00Z".into(), &"debug".into()));
        assert_eq!((&job["keep_completed"], &job["throttle_group"]), (&false.into(), &"mail".into()));
        let id = run_with_input(app(fixture), &["enqueue", "Rest", "-"], r#"{"seconds": 1}"#).await;
        assert_eq!(id.text(), "ID");
        let dry = run(app(fixture), &["enqueue", "Cleanup", "--dry-run"]).await.json();
        assert_eq!((&dry["dry_run"], &dry["job"]["kind"]), (&true.into(), &"Cleanup".into()));
        assert_eq!(run(app(fixture), &["enqueue", "Cleanup"]).await.text(), "ID");
        run(app(fixture), &["enqueue", "Cleanup"]).await.failed(1, "Another instance of this job is already queued or running");
        for (fields, problem) in [
            ("{}", "`recipient` is required"),
            (r#"{"recipient": "ann"}"#, "breaks the rule `email`"),
            (r#"{"recipient": 5}"#, "`recipient` takes a text, and not 5"),
            (r#"{"recipient": "a@b.ch", "week": "soon"}"#, "`week` takes a date such as"),
            (r#"{"recipient": "a@b.ch", "colour": 1}"#, "`colour` is not known: `Report` has `recipient`, `week`, `rows`"),
            ("{", "no valid JSON"),
            ("[1]", "must be a JSON object"),
        ] {
            run(app(fixture), &["enqueue", "Report", fields]).await.failed(2, problem);
        }
        let valid = r#"{"recipient": "ann@example.org"}"#;
        run(app(fixture), &["enqueue", "Report", valid, "--priority", "0"]).await.failed(2, "0 is not in 1..=100");
        run(app(fixture), &["enqueue", "Report", valid, "--run-at", "soon"]).await.failed(2, "--run-at takes a time");
        run(app(fixture), &["enqueue", "Report", valid, "--log-level", "loud"]).await.failed(2, "--log-level takes one of");
        run(app(fixture), &["enqueue", "Repot", valid]).await.failed(3, "kind `Repot` is not known: there are `Cleanup`, `Report`, `Rest`");
    }

    async fn a_published_kind_is_checked_by_its_definition(fixture: &Fixture) {
        let valid = r#"{"recipient": "ann@example.org", "week": "2026-01-05"}"#;
        rocketjob(fixture, &["enqueue", "Report", valid]).await.failed(3, "no server publishes any kind");
        publish(fixture, "host:1").await;
        let ran = rocketjob(fixture, &["enqueue", "Report", valid]).await;
        let own = run(app(fixture), &["enqueue", "Report", valid]).await;
        let mut documents = Vec::new();
        for ran in [&ran, &own] {
            let mut document = fixture.store.get(ran.out.trim().parse().unwrap()).await.unwrap().unwrap().into_document();
            document.remove("_id");
            document.remove("created_at");
            let mut fields: Vec<_> = document.into_iter().collect();
            fields.sort_by(|one, other| one.0.cmp(&other.0));
            documents.push(fields);
        }
        assert_eq!(documents[0], documents[1], "the same document as its own program makes");
        rocketjob(fixture, &["enqueue", "Report", r#"{"rows": 1}"#]).await.failed(2, "`recipient` is required");
        rocketjob(fixture, &["enqueue", "Report", r#"{"recipient": "a", "rows": "x"}"#]).await.failed(2, "`rows` takes a whole number");
        assert_eq!(rocketjob(fixture, &["enqueue", "Cleanup"]).await.text(), "ID");
        rocketjob(fixture, &["enqueue", "Cleanup"]).await.failed(1, "Another instance");
        rocketjob(fixture, &["enqueue", "Call"]).await.failed(2, "the concern `slowly`, which only its own program knows");
        let id = ran.out.trim();
        assert_eq!(rocketjob(fixture, &["jobs", "set", id, "week=2026-01-12"]).await.text(), "changed: 1 job");
        rocketjob(fixture, &["jobs", "set", id, "recipient=bob@example.org"]).await.failed(2, "may not be edited: its kind does not allow it");
        rocketjob(fixture, &["jobs", "set", id, "colour=red"]).await.failed(2, "of `Report` may be edited `priority`");
        run(admin(fixture), &["jobs", "set", id, "week=never"]).await.failed(2, "`week` takes a date such as");
    }
}
