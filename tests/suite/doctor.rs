//! What the doctor finds.

use std::time::Duration;

use bson::{Document, doc};
use rocketjob::{
    Change, Definition, Diagnosis, Finding, Guard, ManualClock, Patch, ServerDocument, ServerState,
    Severity, Subject, examine, mongo::MongoStore, name, prelude::*, sqlite::Options,
};
use rocketjob_testing::{
    Claimer, Faulty, insert_all, job,
    mongod::{self, Mongod},
};

use crate::stores::on_every_store;

const HOUR: Duration = Duration::from_hours(1);

async fn examined(store: &Store) -> Diagnosis {
    let diagnosis = examine(&**store).await.unwrap();
    for finding in &diagnosis.findings {
        println!("{}: {finding}", finding.severity);
        assert!(!finding.remedy.is_empty());
    }
    assert!(
        diagnosis
            .findings
            .is_sorted_by(|one, next| one.severity >= next.severity)
    );
    let json = serde_json::to_value(&diagnosis).unwrap();
    assert_eq!(
        json["findings"].as_array().unwrap().len(),
        diagnosis.findings.len()
    );
    diagnosis
}

/// What was found about `subject`, which must be one thing.
fn about(diagnosis: &Diagnosis, subject: Subject) -> &Finding {
    let mut findings = diagnosis
        .findings
        .iter()
        .filter(|finding| finding.subject == subject);
    let finding = findings.next();
    let finding = finding.unwrap_or_else(|| panic!("nothing about {subject:?}: {diagnosis:#?}"));
    assert_eq!(findings.next(), None, "one thing about {subject:?}");
    finding
}

async fn register(store: &Store, server: &str, version: &str) -> ServerDocument {
    let server = ServerDocument {
        id: store.next_id(),
        name: server.into(),
        max_workers: 1,
        started_at: store.now().checked_sub(HOUR).ok(),
        state: ServerState::Running,
        heartbeat: None,
        lease: None,
        version: version.into(),
        definitions: vec![Definition::new("Mail", "app::Mail").publish()],
        filter: None,
        poll_interval: None,
    };
    store.insert_server(&server).await.unwrap();
    server
}

async fn live(store: &Store, server: &str, version: &str) -> ServerDocument {
    let server = register(store, server, version).await;
    store.heartbeat(server.id, 1).await.unwrap().unwrap()
}

on_every_store! {
    async fn nothing_is_wrong(fixture: &Fixture) {
        let store = &fixture.store;
        insert_all(store, [job("Mail"), job("Mail").held("limit:a"), job("Mail").state(State::Failed)]).await;
        let server = live(store, "one:1", env!("CARGO_PKG_VERSION")).await;
        let mut claimer = Claimer::new(store, ["Mail"]);
        claimer.server = server.id;
        claimer.claim(1).await;
        let diagnosis = examined(store).await;
        assert_eq!(diagnosis.findings, []);
        assert_eq!((diagnosis.worst(), diagnosis.live_servers), (None, 1));
    }

    async fn a_kind_has_no_handler(fixture: &Fixture) {
        let store = &fixture.store;
        insert_all(store, [job("Unheard"), job("Mail"), job("Unheard")]).await;
        live(store, "one:1", env!("CARGO_PKG_VERSION")).await;
        let diagnosis = examined(store).await;
        let finding = about(&diagnosis, Subject::Kind);
        assert_eq!(finding.severity, Severity::Error);
        assert!(finding.what.starts_with("2 jobs of the kind Unheard"), "{finding}");
    }

    async fn no_server_is_alive(fixture: &Fixture) {
        let store = &fixture.store;
        job("Mail").insert(store).await;
        let diagnosis = examined(store).await;
        assert!(about(&diagnosis, Subject::Kind).remedy.contains("none is alive"));
    }

    async fn documents_cannot_be_read(fixture: &Fixture) {
        let store = &fixture.store;
        let id = job("Mail").held("limit:a").insert(store).await.id();
        let change = Change::new().set(name::PRIORITY, "high");
        let _ = store.update(Patch { id, change, guard: Guard::default() }).await;
        let exception = doc! { "class_name": "Undecodable", "message": "field `to` is missing" };
        let poison = job("Mail").state(State::Failed).set(name::EXCEPTION, exception).insert(store).await;
        live(store, "one:1", env!("CARGO_PKG_VERSION")).await;
        let diagnosis = examined(store).await;
        let finding = about(&diagnosis, Subject::Document);
        for text in ["2 documents", &id.to_hex(), "priority", &poison.id().to_hex(), "field `to` is missing"] {
            assert!(finding.what.contains(text), "{finding}");
        }
    }

    async fn a_server_is_old_or_lapsed(fixture: &Fixture) {
        let store = &fixture.store;
        live(store, "new:1", env!("CARGO_PKG_VERSION")).await;
        live(store, "old:1", "0.0.9").await;
        register(store, "silent:1", env!("CARGO_PKG_VERSION")).await;
        let diagnosis = examined(store).await;
        assert_eq!(diagnosis.live_servers, 2);
        let whats: Vec<_> = diagnosis.findings.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(whats, [
            concat!("the server old:1 runs version 0.0.9, and others ", env!("CARGO_PKG_VERSION")),
            "the server silent:1 has given no sign of life for 1 h 0 min",
        ]);
    }

    async fn jobs_are_held_that_nobody_releases(fixture: &Fixture) {
        let store = &fixture.store;
        live(store, "one:1", env!("CARGO_PKG_VERSION")).await;
        let held = |hold: &str| job("Mail").held(hold);
        insert_all(store, [held("limit:a"), held("review"), held("review"), held(name::HOLD_SUSPECT)]).await;
        let diagnosis = examined(store).await;
        assert!(about(&diagnosis, Subject::Hold).what.starts_with("2 jobs are held for `review`"));
        job("Unheard").held("limit:b").insert(store).await;
        let diagnosis = examined(store).await;
        assert!(diagnosis.findings.iter().any(|finding| finding.what.contains("`limit:b`")));
    }

    async fn a_scheduled_job_is_overdue(fixture: &Fixture) {
        let store = &fixture.store;
        let past = store.now().checked_sub(HOUR).unwrap();
        job("Mail").scheduled(past).insert(store).await;
        let diagnosis = examined(store).await;
        assert!(about(&diagnosis, Subject::Hold).what.contains("due for 1 h"));
    }

    async fn claims_are_nobodys(fixture: &Fixture) {
        let store = &fixture.store;
        live(store, "one:1", env!("CARGO_PKG_VERSION")).await;
        insert_all(store, [job("Unheard"), job("Mail")]).await;
        Claimer::new(store, ["Unheard"]).claim(1).await;
        Claimer::new(store, ["Mail"]).claim(1).await;
        let diagnosis = examined(store).await;
        let severities: Vec<_> = diagnosis.findings.iter().map(|finding| (finding.subject, finding.severity)).collect();
        assert_eq!(severities, [(Subject::Claim, Severity::Error), (Subject::Claim, Severity::Note)]);
    }

    async fn the_store_is_away(fixture: &Fixture) {
        let faulty = Faulty::new(&fixture.store);
        faulty.set_outage(true);
        let diagnosis = examined(&Store::new(faulty)).await;
        assert_eq!(about(&diagnosis, Subject::Connection).severity, Severity::Error);
        assert_eq!(diagnosis.inspection, None);
    }
}

#[tokio::test]
async fn the_clock_is_off_by_a_minute() {
    let folder = tempfile::tempdir().unwrap();
    let now = MemoryStore::new();
    let now = rocketjob::JobStore::now(&now);
    for (by, direction) in [(60, "behind"), (-60, "ahead of")] {
        let clock = ManualClock::default();
        clock.set(now + jiff::SignedDuration::from_secs(by));
        let path = folder.path().join(format!("{by}.db"));
        let store = Store::new(Options::new().clock(clock).open(path).await.unwrap());
        let diagnosis = examined(&store).await;
        let finding = about(&diagnosis, Subject::Clock);
        assert_eq!(finding.severity, Severity::Error);
        assert!(finding.what.contains(direction), "{finding}");
    }
}

#[tokio::test]
async fn an_index_is_missing() {
    let database = mongod::database("doctor::an_index_is_missing").await;
    let mongo = MongoStore::connect(database.url()).await.unwrap();
    let jobs = mongo.database().collection::<Document>("rocket_job.jobs");
    jobs.drop_index("rocketjob_held").await.unwrap();
    let diagnosis = examined(&Store::new(mongo)).await;
    let finding = about(&diagnosis, Subject::Index);
    assert_eq!(finding.severity, Severity::Error);
    assert!(
        finding.what.contains("`rocketjob_held` is missing"),
        "{finding}"
    );
    database.drop().await;
}

#[tokio::test]
async fn the_server_of_the_database_stands_alone() {
    let mongod = Mongod::start(mongod::Options::standalone()).await;
    let store = Store::new(MongoStore::connect(&mongod.url("doctor")).await.unwrap());
    let diagnosis = examined(&store).await;
    assert_eq!(
        about(&diagnosis, Subject::Topology).severity,
        Severity::Warning
    );
}

#[tokio::test]
async fn writes_count_by_default_when_one_server_has_them() {
    let database = mongod::database("doctor::writes_count_by_default").await;
    let separator = if database.url().contains('?') {
        '&'
    } else {
        '?'
    };
    let careless = format!("{}{separator}w=1", database.url());
    let store = Store::new(MongoStore::connect(&careless).await.unwrap());
    let diagnosis = examined(&store).await;
    assert!(
        about(&diagnosis, Subject::WriteConcern)
            .what
            .starts_with("the URL or client says `w: 1`")
    );
    database.drop().await;

    let mongod = Mongod::start(mongod::Options::replica_set("rs0")).await;
    let mongo = MongoStore::connect(&mongod.url("doctor")).await.unwrap();
    let command = doc! { "setDefaultRWConcern": 1, "defaultWriteConcern": { "w": 1 } };
    mongo
        .client()
        .database("admin")
        .run_command(command)
        .await
        .unwrap();
    let diagnosis = examined(&Store::new(mongo)).await;
    assert!(
        about(&diagnosis, Subject::WriteConcern)
            .what
            .starts_with("the cluster's default is `w: 1`")
    );
}
