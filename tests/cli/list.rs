//! `jobs list` and `jobs show`.

use bson::doc;
use rocketjob::{LOST_CLAIM, UNDECODABLE};

use crate::program::{on_durable_stores, rocketjob, stored};

fn failure(class: &str, message: &str) -> bson::Document {
    doc! { "exception": { "class_name": class, "message": message, "backtrace": ["at line 1"] }, "failure_count": 1 }
}

on_durable_stores! {
    async fn a_list_is_filtered_sorted_and_read_page_by_page(fixture: &Fixture) {
        let empty = rocketjob(fixture, &["jobs", "list"]).await;
        assert_eq!((empty.code, empty.out.as_str(), empty.err.as_str()), (0, "", "no jobs\n"));
        for number in 1..=5 {
            stored(fixture, "queued", doc! { "number": number, "priority": 60 - number, "description": format!("part {number}") }).await;
        }
        stored(fixture, "failed", failure("Net::Timeout", "took too long\nreally")).await;
        let all = rocketjob(fixture, &["jobs", "list"]).await;
        let expected = "\
ID KIND STATE PRIO CREATED DESCRIPTION FAILURE
ID Import queued 59 AGE ago part 1
ID Import queued 58 AGE ago part 2
ID Import queued 57 AGE ago part 3
ID Import queued 56 AGE ago part 4
ID Import queued 55 AGE ago part 5
ID Import failed 50 AGE ago Net::Timeout: took too long";
        assert_eq!(all.text(), expected);

        let numbers = async |arguments: &[&str]| {
            let mut all = vec!["jobs", "list", "--json"];
            all.extend(arguments);
            let shown = rocketjob(fixture, &all).await.json();
            let numbers: Vec<i64> = shown["jobs"].as_array().unwrap().iter()
                .map(|job| job["fields"]["number"].as_i64().unwrap_or(0)).collect();
            (numbers, shown["next"].as_str().map(str::to_owned))
        };
        assert_eq!(numbers(&["--where", "number:2..3 or error:TIMEOUT"]).await.0, [2, 3, 0]);
        assert_eq!(numbers(&["--where", r#"{"number": {"$gt": 3}}"#]).await.0, [4, 5]);
        assert_eq!(numbers(&["--where", "state:queued created_at:>1h -number:1", "--descending"]).await.0, [5, 4, 3, 2]);
        for sort in ["id", "priority", "created-at", "run-at"] {
            let mut pages = Vec::new();
            let mut after: Option<String> = None;
            loop {
                let mut arguments = vec!["--sort", sort, "--limit", "4"];
                if let Some(after) = &after {
                    arguments.extend(["--after", after.as_str()]);
                }
                let (page, next) = numbers(&arguments).await;
                pages.extend(page);
                after = next;
                if after.is_none() {
                    break;
                }
            }
            let expected = if sort == "priority" { [0, 5, 4, 3, 2, 1] } else { [1, 2, 3, 4, 5, 0] };
            assert_eq!(pages, expected, "{sort}");
        }
        let page = rocketjob(fixture, &["jobs", "list", "--limit", "2"]).await;
        assert!(page.err.starts_with("There are more: --after "), "{page:?}");
        rocketjob(fixture, &["jobs", "list", "--after", "here"]).await.failed(2, "not the key of a page");
        rocketjob(fixture, &["jobs", "list", "--where", "state:faild"]).await.failed(2, "at character 7: `faild` is no state");
        rocketjob(fixture, &["jobs", "list", "--sort", "colour"]).await.failed(2, "invalid value");
    }

    async fn undecodable_and_poison_jobs_are_listed_and_put_back(fixture: &Fixture) {
        let undecodable = stored(fixture, "failed", failure(UNDECODABLE, "field `rows`")).await;
        let poison = stored(fixture, "failed", failure(LOST_CLAIM, "servers died")).await;
        stored(fixture, "failed", failure("Other", "x")).await;
        let ids = async |arguments: &[&str]| {
            let mut all = vec!["jobs", "list", "--json"];
            all.extend(arguments);
            let shown = rocketjob(fixture, &all).await.json();
            shown["jobs"].as_array().unwrap().iter()
                .map(|job| job["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(ids(&["--undecodable"]).await, [undecodable.as_str()]);
        assert_eq!(ids(&["--poison"]).await, [poison.as_str()]);
        assert_eq!(ids(&["--poison", "--undecodable"]).await, [undecodable.as_str(), poison.as_str()]);
        let retried = rocketjob(fixture, &["jobs", "retry", &undecodable, &poison]).await;
        assert_eq!(retried.text(), "retried: 2 jobs");
        assert_eq!(ids(&["--where", "state:queued"]).await.len(), 2);
    }

    async fn a_job_is_shown_with_everything_that_is_known(fixture: &Fixture) {
        let more = doc! { "rows": 5_000_000_000_i64, "nested": { "a": [1, true, null] }, "description": "a\u{301} \"quoted\"" };
        let id = stored(fixture, "failed", { let mut all = failure("Broken", "first line"); all.extend(more); all }).await;
        let shown = rocketjob(fixture, &["jobs", "show", &id]).await.text();
        for line in ["id ID", "kind Import", "state failed", "priority 50", "rows 5000000000", "failure Broken", "first line", "at line 1", "nested {\"a\":[1,true,null]}"] {
            assert!(shown.lines().any(|shown| shown == line), "{line} in\n{shown}");
        }
        let shown = rocketjob(fixture, &["jobs", "show", &id, "--json"]).await.json();
        let job = &shown["jobs"][0];
        assert_eq!(job["fields"], serde_json::json!({ "rows": 5_000_000_000_i64, "nested": { "a": [1, true, null] } }));
        assert_eq!(job["exception"]["backtrace"][0], "at line 1");
        assert_eq!(job["run_at"], serde_json::Value::Null);
        let members: Vec<_> = job.as_object().unwrap().keys().map(String::as_str).collect();
        let stable = [
            "completed_at", "created_at", "description", "exception", "expires_at", "failure_count", "fields", "hold", "id",
            "keep_completed", "kind", "log_level", "lost_claims", "percent_complete", "priority", "run_at", "started_at", "state",
            "throttle_group", "worker",
        ];
        assert_eq!(members, stable);
        let missing = fixture.store.next_id().to_hex();
        rocketjob(fixture, &["jobs", "show", &id, &missing]).await.failed(3, "does not exist");
        rocketjob(fixture, &["jobs", "show", "42"]).await.failed(2, "invalid value '42'");
        let error = rocketjob(fixture, &["jobs", "show", &missing, "--json"]).await;
        let error: serde_json::Value = serde_json::from_str(&error.err).unwrap();
        assert_eq!(error["error"]["code"], 3);
    }
}
