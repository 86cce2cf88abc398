//! Processes that die, sleep too long, or are told to end while they work: no job is lost, none is
//! blamed for another, and one that kills its server is found out.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bson::{doc, oid::ObjectId};
use rocketjob::{
    JobDocument, LOST_CLAIM, PANIC, ServerDocument, ServerState, TIMEOUT, name, prelude::*,
};
use rocketjob_testing::{
    eventually,
    mongod::{Mongod, Options},
};
use tokio::io::AsyncBufReadExt;

use crate::{
    hazard::{
        LEASE, Line, SOME_MORE, Scene, assert_nothing_left, assert_unharmed, create,
        create_innocents, eventually_completed, eventually_noted, get, jobs,
    },
    job::{EndlessJob, Harm, HazardJob},
    process,
    stores::{self, Fixture, Kind},
};

/// A job that kills its server each time, among hundreds that do not.
async fn a_job_that_kills_its_server_is_found_out(fixture: &Fixture, harm: Harm) {
    let scene = Scene::of(fixture);
    create_innocents(&fixture.store, 150, 2).await;
    let culprit = create(&fixture.store, harm, 0).await;
    create_innocents(&fixture.store, 150, 2).await;
    // As an orchestrator does it.
    let mut deaths = 0;
    let mut server = scene.spawn(&[]);
    loop {
        let done = async || {
            let completed = HazardJob::query(&fixture.store).state(State::Completed);
            completed.count().await.unwrap() == 300
                && get(&fixture.store, culprit).await.state() == State::Failed
        };
        let step = eventually("the server dies, or all is done", async || {
            if let Some(status) = server.try_wait().unwrap() {
                return Some(Some(status));
            }
            done().await.then_some(None)
        });
        match step.await {
            Some(status) => {
                assert!(!status.success(), "it ended with {status}");
                deaths += 1;
                assert!(deaths <= 3, "it goes on killing");
                server = scene.spawn(&[]);
            }
            None => break,
        }
    }
    process::terminate(server).await;

    assert_eq!(deaths, 3);
    let (culprits, innocents): (Vec<_>, Vec<_>) = jobs(&fixture.store)
        .await
        .into_iter()
        .partition(|job| job.id() == culprit);
    assert_unharmed(&innocents);
    assert_eq!(innocents.len(), 300);
    let culprit = &culprits[0];
    assert_eq!(culprit.exception().unwrap().class_name, LOST_CLAIM);
    assert_eq!(culprit.lost_claims(), 3);
    let begun = scene.ledger();
    let begun = begun
        .iter()
        .filter(|line| line.event == "begun" && line.job == culprit.id());
    assert_eq!(begun.count(), 3);
    eventually("dead servers are swept", async || {
        fixture
            .store
            .servers()
            .await
            .unwrap()
            .is_empty()
            .then_some(())
    })
    .await;
}

async fn aborts(fixture: &Fixture) {
    a_job_that_kills_its_server_is_found_out(fixture, Harm::Abort).await;
}

async fn overflows(fixture: &Fixture) {
    a_job_that_kills_its_server_is_found_out(fixture, Harm::Overflow).await;
}

async fn exits(fixture: &Fixture) {
    a_job_that_kills_its_server_is_found_out(fixture, Harm::Exit).await;
}

/// A panic fails its job, and the process lives.
async fn panics(fixture: &Fixture) {
    let scene = Scene::of(fixture);
    let server = scene.start(&[]).await;
    let mut guilty = Vec::new();
    for _ in 0..5 {
        guilty.push(create(&fixture.store, Harm::Panic, 0).await);
        create_innocents(&fixture.store, 20, 1).await;
    }
    eventually_completed(&fixture.store, 100).await;
    for id in guilty {
        let job = eventually("the job fails", async || {
            let job = get(&fixture.store, id).await;
            (job.state() == State::Failed).then_some(job)
        })
        .await;
        let failure = job.exception().unwrap();
        assert_eq!(failure.class_name, PANIC);
        assert_eq!(failure.message, "as asked for");
        assert_eq!(job.failure_count(), 1);
        assert_eq!(job.get(name::LOST_CLAIMS), None);
    }
    server.stop().await;
    assert_nothing_left(&fixture.store).await;
}

/// Containers have the same host name and process id in each of their lives.
async fn a_name_is_taken_over_from_the_dead_only(fixture: &Fixture) {
    let scene = Scene::of(fixture);
    let named = ["--name", "box:1"];
    let first = scene.start(&named).await;
    assert_eq!(first.name, "box:1");
    let job = create(&fixture.store, Harm::Defy, 0).await;
    eventually_noted(&scene, "begun", job, first.id).await;

    let second = scene.command(&named).output();
    let second = tokio::time::timeout(LEASE + SOME_MORE, second).await;
    let second = second.expect("it waits for the lease, and not longer");
    let second = second.unwrap();
    assert!(!second.status.success());
    let told = String::from_utf8_lossy(&second.stderr);
    assert!(told.contains("error:") && told.contains("box:1"), "{told}");
    assert_eq!(get(&fixture.store, job).await.state(), State::Running);

    let former = server_of(&fixture.store, "box:1").await.unwrap().id;
    first.kill().await;
    let killed = Instant::now();
    let third = scene.start(&["--name", "box:1", "--grace", "100"]).await;
    assert_eq!(third.name, "box:1");
    assert!(killed.elapsed() < LEASE + SOME_MORE, "{killed:?}");
    eventually_noted(&scene, "begun", job, third.id).await;
    let recovered = killed.elapsed();
    println!("under the same name, the job runs again after {recovered:?}");
    assert!(recovered < LEASE + SOME_MORE, "{recovered:?}");
    let server = server_of(&fixture.store, "box:1").await.unwrap();
    assert_ne!(server.id, former);
    assert_eq!(get(&fixture.store, job).await.lost_claims(), 1);
    // It defies the stop, so that it is done.
    third.stop().await;
    assert_nothing_left(&fixture.store).await;
}

async fn server_of(store: &Store, name: &str) -> Option<ServerDocument> {
    let servers = store.servers().await.unwrap();
    servers.into_iter().find(|server| server.name == name)
}

/// Stopped for longer than its lease, a server finds that its claims are gone, and goes on as
/// another.
async fn a_sleeper_comes_back_as_another(fixture: &Fixture) {
    let scene = Scene::of(fixture);
    let store = &fixture.store;
    let closed = fixture.path("closed").display().to_string();
    let open = fixture.path("open").display().to_string();
    std::fs::write(&open, "").unwrap();
    let sleeper = scene.start(&["--gate", &closed, "--workers", "2"]).await;
    let job = create(store, Harm::Defy, 0).await;
    eventually_noted(&scene, "begun", job, sleeper.id).await;
    let before = server_of(store, &sleeper.name).await.unwrap();
    let lost = get(store, job).await.claim().unwrap();
    assert!(lost.token.starts_with(&before.id.to_hex()));

    sleeper.signal("STOP").await;
    let other = scene.start(&["--gate", &open, "--workers", "2"]).await;
    eventually_completed(store, 1).await;
    let completed = get(store, job).await;
    assert_eq!(by(&completed), i64::from(other.id));
    assert_eq!(server_of(store, &sleeper.name).await, None);
    other.stop().await;

    sleeper.signal("CONT").await;
    eventually_noted(&scene, "told", job, sleeper.id).await;
    let after = eventually("it goes on as another", async || {
        let server = server_of(store, &sleeper.name).await?;
        (server.state == ServerState::Running).then_some(server)
    })
    .await;
    assert_ne!(after.id, before.id);
    create_innocents(store, 20, 1).await;
    eventually_completed(store, 21).await;
    for innocent in jobs(store).await.iter().filter(|other| other.id() != job) {
        assert_eq!(by(innocent), i64::from(sleeper.id));
        let token = innocent.as_document().get_str(name::CLAIM).unwrap();
        assert!(token.starts_with(&after.id.to_hex()), "{token}");
    }
    // It said that it was done, and nobody believed it.
    assert_eq!(get(store, job).await, completed);
    let told = sleeper.stop().await;
    assert!(told.contains("refused: 1,"), "{told}");
    assert_unharmed(&jobs(store).await);
    assert_nothing_left(store).await;
}

fn by(job: &JobDocument) -> i64 {
    job.get("by").and_then(rocketjob::whole_number).unwrap()
}

/// Fifty servers, one after the other, are told to end while they work.
async fn stops_cost_nothing(fixture: &Fixture) {
    const STOPS: usize = 50;
    const EACH: usize = 12;
    let scene = Scene::of(fixture);
    let store = &fixture.store;
    let count = STOPS * EACH * 2;
    create_innocents(store, count, 30).await;
    for _ in 0..STOPS {
        // What is in progress is finished in part, and in part handed back.
        let server = scene.start(&["--grace", "15"]).await;
        eventually("it works", async || {
            let lines = scene.ledger();
            let own = lines.iter().filter(|line| line.process == server.id);
            (own.count() >= EACH).then_some(())
        })
        .await;
        server.stop().await;
        let servers = store.servers().await.unwrap();
        assert_eq!(servers, []);
        assert_eq!(store.next_claim("").await.unwrap(), None);
    }
    let done = HazardJob::query(store).state(State::Completed);
    let done = done.count().await.unwrap();
    assert!(
        done < count as u64,
        "they were stopped while there was work"
    );
    let last = scene.start(&["--workers", "10"]).await;
    eventually_completed(store, count as u64).await;
    last.stop().await;

    let jobs = jobs(store).await;
    assert_eq!(jobs.len(), count);
    assert_unharmed(&jobs);
    let mut begun: BTreeMap<ObjectId, usize> = BTreeMap::new();
    for line in scene.ledger().iter().filter(|line| line.event == "begun") {
        *begun.entry(line.job).or_default() += 1;
    }
    for job in &jobs {
        assert_eq!(job.get(name::LOST_CLAIMS), None, "{job:?}");
        assert!(begun.contains_key(&job.id()));
    }
    let again: usize = begun.values().map(|times| times - 1).sum();
    println!("{STOPS} stops: {again} jobs were handed back after they had begun");
    assert!(again > 0, "nothing was handed back");
    assert_nothing_left(store).await;
}

/// A second signal makes an end of a job that does not stop.
async fn the_second_signal_hands_back_at_once(fixture: &Fixture) {
    let scene = Scene::of(fixture);
    let store = &fixture.store;
    let server = scene.start(&["--grace", "60000"]).await;
    let stubborn = create(store, Harm::Ignore, 60_000).await;
    let short = create(store, Harm::Ignore, 700).await;
    eventually_noted(&scene, "begun", stubborn, server.id).await;
    eventually_noted(&scene, "begun", short, server.id).await;
    server.signal("TERM").await;
    // The first lets jobs finish.
    eventually_completed(store, 1).await;
    assert_eq!(get(store, short).await.state(), State::Completed);
    assert_eq!(get(store, stubborn).await.state(), State::Running);
    let servers = store.servers().await.unwrap();
    assert_eq!(servers[0].state, ServerState::Stopping);

    let second = Instant::now();
    server.signal("TERM").await;
    let told = server.ended().await;
    println!("after the second signal it ends in {:?}", second.elapsed());
    assert!(second.elapsed() < Duration::from_secs(5));
    assert!(told.contains("abandoned: 1"), "{told}");
    let job = get(store, stubborn).await;
    assert_eq!(job.state(), State::Queued);
    assert!(job.is_ready());
    assert_eq!(job.failure_count(), 0);
    assert_eq!(job.get(name::LOST_CLAIMS), None);
    assert_nothing_left(store).await;
}

/// Jobs that never end are failed, and when too many threads are stuck in them the process starts
/// itself anew.
async fn a_process_full_of_endless_jobs_is_recycled(fixture: &Fixture) {
    let scene = Scene::of(fixture);
    let store = &fixture.store;
    let arguments = ["--workers", "2", "--max-stuck", "2", "--grace", "100"];
    let mut server = scene.start(&arguments).await;
    let before = server_of(store, &server.name).await.unwrap();
    let mut endless = Vec::new();
    for _ in 0..3 {
        endless.push(EndlessJob {}.create(store).await.unwrap());
    }
    for job in &mut endless {
        eventually("it is failed", async || {
            job.reload().await.unwrap();
            (job.state() == State::Failed).then_some(())
        })
        .await;
        assert_eq!(job.exception().unwrap().class_name, TIMEOUT);
    }
    let mut told = String::new();
    while !told.contains("is running") {
        told.clear();
        let read = server.output.read_line(&mut told);
        let read = tokio::time::timeout(Duration::from_secs(30), read).await;
        assert!(read.expect("it starts anew").unwrap() > 0, "it has ended");
    }
    // The same process, as another server.
    assert_eq!(server.child.id(), Some(server.id));
    let after = server_of(store, &server.name).await.unwrap();
    assert_ne!(after.id, before.id);
    create_innocents(store, 10, 1).await;
    eventually_completed(store, 10).await;
    server.stop().await;
    assert_nothing_left(store).await;
}

/// The store is away for a minute: servers wait for it, and go on by themselves.
async fn the_store_may_be_away_for_a_minute(fixture: &Fixture) {
    const AWAY: Duration = Duration::from_mins(1);
    let mut mongod = Mongod::start(Options::replica_set("away")).await;
    let url = mongod.url("jobs");
    let store = rocketjob::connect(&url).await.unwrap();
    let scene = Scene {
        store: url,
        folder: fixture.folder.path().into(),
    };
    let mut servers = vec![scene.start(&[]).await, scene.start(&[]).await];
    create_innocents(&store, 1000, 20).await;
    eventually_completed(&store, 100).await;
    mongod.kill();
    let away = Instant::now();
    tokio::time::sleep(AWAY).await;
    for server in &mut servers {
        assert_eq!(server.child.try_wait().unwrap(), None, "it waits");
    }
    mongod.restart().await;
    let back = Instant::now();
    let before = scene.ledger().len();
    eventually("jobs are performed again", async || {
        (scene.ledger().len() > before).then_some(())
    })
    .await;
    println!(
        "the store was away for {:?}; {:?} later jobs are performed again",
        back - away,
        back.elapsed()
    );
    eventually_completed(&store, 1000).await;
    assert_unharmed(&jobs(&store).await);
    for server in servers {
        server.stop().await;
    }
    assert_nothing_left(&store).await;
}

/// The primary steps down, and later dies: the servers go on by themselves.
async fn the_primary_may_change(fixture: &Fixture) {
    const JOBS: usize = 2400;
    let mut set = Mongod::start_set("death", 3).await;
    let url = set[0].url("jobs");
    let store = rocketjob::connect(&url).await.unwrap();
    let scene = Scene {
        store: url.clone(),
        folder: fixture.folder.path().into(),
    };
    let mut servers = vec![scene.start(&[]).await, scene.start(&[]).await];
    let client = mongodb::Client::with_uri_str(&url).await.unwrap();
    let admin = client.database("admin");
    let progress = async |count| eventually_completed(&store, count).await;

    // A third before the change, a third before the death.
    create_innocents(&store, JOBS, 20).await;
    progress(JOBS as u64 / 6).await;
    let former = primary(&client).await;
    let stepped = now(&store);
    // The answer is that the connection was closed.
    let _ = admin
        .run_command(doc! { "replSetStepDown": 30, "secondaryCatchUpPeriodSecs": 10 })
        .await;
    eventually("there is another primary", async || {
        (primary(&client).await != former).then_some(())
    })
    .await;
    progress(JOBS as u64 / 2).await;
    let victim = primary(&client).await;
    let victim = set.iter_mut().find(|mongod| Some(mongod.port()) == victim);
    let died = now(&store);
    victim.expect("the primary is one of the set").kill();
    progress(JOBS as u64).await;

    for server in &mut servers {
        assert_eq!(
            server.child.try_wait().unwrap(),
            None,
            "it goes on by itself"
        );
    }
    assert_unharmed(&jobs(&store).await);
    assert_eq!(jobs(&store).await.len(), JOBS);
    let ledger = scene.ledger();
    let end = now(&store);
    for (what, since, until) in [("steps down", stepped, died), ("dies", died, end)] {
        println!(
            "when the primary {what}, no job ends for {} ms",
            pause(&ledger, since, until)
        );
    }
    let processes: BTreeSet<_> = ledger.iter().map(|line| line.process).collect();
    assert_eq!(processes.len(), 2, "both servers worked");
    for server in servers {
        server.stop().await;
    }
    assert_nothing_left(&store).await;
}

fn now(store: &Store) -> i64 {
    store.now().as_millisecond()
}

/// The longest time between `since` and `until` in which no job ended.
fn pause(ledger: &[Line], since: i64, until: i64) -> i64 {
    let ends = ledger.iter().filter(|line| line.event == "done");
    let mut ends: Vec<_> = ends.map(|line| line.at).collect();
    ends.push(since);
    ends.retain(|at| (since..until).contains(at));
    ends.sort_unstable();
    let gaps = ends.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.max().unwrap_or(0)
}

/// The port of the present primary.
async fn primary(client: &mongodb::Client) -> Option<u16> {
    let admin = client.database("admin");
    let hello = admin.run_command(doc! { "hello": 1 }).await.ok()?;
    let (_, port) = hello.get_str("primary").ok()?.rsplit_once(':')?;
    port.parse().ok()
}

/// Makes each a test on the stores that outlive a process.
macro_rules! on_lasting_stores {
    ($($name:ident: $test:path;)+) => {
        $(mod $name {
            use super::*;

            #[test]
            fn on_sqlite() {
                stores::run(Kind::Sqlite, concat!(module_path!(), "::on_sqlite"), $test);
            }

            #[test]
            fn on_mongo() {
                stores::run(Kind::Mongo, concat!(module_path!(), "::on_mongo"), $test);
            }
        })+
    };
}

on_lasting_stores! {
    a_job_that_aborts_is_found_out: aborts;
    a_panic_fails_its_job_alone: panics;
    a_container_that_restarts_gets_its_name_back: a_name_is_taken_over_from_the_dead_only;
    whoever_sleeps_too_long_comes_back_as_another: a_sleeper_comes_back_as_another;
    a_stop_costs_nothing: stops_cost_nothing;
    a_second_signal_ends_it: the_second_signal_hands_back_at_once;
    endless_jobs_are_given_up: a_process_full_of_endless_jobs_is_recycled;
}

#[test]
fn a_job_that_overflows_its_stack_is_found_out() {
    stores::run(
        Kind::Sqlite,
        "death::a_job_that_overflows_its_stack_is_found_out",
        overflows,
    );
}

#[test]
fn a_job_that_exits_is_found_out() {
    stores::run(Kind::Sqlite, "death::a_job_that_exits_is_found_out", exits);
}

#[test]
fn a_store_may_be_away_for_a_minute() {
    stores::run(
        Kind::Memory,
        "death::a_store_may_be_away_for_a_minute",
        the_store_may_be_away_for_a_minute,
    );
}

#[test]
fn a_replica_set_may_lose_its_primary() {
    stores::run(
        Kind::Memory,
        "death::a_replica_set_may_lose_its_primary",
        the_primary_may_change,
    );
}
