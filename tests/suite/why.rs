//! "Why is this job not running?", in situations that were prepared for it.

use std::time::Duration;

use bson::{doc, oid::ObjectId};
use rocketjob::{
    Ahead, Change, Definition, Explanation, Guard, Limit, Passing, Patch, Reason, ServerDocument,
    ServerState, Standing, later, name, prelude::*, why,
};
use rocketjob_testing::{Claimer, FieldLimits, Wanted, eventually, insert_all, job};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::stores::on_every_store;

const HOUR: Duration = Duration::from_hours(1);

/// A server's document, with its last sign of life just now.
struct Registered(ServerDocument);

impl Registered {
    fn new(store: &Store, server: &str) -> Self {
        let known = Definition {
            aliases: &["Letter"],
            ..Definition::new("Mail", "app::Mail")
        };
        Self(ServerDocument {
            id: store.next_id(),
            name: server.into(),
            max_workers: 2,
            started_at: Some(store.now()),
            state: ServerState::Running,
            heartbeat: None,
            lease: Some(Duration::from_secs(30)),
            version: "0.1.0".into(),
            definitions: vec![
                known.publish(),
                Definition::new("Other", "app::Other").publish(),
            ],
            filter: None,
            poll_interval: Some(Duration::from_secs(4)),
        })
    }

    fn state(mut self, state: ServerState) -> Self {
        self.0.state = state;
        self
    }

    fn filter(mut self, filter: Filter) -> Self {
        self.0.filter = Some(filter);
        self
    }

    /// It has given no sign of life since it began.
    fn silent(mut self, store: &Store) -> Self {
        self.0.started_at = store.now().checked_sub(HOUR).ok();
        self.0.name += " (silent)";
        self
    }

    async fn enter(self, store: &Store) -> ObjectId {
        store.insert_server(&self.0).await.unwrap();
        if !self.0.name.ends_with("(silent)") {
            store.heartbeat(self.0.id, 2).await.unwrap();
        }
        self.0.id
    }
}

/// Claims as the server with this document.
fn claimer(store: &Store, server: ObjectId, server_name: &str) -> Claimer {
    let mut claimer = Claimer::new(store, ["Mail", "Other"]);
    claimer.server = server;
    claimer.workers = vec![format!("{server_name}:1"), format!("{server_name}:2")];
    claimer
}

async fn asked(store: &Store, id: ObjectId) -> Explanation {
    let explanation = why(&**store, id).await.unwrap();
    let text = explanation.to_string();
    println!("{text}");
    assert!(text.contains(&id.to_hex()), "{text}");
    let json = serde_json::to_value(&explanation).unwrap();
    assert_eq!(json["id"], id.to_hex());
    assert!(json["reason"].is_string(), "{json}");
    explanation
}

async fn change(store: &Store, id: ObjectId, change: Change) {
    let patch = Patch {
        id,
        change,
        guard: Guard::default(),
    };
    // What cannot be read any more was written nevertheless.
    let _ = store.update(patch).await;
}

fn exactly(count: u64) -> Ahead {
    Ahead {
        count,
        or_more: false,
    }
}

on_every_store! {
    async fn there_is_no_such_job(fixture: &Fixture) {
        let store = &fixture.store;
        let explanation = asked(store, store.next_id()).await;
        assert_eq!(explanation.reason, Reason::NoSuchJob);
        assert_eq!((explanation.kind, explanation.state), (None, None));
    }

    async fn its_document_cannot_be_read(fixture: &Fixture) {
        let store = &fixture.store;
        let id = job("Mail").insert(store).await.id();
        change(store, id, Change::new().set(name::PRIORITY, "high")).await;
        let explanation = asked(store, id).await;
        assert!(matches!(&explanation.reason, Reason::Undecodable { problem } if problem.contains("priority")));
        assert_eq!(explanation.kind.as_deref(), Some("Mail"));
        assert!(explanation.to_string().contains("delete it"));
    }

    async fn it_runs_on_a_server_that_is_alive_dead_or_gone(fixture: &Fixture) {
        let store = &fixture.store;
        let server = Registered::new(store, "live:1").enter(store).await;
        let id = job("Mail").insert(store).await.id();
        claimer(store, server, "live:1").claim(1).await;
        let Reason::Running { worker_name, since, server: Some(standing) } = asked(store, id).await.reason else {
            panic!("it is running");
        };
        assert_eq!(worker_name.as_deref(), Some("live:1:1"));
        assert!(since.unwrap() <= store.now());
        assert_eq!((standing.name.as_str(), standing.standing), ("live:1", Standing::Running));

        let lapsed = Registered::new(store, "lapsed:1").silent(store).enter(store).await;
        let id = job("Mail").insert(store).await.id();
        claimer(store, lapsed, "lapsed:1").claim(1).await;
        let explanation = asked(store, id).await;
        assert!(matches!(&explanation.reason, Reason::Running { server: Some(server), .. } if server.standing == Standing::Lapsed));
        assert!(explanation.to_string().contains("no sign of life for 1 h 0 min"));

        store.remove_server(lapsed).await.unwrap();
        let explanation = asked(store, id).await;
        assert!(matches!(explanation.reason, Reason::Running { server: None, .. }));
        assert!(explanation.to_string().contains("whose server is gone"));
    }

    async fn it_has_ended_or_is_paused(fixture: &Fixture) {
        let store = &fixture.store;
        let now = rocketjob::date(store.now());
        let exception = doc! { "class_name": "Broken", "message": "no route\nto host" };
        let ended = |state| job("Mail").state(state).set(name::COMPLETED_AT, now.clone());
        let failed = ended(State::Failed).set(name::EXCEPTION, exception).set(name::FAILURE_COUNT, 3);
        let ids = insert_all(store, [ended(State::Completed), failed, ended(State::Aborted), ended(State::Paused)]).await;
        assert!(matches!(asked(store, ids[0]).await.reason, Reason::Completed { at: Some(_) }));
        let failed = asked(store, ids[1]).await;
        let Reason::Failed { failures: 3, class_name, message, .. } = &failed.reason else { panic!("{failed:?}") };
        assert_eq!((class_name.as_deref(), message.as_deref()), (Some("Broken"), Some("no route")));
        assert!(failed.to_string().contains("after 3 attempts that failed with Broken: no route; retry it"));
        assert!(matches!(asked(store, ids[2]).await.reason, Reason::Aborted { .. }));
        let paused = asked(store, ids[3]).await;
        assert!(matches!(paused.reason, Reason::Paused { .. }));
        assert!(paused.to_string().ends_with("resume it to go on"));
    }

    async fn its_time_is_over_or_has_not_come(fixture: &Fixture) {
        let store = &fixture.store;
        let past = store.now().checked_sub(HOUR).unwrap();
        let expired = job("Mail").set(name::EXPIRES_AT, rocketjob::date(past)).insert(store).await;
        assert!(matches!(asked(store, expired.id()).await.reason, Reason::Expired { .. }));
        let run_at = later(store.now(), HOUR);
        let scheduled = job("Mail").scheduled(run_at).insert(store).await;
        let Reason::Scheduled { run_at: told, remaining } = asked(store, scheduled.id()).await.reason else {
            panic!("it is scheduled");
        };
        assert_eq!(told, run_at);
        assert!(remaining <= HOUR && remaining > HOUR / 2);
    }

    async fn a_limit_has_no_place_for_it(fixture: &Fixture) {
        let store = &fixture.store;
        let server = Registered::new(store, "live:1").enter(store).await;
        let grouped = |group: &str| job("Mail").set("group", group);
        let ids = insert_all(store, [grouped("a"), grouped("a"), grouped("a:b"), grouped("a")]).await;
        let limits = FieldLimits::new("group", 2);
        let wanted = Wanted { limits: &limits, ..Wanted::count(10) };
        assert_eq!(claimer(store, server, "live:1").claim_wanted(&wanted).await.jobs.len(), 3);
        let explanation = asked(store, ids[3]).await;
        let Reason::HeldForLimit { limit, holders } = &explanation.reason else { panic!("{explanation:?}") };
        assert_eq!(Limit::hold(limit), store.get(ids[3]).await.unwrap().unwrap().hold().unwrap());
        let mut having: Vec<_> = holders.iter().map(|holder| holder.id).collect();
        having.sort_unstable();
        assert_eq!(having, ids[..2], "not that of a limit whose name begins alike");
        assert!(explanation.to_string().contains("taken by Mail"));
    }

    async fn it_is_held_for_another_reason(fixture: &Fixture) {
        let store = &fixture.store;
        Registered::new(store, "live:1").enter(store).await;
        let suspect = job("Mail").held(name::HOLD_SUSPECT).set(name::LOST_CLAIMS, 2);
        let ids = insert_all(store, [suspect.clone(), suspect, job("Mail").held("review")]).await;
        let told = asked(store, ids[0]).await;
        assert_eq!(told.reason, Reason::HeldAsSuspect { lost_claims: 2, waiting: exactly(2) });
        let told = asked(store, ids[2]).await;
        assert_eq!(told.reason, Reason::Held { hold: "review".into() });
        assert!(told.to_string().contains("`review`"));
    }

    async fn no_server_is_alive(fixture: &Fixture) {
        let store = &fixture.store;
        let id = job("Mail").insert(store).await.id();
        let told = asked(store, id).await;
        assert_eq!(told.reason, Reason::NoServer { lapsed: Vec::new() });
        assert!(told.to_string().ends_with("start one"));
        Registered::new(store, "old:1").silent(store).enter(store).await;
        let told = asked(store, id).await;
        assert!(matches!(&told.reason, Reason::NoServer { lapsed } if lapsed.len() == 1));
        assert!(told.to_string().contains("silent for 1 h"));
    }

    async fn no_server_knows_its_kind(fixture: &Fixture) {
        let store = &fixture.store;
        Registered::new(store, "live:1").enter(store).await;
        let ids = insert_all(store, [job("Unheard"), job("Letter")]).await;
        let told = asked(store, ids[0]).await;
        assert!(matches!(&told.reason, Reason::UnknownKind { servers, originals: 0 } if servers.len() == 1));
        assert!(told.to_string().contains("deploy a program that has the kind"));
        let told = asked(store, ids[1]).await;
        assert!(matches!(told.reason, Reason::NothingInTheWay { .. }), "an alias is a name of the kind");
        let mut original = Registered::new(store, "ruby:1");
        original.0.version.clear();
        original.0.definitions.clear();
        original.enter(store).await;
        assert!(matches!(asked(store, ids[0]).await.reason, Reason::UnknownKind { originals: 1, .. }));
    }

    async fn the_filters_of_all_servers_leave_it_out(fixture: &Fixture) {
        let store = &fixture.store;
        let filter = Filter::eq("country", "CH").and(Filter::lt(name::PRIORITY, 50));
        Registered::new(store, "swiss:1").filter(filter.clone()).enter(store).await;
        let swiss = job("Mail").set("country", "CH").priority(10);
        let ids = insert_all(store, [job("Mail").set("country", "AT"), swiss]).await;
        let told = asked(store, ids[0]).await;
        let Reason::FilteredOut { servers } = &told.reason else { panic!("{told:?}") };
        assert_eq!((servers[0].name.as_str(), &servers[0].filter), ("swiss:1", &filter));
        assert!(matches!(asked(store, ids[1]).await.reason, Reason::NothingInTheWay { .. }));
    }

    async fn the_servers_that_would_take_it_are_away(fixture: &Fixture) {
        let store = &fixture.store;
        Registered::new(store, "paused:1").state(ServerState::Paused).enter(store).await;
        Registered::new(store, "stopping:1").state(ServerState::Stopping).enter(store).await;
        let id = job("Mail").insert(store).await.id();
        let told = asked(store, id).await;
        let Reason::ServersAway { servers } = &told.reason else { panic!("{told:?}") };
        let standings: Vec<_> = servers.iter().map(|server| server.standing).collect();
        assert_eq!(standings, [Standing::Paused, Standing::Stopping]);
        assert!(told.to_string().contains("paused:1 is paused, stopping:1 is stopping; resume"));

        let unheard = job("Unheard").insert(store).await.id();
        let mut silent = Registered::new(store, "silent:1").silent(store);
        silent.0.definitions = vec![Definition::new("Unheard", "app::Unheard").publish()];
        silent.enter(store).await;
        let told = asked(store, unheard).await;
        assert!(matches!(&told.reason, Reason::ServersAway { servers } if servers[0].standing == Standing::Lapsed));
    }

    async fn it_is_to_be_made_ready(fixture: &Fixture) {
        let store = &fixture.store;
        Registered::new(store, "live:1").enter(store).await;
        let ids = insert_all(store, [job("Mail").scheduled(store.now()), job("Mail").unmarked()]).await;
        let told = asked(store, ids[0]).await;
        assert!(matches!(told.reason, Reason::NotYetReady { because: Passing::Due, .. }));
        let told = asked(store, ids[1]).await;
        assert!(matches!(told.reason, Reason::NotYetReady { because: Passing::Unmarked, .. }));
    }

    async fn all_workers_are_busy_and_others_come_first(fixture: &Fixture) {
        let store = &fixture.store;
        let server = Registered::new(store, "live:1").enter(store).await;
        let ids = insert_all(store, [job("Other"), job("Mail"), job("Mail"), job("Other").priority(1), job("Mail").priority(60), job("Unheard").priority(1)]).await;
        claimer(store, server, "live:1").claim(2).await;
        let told = asked(store, ids[2]).await;
        let Reason::WorkersBusy { workers: 2, busy, ahead } = &told.reason else { panic!("{told:?}") };
        let mut having: Vec<_> = busy.iter().map(|busy| busy.id).collect();
        having.sort_unstable();
        // By priority, then by age: the job of the kind that nobody performs is in nobody's way.
        assert_eq!(having, [ids[0], ids[3]]);
        assert_eq!(*ahead, exactly(1));
        assert!(told.to_string().contains("all 2 that take it are busy"), "{told}");
        assert!(told.to_string().contains("1 job comes before it"), "{told}");
        let Reason::WorkersBusy { ahead, .. } = asked(store, ids[4]).await.reason else { panic!("busy") };
        assert_eq!(ahead, exactly(2));
    }

    async fn it_waits_behind_others(fixture: &Fixture) {
        let store = &fixture.store;
        Registered::new(store, "live:1").enter(store).await;
        insert_all(store, (0..10_005).map(|_| job("Other"))).await;
        let ids = insert_all(store, [job("Mail"), job("Mail").priority(49)]).await;
        let told = asked(store, ids[0]).await;
        assert_eq!(told.reason, Reason::Behind { ahead: Ahead { count: 10_000, or_more: true }, idle: 2 });
        assert!(told.to_string().contains("waits behind 10,000+ jobs, and 2 workers are idle"), "{told}");
        assert!(matches!(asked(store, ids[1]).await.reason, Reason::NothingInTheWay { .. }));
    }

    async fn nothing_is_in_its_way(fixture: &Fixture) {
        let store = &fixture.store;
        Registered::new(store, "live:1").enter(store).await;
        let id = job("Mail").insert(store).await.id();
        let told = asked(store, id).await;
        let Reason::NothingInTheWay { within, servers } = &told.reason else { panic!("{told:?}") };
        assert_eq!(*within, Duration::from_secs(5), "a quarter more than the poll interval");
        assert_eq!(*servers, ["live:1"]);
        assert!(told.to_string().contains("it should start within 5.0 s on live:1"), "{told}");
    }

    async fn a_real_server_publishes_what_is_needed(fixture: &Fixture) {
        let store = &fixture.store;
        let gate = std::sync::Arc::new(Semaphore::new(0));
        let server = fixture.server::<Gated>().workers(1).poll_interval(Duration::from_secs(2))
            .filter(Filter::ne("colour", "red")).shared(Gate(std::sync::Arc::clone(&gate)));
        let server = server.start().await.unwrap();
        let create = async |colour: &str| Gated { colour: colour.into() }.create(store).await.unwrap().id();
        let first = create("blue").await;
        let running = eventually("the first job runs", async || {
            let told = why(&**store, first).await.unwrap();
            matches!(told.reason, Reason::Running { .. }).then_some(told)
        }).await;
        assert!(matches!(&running.reason, Reason::Running { server: Some(standing), .. } if standing.name == server.name()));
        let (second, red) = (create("blue").await, create("red").await);
        let told = asked(store, second).await;
        assert!(matches!(&told.reason, Reason::WorkersBusy { workers: 1, busy, .. } if busy[0].id == first));
        assert!(matches!(asked(store, red).await.reason, Reason::FilteredOut { .. }));
        gate.add_permits(10);
        eventually("the others end", async || {
            matches!(why(&**store, second).await.unwrap().reason, Reason::Completed { .. }).then_some(())
        }).await;
        server.stop().await.unwrap();
        assert!(matches!(asked(store, red).await.reason, Reason::NoServer { .. }));
    }
}

/// Waits to be let through.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "Gated", keep_completed)]
struct Gated {
    colour: String,
}

struct Gate(std::sync::Arc<Semaphore>);

impl Perform for Gated {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        job.shared::<Gate>()?.0.acquire().await?.forget();
        Ok(())
    }
}
