//! `ServerStore`.

use bson::{Bson, doc, oid::ObjectId};
use rocketjob_core::{
    Definition, Error, Filter, LogLevel, LostClaim, PublishedDefinition, ServerDocument,
    ServerState, Store, date, later, name,
};

use super::before;
use crate::{Claimer, Harness, job};

fn server(store: &Store, name: &str) -> ServerDocument {
    ServerDocument {
        id: store.next_id(),
        name: name.into(),
        max_workers: 10,
        started_at: Some(store.now()),
        state: ServerState::Starting,
        heartbeat: None,
        lease: Some(std::time::Duration::from_millis(2500)),
        version: "1.2.3".into(),
        definitions: Vec::new(),
        filter: None,
        poll_interval: None,
    }
}

async fn insert(store: &Store, name: &str) -> ServerDocument {
    let server = server(store, name);
    store.insert_server(&server).await.unwrap();
    server
}

async fn stored(store: &Store, id: ObjectId) -> ServerDocument {
    let servers = store.servers().await.unwrap();
    servers.into_iter().find(|server| server.id == id).unwrap()
}

/// What a server published comes back whole, through any handle.
pub async fn keeps_the_whole_document(harness: &impl Harness) {
    let store = harness.store();
    let definition = Definition {
        aliases: &["Old::Name"],
        about: Some("Mails the weekly report."),
        description: Some("weekly"),
        priority: 7,
        keep_completed: true,
        expires_in: Some(std::time::Duration::from_hours(24)),
        log_level: Some(LogLevel::Warn),
        pausable: true,
        timeout: Some(std::time::Duration::from_mins(5)),
        on_lost_claim: LostClaim::Fail,
        max_lost_claims: 7,
        ..Definition::new("Report::Job", "app::ReportJob")
    };
    let published: Vec<PublishedDefinition> = vec![
        definition.publish(),
        Definition::new("Other", "app::Other").publish(),
    ];
    let filter = Filter::eq("$odd.name", 5_i64)
        .and(Filter::exists("a").or(Filter::prefix("b", "x")))
        .and(Filter::lt(name::RUN_AT, date(store.now())))
        .and(Filter::is_in(
            "c",
            [Bson::Null, ObjectId::new().into(), doc! { "d": 1 }.into()],
        ));
    let server = ServerDocument {
        definitions: published,
        filter: Some(filter),
        poll_interval: Some(std::time::Duration::from_millis(750)),
        ..server(&store, "host:1")
    };
    store.insert_server(&server).await.unwrap();
    assert_eq!(harness.second().await.servers().await.unwrap(), [server]);
}

/// A name is free only when nobody has it, and the refusal tells the name.
pub async fn refuses_a_name_that_is_taken(harness: &impl Harness) {
    let store = harness.store();
    let first = insert(&store, "host:1").await;
    let refused = store.insert_server(&server(&store, "host:1")).await;
    assert!(
        matches!(&refused, Err(Error::ServerNameTaken { name }) if name == "host:1"),
        "{refused:?}"
    );
    insert(&store, "host:10").await;
    assert_eq!(store.servers().await.unwrap().len(), 2);
    assert!(store.remove_server(first.id).await.unwrap());
    insert(&store, "host:1").await;
}

/// Of many that register under one name at once, one wins.
pub async fn lets_one_of_many_with_the_same_name_win(harness: &impl Harness) {
    let handles = [harness.store(), harness.second().await];
    let tasks: Vec<_> = (0..10)
        .map(|number| {
            let store = handles[number % 2].clone();
            tokio::spawn(async move {
                match store.insert_server(&server(&store, "host:1")).await {
                    Ok(()) => true,
                    Err(Error::ServerNameTaken { .. }) => false,
                    Err(error) => panic!("{error}"),
                }
            })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        won += u32::from(task.await.unwrap());
    }
    assert_eq!(won, 1);
    assert_eq!(handles[0].servers().await.unwrap().len(), 1);
}

/// Registering again after a lost answer does no harm.
pub async fn may_be_registered_again_by_the_same_call(harness: &impl Harness) {
    let store = harness.store();
    let server = insert(&store, "host:1").await;
    store.heartbeat(server.id, 3).await.unwrap();
    store.insert_server(&server).await.unwrap();
    let stored = stored(&store, server.id).await;
    assert_eq!(stored.heartbeat.map(|heartbeat| heartbeat.workers), Some(3));
    assert_eq!(store.servers().await.unwrap().len(), 1);
}

/// Each beat has the store's time, the number of workers, and a counter grown by one.
pub async fn counts_heartbeats(harness: &impl Harness) {
    let store = harness.store();
    let server = insert(&store, "host:1").await;
    let tolerance = std::time::Duration::from_secs(5);
    let mut last = None;
    for workers in 1..=3 {
        let earliest = before(store.now(), tolerance);
        let after = store.heartbeat(server.id, workers).await.unwrap().unwrap();
        let heartbeat = after.heartbeat.unwrap();
        assert_eq!(heartbeat.workers, workers);
        assert!(heartbeat.updated_at >= earliest);
        assert!(heartbeat.updated_at <= later(store.now(), tolerance));
        if let Some(last) = last {
            assert_eq!(heartbeat.counter, last + 1);
        }
        last = Some(heartbeat.counter);
        assert_eq!(stored(&store, server.id).await, after);
    }
}

/// A server whose document is gone is told so, and does not come back by its heartbeat.
pub async fn tells_a_dead_server_that_it_is_dead(harness: &impl Harness) {
    let store = harness.store();
    let server = insert(&store, "host:1").await;
    assert!(store.remove_server(server.id).await.unwrap());
    assert_eq!(store.heartbeat(server.id, 1).await.unwrap(), None);
    assert_eq!(store.servers().await.unwrap(), []);
}

/// A heartbeat brings the news: state and number of workers that others changed.
pub async fn brings_changes_with_the_heartbeat(harness: &impl Harness) {
    let store = harness.store();
    let server = insert(&store, "host:1").await;
    let other = harness.second().await;
    assert!(other.set_max_workers(server.id, 25).await.unwrap());
    let from = [ServerState::Starting];
    let paused = other.set_server_state(server.id, &from, ServerState::Paused);
    assert!(paused.await.unwrap());
    let after = store.heartbeat(server.id, 1).await.unwrap().unwrap();
    assert_eq!((after.max_workers, after.state), (25, ServerState::Paused));
}

/// The state changes only from one of those named.
pub async fn changes_the_state_only_from_those_named(harness: &impl Harness) {
    use ServerState::{Paused, Running, Starting, Stopping};

    let store = harness.store();
    let server = insert(&store, "host:1").await;
    let to = async |from: &[ServerState], to| {
        let changed = store.set_server_state(server.id, from, to).await.unwrap();
        (changed, stored(&store, server.id).await.state)
    };
    assert_eq!(to(&[Running, Paused], Stopping).await, (false, Starting));
    assert_eq!(to(&[], Stopping).await, (false, Starting));
    assert_eq!(to(&[Paused, Starting], Running).await, (true, Running));
    assert_eq!(to(&[Starting], Paused).await, (false, Running));
    let nobody = store.set_server_state(store.next_id(), &[Running], Paused);
    assert!(!nobody.await.unwrap());
}

/// A missing server has no number of workers to change.
pub async fn says_whether_the_server_exists(harness: &impl Harness) {
    let store = harness.store();
    let server = insert(&store, "host:1").await;
    let bystander = insert(&store, "host:2").await;
    assert!(store.set_max_workers(server.id, 3).await.unwrap());
    assert!(!store.set_max_workers(store.next_id(), 3).await.unwrap());
    assert_eq!(stored(&store, server.id).await.max_workers, 3);
    assert_eq!(stored(&store, bystander.id).await.max_workers, 10);
}

/// In the order of the ids, whatever their names.
pub async fn lists_servers_in_the_order_of_their_ids(harness: &impl Harness) {
    let store = harness.store();
    let mut inserted = Vec::new();
    for name in ["c:1", "a:1", "b:1"] {
        inserted.push(insert(&store, name).await);
    }
    assert_eq!(store.servers().await.unwrap(), inserted);
}

/// Removing a server leaves its claims to whoever sweeps up after it.
pub async fn leaves_the_claims_of_a_removed_server(harness: &impl Harness) {
    let store = harness.store();
    let claimer = Claimer::new(&store, ["A"]);
    let dead = ServerDocument {
        id: claimer.server,
        ..server(&store, "host:1")
    };
    store.insert_server(&dead).await.unwrap();
    job("A").insert(&store).await;
    let (running, _) = claimer.claim_one().await;
    assert!(store.remove_server(dead.id).await.unwrap());
    assert!(!store.remove_server(dead.id).await.unwrap());
    let claims = store.claims_of(dead.id, None, 10).await.unwrap();
    assert_eq!(claims, [running]);
}

/// A server whose counter stands still goes, and its heartbeat does not bring it back.
pub async fn goes_when_its_heartbeat_stands_still(harness: &impl Harness) {
    let store = harness.store();
    let dead = insert(&store, "host:1").await;
    let alive = insert(&store, "host:2").await;
    let mut counter = 0;
    for server in [&dead, &dead, &alive] {
        let beaten = store.heartbeat(server.id, 1).await.unwrap().unwrap();
        if server.id == dead.id {
            counter = beaten.beats();
        }
    }
    assert!(store.declare_dead(dead.id, counter).await.unwrap());
    assert!(!store.declare_dead(dead.id, counter).await.unwrap());
    assert_eq!(store.heartbeat(dead.id, 1).await.unwrap(), None);
    let left = store.servers().await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].id, left[0].beats()), (alive.id, 1));
}

/// A server that has given a sign of life since it was looked at stays, and its counter goes on.
pub async fn stays_when_it_has_beaten_meanwhile(harness: &impl Harness) {
    let store = harness.store();
    let server = insert(&store, "host:1").await;
    let seen = store.heartbeat(server.id, 1).await.unwrap().unwrap();
    let after = harness.second().await.heartbeat(server.id, 1).await;
    let after = after.unwrap().unwrap();
    for counter in [0, seen.beats(), after.beats() + 1, u64::MAX] {
        assert!(!store.declare_dead(server.id, counter).await.unwrap());
    }
    assert_eq!(stored(&store, server.id).await, after);
}

/// A server that has never given a sign of life stands at 0.
pub async fn goes_when_it_never_gave_a_sign_of_life(harness: &impl Harness) {
    let store = harness.store();
    let silent = insert(&store, "host:1").await;
    assert_eq!(silent.beats(), 0);
    assert!(!store.declare_dead(silent.id, 1).await.unwrap());
    let beating = insert(&store, "host:2").await;
    store.heartbeat(beating.id, 1).await.unwrap();
    assert!(!store.declare_dead(beating.id, 0).await.unwrap());
    assert!(!store.declare_dead(store.next_id(), 0).await.unwrap());
    assert!(store.declare_dead(silent.id, 0).await.unwrap());
    assert_eq!(store.servers().await.unwrap().len(), 1);
}

/// Of many who see a server dead, one declares it; its claims stay.
pub async fn is_declared_dead_by_one_of_many(harness: &impl Harness) {
    let handles = [harness.store(), harness.second().await];
    let claimer = Claimer::new(&handles[0], ["A"]);
    let dead = ServerDocument {
        id: claimer.server,
        ..server(&handles[0], "host:1")
    };
    handles[0].insert_server(&dead).await.unwrap();
    job("A").insert(&handles[0]).await;
    claimer.claim_one().await;
    let tasks: Vec<_> = (0..10)
        .map(|number| {
            let store = handles[number % 2].clone();
            tokio::spawn(async move { store.declare_dead(dead.id, 0).await.unwrap() })
        })
        .collect();
    let mut declared = 0;
    for task in tasks {
        declared += u32::from(task.await.unwrap());
    }
    assert_eq!(declared, 1);
    let claims = handles[1].claims_of(dead.id, None, 10).await.unwrap();
    assert_eq!(claims.len(), 1);
}
