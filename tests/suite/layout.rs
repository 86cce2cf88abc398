//! Our documents on MongoDB beside those that the original wrote, field by field.

use std::{collections::BTreeMap, time::Duration};

use bson::{Bson, Document, oid::ObjectId};
use rocketjob::{LogLevel, name, prelude::*};
use serde::{Deserialize, Serialize};

use crate::stores::{self, Fixture, Kind};

/// Documents that the Ruby gem wrote, as extended JSON.
const ORIGINAL: &str = include_str!("../data/original-documents.json");

/// What is ours alone, and the original ignores.
const OURS: [&str; 4] = [name::READY, name::HOLD, name::CLAIM, name::RUN_AT];

fn original(document: &str) -> Document {
    let all: serde_json::Value = serde_json::from_str(ORIGINAL).unwrap();
    let value = all
        .get(document)
        .unwrap_or_else(|| panic!("no document `{document}`"))
        .clone();
    from_extended_json(&value).as_document().unwrap().clone()
}

/// The few types of extended JSON that the documents use.
fn from_extended_json(value: &serde_json::Value) -> Bson {
    use serde_json::Value;
    match value {
        Value::Null => Bson::Null,
        Value::Bool(truth) => Bson::Boolean(*truth),
        Value::String(text) => Bson::String(text.clone()),
        Value::Array(items) => Bson::Array(items.iter().map(from_extended_json).collect()),
        Value::Number(number) => panic!("a number without its type: {number}"),
        Value::Object(object) => {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            match object.iter().next() {
                Some((key, value)) if key == "$oid" => {
                    Bson::ObjectId(ObjectId::parse_str(text(value)).unwrap())
                }
                Some((key, value)) if key == "$numberInt" => {
                    Bson::Int32(text(value).parse().unwrap())
                }
                Some((key, value)) if key == "$numberDouble" => {
                    Bson::Double(text(value).parse().unwrap())
                }
                Some((key, value)) if key == "$symbol" => Bson::Symbol(text(value)),
                Some((key, value)) if key == "$date" => {
                    let millis = text(value.get("$numberLong").unwrap()).parse().unwrap();
                    Bson::DateTime(bson::DateTime::from_millis(millis))
                }
                _ => Bson::Document(
                    object
                        .iter()
                        .map(|(key, value)| (key.clone(), from_extended_json(value)))
                        .collect(),
                ),
            }
        }
    }
}

/// Each field and its type; null is a type of its own, absent is no entry. Embedded documents are
/// opened.
fn shape(document: &Document) -> BTreeMap<String, String> {
    let mut shape = BTreeMap::new();
    for (field, value) in document {
        match value {
            Bson::Document(inner) => {
                for (path, kind) in self::shape(inner) {
                    shape.insert(format!("{field}.{path}"), kind);
                }
            }
            Bson::Array(items) => {
                let first = items
                    .first()
                    .map(|item| format!("{:?}", item.element_type()))
                    .unwrap_or_default();
                shape.insert(field.clone(), format!("Array of {first}"));
            }
            value => {
                shape.insert(field.clone(), format!("{:?}", value.element_type()));
            }
        }
    }
    shape
}

/// Our document must have every field of the original's with its type, and beyond them only ours.
fn same_layout(ours: &Document, original_name: &str, but: &[&str]) {
    let mut theirs = shape(&original(original_name));
    let mut ours = shape(ours);
    for field in but {
        theirs.remove(*field);
        ours.remove(*field);
    }
    for field in OURS {
        if !theirs.contains_key(field) {
            ours.remove(field);
        }
    }
    assert_eq!(ours, theirs, "our document beside `{original_name}`");
}

/// The original's job of this name.
#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(kind = "RocketJob::Jobs::SimpleJob")]
struct SimpleJob {}

impl Perform for SimpleJob {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(kind = "OkJob", description = "An ok job", keep_completed)]
struct OkJob {
    amount: Option<f64>,
    result: Option<OkResult>,
}

#[derive(Serialize, Deserialize)]
struct OkResult {
    sum: i64,
    when: bson::DateTime,
}

impl Perform for OkJob {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        self.result = Some(OkResult {
            sum: 3,
            when: bson::DateTime::from_millis(0),
        });
        Ok(())
    }
}

#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(kind = "FailJob", keep_completed)]
struct FailJob {
    order_id: i64,
    tags: BTreeMap<String, Vec<i64>>,
}

impl Perform for FailJob {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Err("order 42 is bad".into())
    }
}

struct Jobs {
    collection: mongodb::Collection<Document>,
}

impl Jobs {
    async fn of(fixture: &Fixture) -> Self {
        let database = fixture.database.as_ref().unwrap();
        let client = database.client().await;
        Self {
            collection: client
                .database(database.name())
                .collection("rocket_job.jobs"),
        }
    }

    async fn stored(&self, id: ObjectId) -> Document {
        self.collection
            .find_one(bson::doc! { "_id": id })
            .await
            .unwrap()
            .expect("the job is stored")
    }
}

fn on_mongo(test: &'static str, body: impl AsyncFnOnce(&Fixture)) {
    stores::run(Kind::Mongo, test, body);
}

#[test]
fn a_queued_job() {
    on_mongo("layout::queued", async |fixture| {
        let jobs = Jobs::of(fixture).await;
        let job = SimpleJob {}.create(&fixture.store).await.unwrap();
        let stored = jobs.stored(job.id()).await;
        same_layout(&stored, "job_simple_queued", &[]);
        assert_eq!(stored.get(name::READY), Some(&Bson::Boolean(true)));
        let own = OkJob {
            amount: Some(1.5),
            result: None,
        }
        .create(&fixture.store)
        .await
        .unwrap();
        same_layout(&jobs.stored(own.id()).await, "job_custom_queued", &[]);
    });
}

#[test]
fn a_scheduled_job_with_an_expiry() {
    on_mongo("layout::scheduled", async |fixture| {
        let jobs = Jobs::of(fixture).await;
        let hour = rocketjob::after(&fixture.store, Duration::from_hours(1));
        let job = SimpleJob {}
            .run_at(hour)
            .expires_at(hour)
            .log_level(LogLevel::Warn)
            .priority(7);
        let job = job.create(&fixture.store).await.unwrap();
        let stored = jobs.stored(job.id()).await;
        same_layout(&stored, "job_simple_scheduled_with_expiry", &[]);
        assert_eq!(stored.get(name::READY), None);
        assert_eq!(stored.get_str(name::HOLD).unwrap(), "scheduled");
    });
}

#[test]
fn a_running_job() {
    on_mongo("layout::running", async |fixture| {
        let jobs = Jobs::of(fixture).await;
        let job = SimpleJob {}.create(&fixture.store).await.unwrap();
        let request = rocketjob::ClaimRequest {
            token: rocketjob::ClaimToken {
                server: ObjectId::new(),
                sequence: 1,
            },
            workers: &["vm:12485:1".to_owned()],
            count: 1,
            kinds: &["RocketJob::Jobs::SimpleJob".to_owned()],
            filter: None,
            skip: 0,
            may_lag: false,
            at_once: 1,
            limits: &rocketjob::NoLimits,
        };
        fixture.store.claim(&request).await.unwrap();
        same_layout(&jobs.stored(job.id()).await, "job_simple_running", &[]);
    });
}

#[test]
fn a_completed_job() {
    on_mongo("layout::completed", async |fixture| {
        let jobs = Jobs::of(fixture).await;
        let job = OkJob {
            amount: Some(1.5),
            result: None,
        }
        .create(&fixture.store)
        .await
        .unwrap();
        fixture
            .server::<OkJob>()
            .start()
            .await
            .unwrap()
            .run_until_idle()
            .await
            .unwrap();
        same_layout(&jobs.stored(job.id()).await, "job_custom_completed", &[]);
    });
}

#[test]
fn a_failed_retried_and_aborted_job() {
    on_mongo("layout::failed", async |fixture| {
        let jobs = Jobs::of(fixture).await;
        // The original's sample holds a symbol in `tags`, which nobody may write any more.
        let but = ["tags.a", "tags.b", "exception.backtrace"];
        let tags = BTreeMap::from([("b".to_owned(), vec![1, 2])]);
        let mut job = FailJob { order_id: 42, tags }
            .create(&fixture.store)
            .await
            .unwrap();
        fixture
            .server::<FailJob>()
            .start()
            .await
            .unwrap()
            .run_until_idle()
            .await
            .unwrap();
        let stored = jobs.stored(job.id()).await;
        same_layout(&stored, "job_failed", &but);
        let exception = stored.get_document("exception").unwrap();
        assert!(exception.get_array("backtrace").is_ok());
        job.retry().await.unwrap();
        same_layout(
            &jobs.stored(job.id()).await,
            "job_failed_then_retried",
            &but,
        );
        job.abort().await.unwrap();
        same_layout(&jobs.stored(job.id()).await, "job_aborted", &but);
    });
}

#[test]
fn a_paused_job() {
    on_mongo("layout::paused", async |fixture| {
        let jobs = Jobs::of(fixture).await;
        let mut job = OkJob {
            amount: None,
            result: None,
        }
        .create(&fixture.store)
        .await
        .unwrap();
        job.pause().await.unwrap();
        same_layout(&jobs.stored(job.id()).await, "job_paused_from_queued", &[]);
    });
}

#[test]
fn jobs_that_the_original_wrote_are_read_and_performed() {
    on_mongo("layout::adopted", async |fixture| {
        let jobs = Jobs::of(fixture).await;
        let mut queued = original("job_custom_queued");
        queued.insert("_id", ObjectId::new());
        let mut retried = original("job_failed_then_retried");
        retried.insert("_type", "OkJob");
        let mut later = original("job_simple_scheduled_with_expiry");
        later.insert("_type", "OkJob");
        let hour = rocketjob::after(&fixture.store, Duration::from_hours(1));
        later.insert("run_at", rocketjob::date(hour));
        later.insert("expires_at", rocketjob::date(hour));
        jobs.collection
            .insert_many([&queued, &retried, &later])
            .await
            .unwrap();

        let server = fixture.server::<OkJob>().start().await.unwrap();
        for job in [&queued, &retried] {
            let id = job.get_object_id("_id").unwrap();
            rocketjob_testing::eventually("the job completes", async || {
                let stored = jobs.stored(id).await;
                stored
                    .get_str("state")
                    .is_ok_and(|state| state == "completed")
                    .then_some(())
            })
            .await;
        }
        server.stop().await.unwrap();
        let waiting = OkJob::find(&fixture.store, later.get_object_id("_id").unwrap())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(waiting.state(), State::Queued);
        assert_eq!(waiting.document().hold(), Some("scheduled"));
    });
}
