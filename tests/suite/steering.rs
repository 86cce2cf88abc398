//! A fleet of server processes that is steered by events, whatever becomes of the events meanwhile.

use std::{collections::BTreeSet, time::Duration};

use bson::{Document, doc};
use jiff::Timestamp;
use rocketjob::{
    ServerState,
    control::{self, Target},
    prelude::*,
};
use rocketjob_testing::{
    eventually,
    mongod::{Mongod, Options},
};
use tokio::time::sleep;

use crate::{
    hazard::{Hazard, Scene, create_innocents},
    stores::{self, Fixture, Kind},
};

const SERVERS: usize = 4;
/// Within this time a command has its effect on all servers.
const SOON: Duration = Duration::from_secs(1);
/// For so long a paused fleet is watched.
const WATCHED: Duration = Duration::from_millis(500);

/// Servers that give signs of life so seldom that no test lasts until the next: what they do is done
/// because of an event.
async fn start_fleet(scene: &Scene) -> Vec<Hazard> {
    let mut fleet = Vec::new();
    for number in 0..SERVERS {
        let name = format!("fleet:{number}");
        let arguments = ["--name", &name, "--workers", "2"];
        let seldom = ["--heartbeat", "900000", "--lease", "3600000"];
        fleet.push(scene.start(&[arguments.as_slice(), &seldom].concat()).await);
    }
    fleet
}

fn since(scene: &Scene, start: Timestamp, processes: &BTreeSet<u32>) -> BTreeSet<u32> {
    let start = start.as_millisecond();
    let lines = scene.ledger().into_iter();
    let begun = lines.filter(|line| line.event == "begun" && line.at >= start);
    begun
        .map(|line| line.process)
        .filter(|process| processes.contains(process))
        .collect()
}

/// Sees to it that there is work for as long as the test lasts.
async fn eventually_all_work(scene: &Scene, store: &Store, fleet: &[Hazard]) {
    let processes: BTreeSet<u32> = fleet.iter().map(|server| server.id).collect();
    let start = store.now();
    eventually("all servers work", async || {
        (since(scene, start, &processes) == processes).then_some(())
    })
    .await;
}

/// A second after it was paused the fleet begins nothing more, and a second after it was resumed all
/// of it does.
async fn pauses_and_resumes(scene: &Scene, store: &Store, fleet: &[Hazard]) {
    let processes: BTreeSet<u32> = fleet.iter().map(|server| server.id).collect();
    let told = control::pause_servers(store, &Target::All).await.unwrap();
    let paused = store.now();
    assert_eq!(told.len(), SERVERS);
    assert!(
        told.iter()
            .all(|server| server.state == ServerState::Paused)
    );
    sleep(SOON + WATCHED).await;
    let late = since(scene, rocketjob::later(paused, SOON), &processes);
    assert_eq!(
        late,
        BTreeSet::new(),
        "these begin jobs while they are paused"
    );

    let resumed = store.now();
    control::resume_servers(store, &Target::All).await.unwrap();
    let told = store.now();
    eventually("all servers work again", async || {
        (since(scene, resumed, &processes) == processes).then_some(())
    })
    .await;
    let lines = scene.ledger().into_iter();
    let first = processes.iter().map(|process| {
        let lines = lines.clone().filter(|line| line.process == *process);
        lines
            .map(|line| line.at)
            .filter(|at| *at >= resumed.as_millisecond())
            .min()
            .unwrap()
    });
    let last = first.max().unwrap() - told.as_millisecond();
    println!("{last} ms after it was told to, the last server works again");
    assert!(last <= 1000, "a server took {last} ms to go on");
}

/// What may become of the events.
type Ruin<'r> = (&'static str, Box<dyn AsyncRuin + 'r>);

/// A closure in a list.
#[async_trait::async_trait(?Send)]
trait AsyncRuin {
    async fn happen(&mut self);
}

#[async_trait::async_trait(?Send)]
impl<F: AsyncFnMut()> AsyncRuin for F {
    async fn happen(&mut self) {
        self().await;
    }
}

async fn fleet_obeys(scene: &Scene, store: &Store, ruins: Vec<Ruin<'_>>) {
    let fleet = start_fleet(scene).await;
    create_innocents(store, 30_000, 8).await;
    eventually_all_work(scene, store, &fleet).await;
    println!("undisturbed");
    pauses_and_resumes(scene, store, &fleet).await;
    for (what, mut ruin) in ruins {
        println!("{what}");
        ruin.happen().await;
        pauses_and_resumes(scene, store, &fleet).await;
        // And once more, with the events in their new place.
        pauses_and_resumes(scene, store, &fleet).await;
    }
    let one = Target::Named("fleet:2".into());
    let told = control::stop_servers(store, &one).await.unwrap();
    assert_eq!(told.len(), 1);
    let (stopped, others): (Vec<_>, Vec<_>) = fleet
        .into_iter()
        .partition(|server| server.name == "fleet:2");
    for server in stopped {
        server.ended().await;
    }
    let rest = Target::Named("fleet".into());
    let told = control::kill_servers(store, &rest, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(told.len(), SERVERS - 1);
    for server in others {
        server.ended().await;
    }
    let error = control::stop_servers(store, &Target::All)
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "there are no servers");
}

async fn on_file(fixture: &Fixture) {
    let scene = Scene::of(fixture);
    let run = |sql: &'static str| {
        let file = rusqlite::Connection::open(scene.folder.join("jobs.db")).unwrap();
        file.busy_timeout(Duration::from_secs(30)).unwrap();
        move || file.execute_batch(sql).unwrap()
    };
    let (empty, drop) = (run("DELETE FROM events"), run("DROP TABLE events"));
    let ruins: Vec<Ruin<'_>> = vec![
        ("emptied", Box::new(async || empty())),
        ("dropped", Box::new(async || drop())),
    ];
    fleet_obeys(&scene, &fixture.store, ruins).await;
}

async fn on_mongod(fixture: &Fixture, options: Options) {
    let mongod = tokio::sync::Mutex::new(Mongod::start(options).await);
    let url = mongod.lock().await.url("jobs");
    let store = rocketjob::connect(&url).await.unwrap();
    let scene = Scene {
        store: url.clone(),
        folder: fixture.folder.path().into(),
    };
    let client = mongodb::Client::with_uri_str(&url).await.unwrap();
    let database = client.database("jobs");
    let events = database.collection::<Document>("rocket_job.events");
    let ruins: Vec<Ruin<'_>> = vec![
        (
            "emptied",
            Box::new(async || {
                events.delete_many(doc! {}).await.unwrap();
            }),
        ),
        ("dropped", Box::new(async || events.drop().await.unwrap())),
        (
            "not capped",
            Box::new(async || {
                events.drop().await.unwrap();
                let _ = database.create_collection("rocket_job.events").await;
            }),
        ),
        (
            "restarted",
            Box::new(async || {
                let mut mongod = mongod.lock().await;
                mongod.kill();
                mongod.restart().await;
                // Whoever was cut off may still be waiting to try again.
                eventually("the store answers", async || store.servers().await.ok()).await;
            }),
        ),
    ];
    fleet_obeys(&scene, &store, ruins).await;
}

async fn on_replica_set(fixture: &Fixture) {
    on_mongod(fixture, Options::replica_set("steering")).await;
}

async fn on_standalone(fixture: &Fixture) {
    on_mongod(fixture, Options::standalone()).await;
}

#[test]
fn a_fleet_on_a_file_is_paused_and_resumed_within_a_second() {
    stores::run(Kind::Sqlite, "steering::on_file", on_file);
}

#[test]
fn a_fleet_on_a_replica_set_is_paused_and_resumed_within_a_second() {
    stores::run(Kind::Memory, "steering::on_replica_set", on_replica_set);
}

#[test]
fn a_fleet_on_a_standalone_server_is_paused_and_resumed_within_a_second() {
    stores::run(Kind::Memory, "steering::on_standalone", on_standalone);
}
