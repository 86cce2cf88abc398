//! Many jobs: 100,000 that failed are put back, and that can be interrupted. (Fewer in debug builds,
//! which take ten times as long.)

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use bson::doc;
use rocketjob::{Filter, JobDocument, ReadFrom, State, name};
use rocketjob_testing::eventually;

use crate::{
    program::{admin, on_durable_stores, ran, rocketjob, signal},
    stores::Fixture,
};

pub(crate) const JOBS: u64 = if cfg!(debug_assertions) {
    10_000
} else {
    100_000
};

pub(crate) async fn count(fixture: &Fixture, state: State) -> u64 {
    fixture
        .store
        .count(&Filter::state(state), ReadFrom::Primary)
        .await
        .unwrap()
}

/// Jobs that failed.
pub(crate) async fn fill(fixture: &Fixture) {
    let store = &fixture.store;
    for _ in 0..JOBS / 1_000 {
        let jobs = (0..1_000).map(|number| {
            let document = doc! {
                name::ID: store.next_id(),
                name::KIND: "Import",
                name::STATE: "failed",
                name::PRIORITY: 50,
                name::CREATED_AT: rocketjob::date(store.now()),
                name::EXCEPTION: { "class_name": "Timeout", "message": "took too long" },
                "number": number,
            };
            JobDocument::new(document).unwrap()
        });
        store.insert(jobs.collect()).await.unwrap();
    }
}

on_durable_stores! {
    async fn many_failed_jobs_are_put_back(fixture: &Fixture) {
        fill(fixture).await;
        let retry = ["jobs", "retry", "--all", "--where", "kind:Import error:timeout"];
        let dry = rocketjob(fixture, &[&retry[..], &["--dry-run"]].concat()).await.text();
        assert!(dry.starts_with(&format!("Retry {JOBS} jobs: a dry run, nothing was done")), "{dry}");
        assert_eq!(count(fixture, State::Failed).await, JOBS);

        let mut child = admin(fixture);
        child.args(retry).arg("--json").stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = child.spawn().unwrap();
        eventually("it has begun", async || (count(fixture, State::Queued).await > 0).then_some(())).await;
        signal(&child, "INT").await;
        let interrupted = ran(child.wait_with_output().await.unwrap());
        let told: serde_json::Value = serde_json::from_str(&interrupted.out).unwrap();
        interrupted.failed(130, "the same command goes on");
        let done = told["done"].as_u64().unwrap();
        assert_eq!(told["interrupted"], true);
        assert!(0 < done && done < JOBS, "{told}");
        assert_eq!((count(fixture, State::Queued).await, count(fixture, State::Failed).await), (done, JOBS - done));

        let begin = Instant::now();
        let rest = rocketjob(fixture, &retry).await;
        let took = begin.elapsed();
        assert_eq!(rest.text(), format!("retried: {} jobs", JOBS - done));
        assert_eq!(count(fixture, State::Queued).await, JOBS);
        // Seconds; in a debug build on a machine that others use, too.
        assert!(took < Duration::from_mins(1), "{took:?}");
        let deleted = rocketjob(fixture, &["jobs", "delete", "--all", "--yes"]).await;
        assert_eq!(deleted.text(), format!("deleted: {JOBS} jobs"));
    }
}
