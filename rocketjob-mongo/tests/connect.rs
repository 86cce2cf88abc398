//! Connecting: what is created, what is refused, and whose settings count.

#![expect(clippy::unwrap_used, reason = "tests panic: that is how they fail")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bson::{Document, doc};
use jiff::SignedDuration;
use mongodb::{
    Client, IndexModel,
    event::{EventHandler, command::CommandEvent},
    options::{ClientOptions, IndexOptions},
};
use parking_lot::Mutex;
use rocketjob_core::{
    Change, Error, EventStore, Filter, Guard, InspectStore, JobStore, Patch, ServerDocument,
    ServerState, ServerStore, State, Store, Subject,
};
use rocketjob_mongo::MongoStore;
use rocketjob_testing::{
    Claimer, FieldLimits, Wanted, job,
    mongod::{Mongod, Options, TestDatabase, database},
};

#[tokio::test]
async fn a_server_that_is_not_there_is_told_within_seconds_and_without_the_password() {
    let begun = Instant::now();
    let problem = MongoStore::connect("mongodb://ann:secret@127.0.0.1:1/shop").await;
    let problem = problem.unwrap_err();
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
    assert!(problem.is_transient(), "{problem:?}");
    let text = problem.chain();
    assert!(text.contains("127.0.0.1:1/shop"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_url_that_makes_no_sense_is_told_without_the_password() {
    for url in [
        "postgres://ann:secret@127.0.0.1/shop",
        "mongodb://ann:secret@/",
        "nonsense",
    ] {
        let problem = MongoStore::connect(url).await.unwrap_err();
        assert!(
            matches!(problem, Error::Configuration(_)),
            "{url}: {problem:?}"
        );
        assert!(!problem.chain().contains("secret"), "{}", problem.chain());
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_as_such() {
    let database = database("connect::a_wrong_password_is_told_as_such").await;
    let (_, rest) = database.url().split_once("://").unwrap();
    let separator = if rest.contains('?') { '&' } else { '?' };
    let url = format!("mongodb://ann:secret@{rest}{separator}authSource=admin");
    let problem = MongoStore::connect(&url).await.unwrap_err();
    assert!(matches!(problem, Error::Configuration(_)), "{problem:?}");
    let text = problem.chain();
    assert!(text.contains("does not accept the user"), "{text}");
    assert!(!text.contains("secret"), "{text}");
    database.drop().await;
}

#[tokio::test]
async fn connecting_again_changes_nothing() {
    let database = database("connect::connecting_again_changes_nothing").await;
    let store = MongoStore::connect(database.url()).await.unwrap();
    let indexes = indexes(&store).await;
    assert_eq!(
        indexes,
        [
            "_id_",
            "rocketjob_adoption",
            "rocketjob_claim",
            "rocketjob_due",
            "rocketjob_ended",
            "rocketjob_held",
            "rocketjob_slots",
            "rocketjob_successors",
            "rocketjob_token",
            "rocketjob_unfinished",
            "rocketjob_unique",
        ]
    );
    let again = MongoStore::with_client(store.client().clone(), database.name())
        .await
        .unwrap();
    assert_eq!(self::indexes(&again).await, indexes);
    assert_eq!(
        options(&again, "rocket_job.events").await.get("capped"),
        Some(&true.into())
    );
    database.drop().await;
}

#[tokio::test]
async fn a_regular_collection_of_events_is_left_as_it_is() {
    let database = database("connect::a_regular_collection_of_events_is_left_as_it_is").await;
    let own = database.client().await.database(database.name());
    own.create_collection("rocket_job.events").await.unwrap();
    let store = MongoStore::connect(database.url()).await.unwrap();
    assert_eq!(
        options(&store, "rocket_job.events").await.get("capped"),
        None
    );
    store.event_end().await.unwrap();
    database.drop().await;
}

#[tokio::test]
async fn a_database_as_it_should_be_has_no_problems() {
    let database = database("connect::a_database_as_it_should_be_has_no_problems").await;
    let store = MongoStore::connect(database.url()).await.unwrap();
    let inspection = store.inspect().await.unwrap();
    assert_eq!(inspection.problems(), Vec::<String>::new());
    assert!(inspection.product.starts_with("MongoDB "), "{inspection:?}");
    assert!(
        inspection.topology.starts_with("replica set ")
            && inspection.topology.ends_with(" of 1 member"),
        "{inspection:?}"
    );
    assert!(inspection.durability.contains("majority"), "{inspection:?}");
    // It runs on this machine.
    assert!(inspection.clock_offset.abs() < SignedDuration::from_secs(1));
    database.drop().await;
}

#[tokio::test]
async fn what_became_of_indexes_and_events_is_named() {
    let database = database("connect::what_became_of_indexes_and_events_is_named").await;
    let store = MongoStore::connect(database.url()).await.unwrap();
    let own = store.database();
    let jobs = own.collection::<Document>("rocket_job.jobs");
    jobs.drop_index("rocketjob_token").await.unwrap();
    jobs.drop_index("rocketjob_ended").await.unwrap();
    let another = IndexModel::builder()
        .keys(doc! { "_id": 1, "state": 1 })
        .options(
            IndexOptions::builder()
                .name("rocketjob_ended".to_owned())
                .build(),
        )
        .build();
    jobs.create_index(another).await.unwrap();
    own.collection::<Document>("rocket_job.servers")
        .drop()
        .await
        .unwrap();
    let events = own.collection::<Document>("rocket_job.events");
    events.drop().await.unwrap();
    let expected = |events: &str| {
        [
            "rocket_job.jobs: the index `rocketjob_token` is missing",
            "rocket_job.jobs: the index `rocketjob_ended` is another one than ours: drop it",
            "rocket_job.servers: the index `name_1` is missing",
            events,
        ]
        .map(ToOwned::to_owned)
    };
    let problems = store.inspect().await.unwrap().problems();
    assert_begin(&problems, &expected("rocket_job.events is missing"));
    own.create_collection("rocket_job.events").await.unwrap();
    let problems = store.inspect().await.unwrap().problems();
    assert_begin(&problems, &expected("rocket_job.events is not capped"));

    // What is told to do about it helps.
    let convert = doc! { "convertToCapped": "rocket_job.events", "size": 134_217_728 };
    own.run_command(convert).await.unwrap();
    jobs.drop_index("rocketjob_ended").await.unwrap();
    let again = MongoStore::with_client(store.client().clone(), database.name())
        .await
        .unwrap();
    assert_eq!(
        again.inspect().await.unwrap().problems(),
        Vec::<String>::new()
    );
    database.drop().await;
}

fn assert_begin(texts: &[String], beginnings: &[String]) {
    assert_eq!(texts.len(), beginnings.len(), "{texts:#?}");
    for (text, beginning) in texts.iter().zip(beginnings) {
        assert!(text.starts_with(beginning), "{texts:#?}");
    }
}

#[tokio::test]
async fn a_url_without_a_path_means_the_database_rocketjob() {
    let mongod = Mongod::start(Options::standalone()).await;
    let url = mongod.url("x").replace("/x?", "/?");
    let store = MongoStore::connect(&url).await.unwrap();
    assert_eq!(store.database().name(), "rocketjob");
    assert!(
        store.address().ends_with("/rocketjob"),
        "{}",
        store.address()
    );
}

#[tokio::test]
async fn time_is_the_servers() {
    let database = database("connect::time_is_the_servers").await;
    let store = MongoStore::connect(database.url()).await.unwrap();
    let server = server(&store);
    store.insert_server(&server).await.unwrap();
    for _ in 0..3 {
        let before = store.now();
        let hello = store
            .database()
            .run_command(doc! { "hello": 1 })
            .await
            .unwrap();
        let after = store.now();
        let there = hello.get_datetime("localTime").unwrap().timestamp_millis();
        assert!(
            before.as_millisecond() <= there + 20,
            "{before} is ahead of {there}"
        );
        assert!(
            there <= after.as_millisecond() + 20,
            "{after} is behind {there}"
        );
        store.heartbeat(server.id, 1).await.unwrap();
    }
    database.drop().await;
}

/// The URL asks for as little as it can; what is promised to last is written to a majority anyway.
#[tokio::test]
async fn the_durability_of_writes_is_not_the_urls() {
    let database = database("connect::the_durability_of_writes_is_not_the_urls").await;
    let (client, sent) = watched(&database).await;
    let mongo = MongoStore::with_client(client, database.name())
        .await
        .unwrap();
    let store = Store::new(mongo);
    let deleted = job("Kind").priority(9).insert(&store).await;
    job("Kind").set("group", "one").insert(&store).await;
    let claimer = Claimer::new(&store, ["Kind"]);
    sent.lock().clear();
    let (_, claim) = claimer.claim_one().await;
    assert_eq!(
        concerns(&sent),
        [("update".to_owned(), Some(bson::Bson::Int32(1)))]
    );
    let limited = Wanted {
        limits: &FieldLimits::new("group", 1),
        ..Wanted::count(1)
    };
    assert_eq!(claimer.claim_wanted(&limited).await.jobs.len(), 1);
    let settled = Patch {
        id: deleted.id(),
        guard: Guard::claimed(claim),
        change: Change::delete(),
    };
    store.settle(vec![settled]).await.unwrap();
    let abort = Patch {
        id: deleted.id(),
        guard: Guard::default(),
        change: Change::new().set("state", State::Aborted.as_str()),
    };
    assert!(store.update(abort).await.unwrap().is_err(), "it is deleted");
    job("Kind").insert(&store).await;
    store.delete(&Filter::all()).await.unwrap();
    store.insert_server(&server(&*store)).await.unwrap();
    let durable = |command: &str| (command.to_owned(), Some("majority".into()));
    let commands = [
        "update",
        "delete",
        "findAndModify",
        "insert",
        "delete",
        "insert",
    ];
    assert_eq!(concerns(&sent), commands.map(durable));
    database.drop().await;
}

type Sent = Arc<Mutex<Vec<Document>>>;

/// A client of a careless program, and what it sends.
async fn watched(database: &TestDatabase) -> (Client, Sent) {
    let separator = if database.url().contains('?') {
        '&'
    } else {
        '?'
    };
    let careless = "w=1&readPreference=secondaryPreferred";
    let url = format!("{}{separator}{careless}", database.url());
    let mut options = ClientOptions::parse(url).await.unwrap();
    let sent = Sent::default();
    let seen = sent.clone();
    options.command_event_handler = Some(EventHandler::callback(move |event| {
        if let CommandEvent::Started(started) = event {
            seen.lock().push(started.command);
        }
    }));
    (Client::with_options(options).unwrap(), sent)
}

/// The writes that were sent since the last look, and how durable they were to be.
fn concerns(sent: &Sent) -> Vec<(String, Option<bson::Bson>)> {
    let sent = std::mem::take(&mut *sent.lock());
    let concerns = sent.iter().filter_map(|command| {
        let concern = command.get_document("writeConcern").ok()?;
        Some((command.keys().next()?.clone(), concern.get("w").cloned()))
    });
    concerns.collect()
}

#[tokio::test]
async fn a_server_alone_will_do() {
    let mongod = Mongod::start(Options::standalone()).await;
    let mongo = MongoStore::connect(&mongod.url("alone")).await.unwrap();
    let store = Store::new(mongo);
    let inserted = job("Kind").unique("one").insert(&store).await;
    let (claimed, claim) = Claimer::new(&store, ["Kind"]).claim_one().await;
    assert_eq!(claimed.id(), inserted.id());
    let settled = Patch {
        id: claimed.id(),
        guard: Guard::claimed(claim),
        change: Change::new().set("state", State::Completed.as_str()),
    };
    assert_eq!(
        store.settle(vec![settled]).await.unwrap(),
        [rocketjob_core::Settled::Accepted]
    );
    let found = store.get(inserted.id()).await.unwrap().unwrap();
    assert_eq!(found.state(), State::Completed);
    let inspection = store.inspect().await.unwrap();
    assert!(
        inspection.topology.starts_with("standalone"),
        "{inspection:?}"
    );
    let [standalone] = inspection.findings.as_slice() else {
        panic!("{inspection:?}");
    };
    assert_eq!(standalone.subject, Subject::Topology);
    assert!(standalone.remedy.contains("--replSet"), "{standalone}");
}

#[tokio::test]
async fn servers_of_the_original_are_read() {
    let database = database("connect::servers_of_the_original_are_read").await;
    let store = MongoStore::connect(database.url()).await.unwrap();
    let id = store.next_id();
    let servers = store
        .database()
        .collection::<Document>("rocket_job.servers");
    let now = bson::DateTime::from_millis(store.now().as_millisecond());
    servers
        .insert_one(doc! {
            "_id": id, "name": "box7:4211", "max_workers": 10, "started_at": now, "state": "running",
            "heartbeat": { "_id": store.next_id(), "updated_at": now, "workers": 9 },
        })
        .await
        .unwrap();
    servers
        .insert_one(doc! { "name": "new:1", "max_workers": 1, "state": "starting" })
        .await
        .unwrap();
    let found = store.servers().await.unwrap();
    let ruby = found.iter().find(|server| server.id == id).unwrap();
    assert_eq!((ruby.name.as_str(), ruby.max_workers), ("box7:4211", 10));
    assert_eq!(ruby.heartbeat.unwrap().workers, 9);
    assert_eq!(
        found.len(),
        2,
        "a server that has not begun has no heartbeat"
    );
    for server in found {
        assert!(server.is_original());
        assert!(!store.declare_dead(server.id, 1).await.unwrap());
        let stands_at_0 = store.declare_dead(server.id, server.beats()).await;
        assert!(stands_at_0.unwrap(), "its heartbeats are not counted");
    }
    database.drop().await;
}

fn server(store: &(impl JobStore + ?Sized)) -> ServerDocument {
    ServerDocument {
        id: store.next_id(),
        name: "box:1".into(),
        max_workers: 1,
        started_at: None,
        state: ServerState::Starting,
        heartbeat: None,
        lease: None,
        version: "0.1.0".into(),
        definitions: Vec::new(),
        filter: None,
        poll_interval: None,
    }
}

async fn indexes(store: &MongoStore) -> Vec<String> {
    let jobs = store.database().collection::<Document>("rocket_job.jobs");
    let mut names = jobs.list_index_names().await.unwrap();
    names.sort();
    names
}

async fn options(store: &MongoStore, collection: &str) -> Document {
    let listed = doc! { "listCollections": 1, "filter": { "name": collection } };
    let listed = store.database().run_command(listed).await.unwrap();
    let first = listed
        .get_document("cursor")
        .unwrap()
        .get_array("firstBatch")
        .unwrap();
    let first = first.first().unwrap().as_document().unwrap();
    first.get_document("options").unwrap().clone()
}
