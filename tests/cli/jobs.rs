//! What is done to jobs: by id, to several, to all that meet a condition.

use std::time::Duration;

use bson::doc;
use rocketjob::{after, date};

use crate::program::{on_durable_stores, rocketjob, state, stored};

on_durable_stores! {
    async fn one_job_is_steered_by_its_id(fixture: &Fixture) {
        for (command, before, done, then) in [
            ("retry", "failed", "retried", "queued"),
            ("pause", "queued", "paused", "paused"),
            ("resume", "paused", "resumed", "queued"),
            ("fail", "queued", "failed", "failed"),
            ("abort", "queued", "aborted", "aborted"),
            ("delete", "failed", "deleted", "gone"),
        ] {
            let id = stored(fixture, before, doc! {}).await;
            let destroys = matches!(command, "abort" | "delete");
            if destroys {
                let asked = rocketjob(fixture, &["jobs", command, &id]).await;
                asked.failed(2, "Nobody can be asked here: add --yes");
                assert_eq!(state(fixture, &id).await, before);
            }
            let arguments = ["jobs", command, &id, "--yes"];
            let ran = rocketjob(fixture, &arguments[..if destroys { 4 } else { 3 }]).await;
            assert_eq!(ran.text(), format!("{done}: 1 job"));
            assert_eq!(state(fixture, &id).await, then, "{command}");
            let again = rocketjob(fixture, &arguments).await;
            match command {
                "delete" => again.failed(3, "does not exist"),
                _ => again.failed(1, &format!("is {then} and may not {command}")),
            }
        }
        rocketjob(fixture, &["jobs", "retry"]).await.failed(2, "which jobs?");
        rocketjob(fixture, &["jobs", "retry", "42"]).await.failed(2, "invalid value '42'");
        rocketjob(fixture, &["jobs", "retry", "--where", "a:1"]).await.failed(2, "--all");
        let running = stored(fixture, "running", doc! {}).await;
        rocketjob(fixture, &["jobs", "delete", &running, "--yes"]).await.failed(2, "abort it first");
        rocketjob(fixture, &["jobs", "pause", &running]).await.failed(1, "is running and may not pause");
    }

    async fn a_message_goes_with_a_failure_and_a_scheduled_job_starts_now(fixture: &Fixture) {
        let id = stored(fixture, "queued", doc! {}).await;
        rocketjob(fixture, &["jobs", "fail", &id, "--message", "wrong month"]).await.text();
        let job = fixture.store.get(id.parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(job.exception().unwrap().message, "wrong month");
        let tomorrow = date(after(&fixture.store, Duration::from_hours(24)));
        let scheduled = || doc! { "run_at": tomorrow.clone(), "hold": "scheduled", "ready": bson::Bson::Null };
        let id = stored(fixture, "queued", scheduled()).await;
        let listed = rocketjob(fixture, &["jobs", "list", "--where", "state:scheduled"]).await.text();
        assert!(listed.contains("ID Import scheduled in AGE 50"), "{listed}");
        assert_eq!(rocketjob(fixture, &["jobs", "run-now", &id]).await.text(), "started now: 1 job");
        let job = fixture.store.get(id.parse().unwrap()).await.unwrap().unwrap();
        assert!(job.is_ready() && job.run_at().is_none());
        for _ in 0..3 {
            stored(fixture, "queued", scheduled()).await;
        }
        let all = rocketjob(fixture, &["jobs", "run-now", "--all", "--where", "kind:Import"]).await;
        assert_eq!(all.text(), "started now: 3 jobs");
    }

    async fn of_several_jobs_each_is_told(fixture: &Fixture) {
        let good = stored(fixture, "failed", doc! {}).await;
        let bad = stored(fixture, "completed", doc! {}).await;
        let missing = fixture.store.next_id().to_hex();
        let ran = rocketjob(fixture, &["jobs", "retry", &good, &bad, &missing]).await;
        assert_eq!((ran.code, ran.out.as_str()), (1, "retried: 1 job\n"), "{ran:?}");
        assert!(ran.err.contains("is completed and may not retry") && ran.err.contains("does not exist"), "{ran:?}");
        let ran = rocketjob(fixture, &["jobs", "pause", &good, &bad, "--json"]).await;
        let shown: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!((ran.code, &shown["done"], &shown["refused"]), (1, &1.into(), &1.into()));
        assert_eq!(shown["problems"][0]["id"], bad.as_str());
    }

    async fn all_that_meet_a_condition_are_steered_after_a_dry_run(fixture: &Fixture) {
        for number in 0..7 {
            stored(fixture, "failed", doc! { "number": number }).await;
        }
        let other = stored(fixture, "failed", doc! { "_type": "Other" }).await;
        let command = ["jobs", "retry", "--all", "--where", "kind:Import", "--dry-run"];
        let dry = rocketjob(fixture, &command).await.text();
        let expected = "\
Retry 7 jobs: a dry run, nothing was done
ID KIND STATE PRIO CREATED DESCRIPTION FAILURE
ID Import failed 50 AGE ago
ID Import failed 50 AGE ago
ID Import failed 50 AGE ago
ID Import failed 50 AGE ago
ID Import failed 50 AGE ago
… and 2 more";
        assert_eq!(dry, expected);
        let dry = rocketjob(fixture, &["jobs", "retry", "--all", "--where", "kind:Import", "--dry-run", "--json"]).await.json();
        assert_eq!((&dry["count"], &dry["dry_run"]), (&7.into(), &true.into()));
        let ran = rocketjob(fixture, &command[..5]).await;
        assert_eq!(ran.text(), "retried: 7 jobs");
        assert_eq!(state(fixture, &other).await, "failed");
        rocketjob(fixture, &command[..5]).await.failed(3, "there is no job that meets `kind:Import`");
        rocketjob(fixture, &command).await.failed(3, "there is no job that meets");
        rocketjob(fixture, &["jobs", "retry", "--all", "--where", "kind:"]).await.failed(2, "expected a value");
        rocketjob(fixture, &["jobs", "retry", "--all", &other]).await.failed(2, "ids or --all");

        rocketjob(fixture, &["jobs", "abort", "--all", "--where", "number:<3"]).await.failed(2, "Abort 3 jobs?");
        let ran = rocketjob(fixture, &["jobs", "abort", "--all", "--where", "number:<3", "--yes", "--json"]).await.json();
        assert_eq!(ran, serde_json::json!({ "done": 3, "refused": 0, "interrupted": false, "problems": [] }));
        let ran = rocketjob(fixture, &["jobs", "delete", "--all", "--where", "state:aborted", "--yes"]).await;
        assert_eq!(ran.text(), "deleted: 3 jobs");
        let ran = rocketjob(fixture, &["jobs", "pause", "--all"]).await;
        assert_eq!(ran.text(), "paused: 4 jobs");
        let ran = rocketjob(fixture, &["jobs", "resume", "--all"]).await;
        assert_eq!(ran.text(), "resumed: 4 jobs");
        let ran = rocketjob(fixture, &["jobs", "fail", "--all", "--where", "number:5..", "--message", "enough"]).await;
        assert_eq!(ran.text(), "failed: 2 jobs");
    }

    async fn a_key_that_another_job_holds_keeps_a_job_from_being_retried(fixture: &Fixture) {
        let key = || doc! { "unique_key": "singleton:Import", "unique_reason": "Another instance" };
        let holder = stored(fixture, "queued", key()).await;
        let second = stored(fixture, "failed", key()).await;
        stored(fixture, "failed", doc! {}).await;
        let ran = rocketjob(fixture, &["jobs", "retry", "--all"]).await;
        assert_eq!((ran.code, ran.out.as_str()), (1, "retried: 1 job\n"));
        assert!(ran.err.contains(&second) && ran.err.contains(&holder) && ran.err.contains("1 job did not allow it"), "{ran:?}");
    }

    async fn fields_are_changed_by_their_names(fixture: &Fixture) {
        let id = stored(fixture, "queued", doc! {}).await;
        let set = ["jobs", "set", &id, "priority=5", "description=the first", "run_at=+2h", "keep_completed=false", "log_level=debug"];
        assert_eq!(rocketjob(fixture, &set).await.text(), "changed: 1 job");
        let job = fixture.store.get(id.parse().unwrap()).await.unwrap().unwrap();
        assert_eq!((job.priority(), job.description(), job.hold(), job.is_ready()), (5, Some("the first"), Some("scheduled"), false));
        assert!(job.destroy_on_complete() && job.run_at().is_some());
        rocketjob(fixture, &["jobs", "set", &id, "run_at=null", "description=null"]).await.text();
        let job = fixture.store.get(id.parse().unwrap()).await.unwrap().unwrap();
        assert_eq!((job.is_ready(), job.description()), (true, None));
        for (change, problem) in [
            ("priority=high", "`priority` takes a whole number"),
            ("priority=101", "`priority` must lie between 1 and 100"),
            ("priority=null", "`priority` must lie between 1 and 100"),
            ("run_at=soon", "`run_at` takes a date"),
            ("log_level=loud", "takes one of trace"),
            ("state=queued", "kind `Import` is not known to any server"),
        ] {
            rocketjob(fixture, &["jobs", "set", &id, change]).await.failed(2, problem);
        }
        rocketjob(fixture, &["jobs", "set", &id]).await.failed(2, "what is to be changed?");
        rocketjob(fixture, &["jobs", "set", &id, "priority"]).await.failed(2, "neither an id nor a change");
        let failed = stored(fixture, "failed", doc! {}).await;
        let done = stored(fixture, "completed", doc! {}).await;
        let all = rocketjob(fixture, &["jobs", "set", "--all", "--where", "kind:Import", "--set", "priority=9"]).await;
        assert_eq!(all.text(), "changed: 2 jobs");
        rocketjob(fixture, &["jobs", "set", &done, "priority=9"]).await.failed(2, "is completed and may not be edited");
        let job = fixture.store.get(failed.parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(job.priority(), 9);
    }
}
