//! Servers and programs that hear events.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use bson::{Bson, Document, doc};
use parking_lot::Mutex;
use rocketjob::{
    BoxError, EVERYTHING, Event, Listener, LogLevel, Server, ServerState,
    control::{self, LogAction, ServerAction, ServerCommand, Target, WorkerAction, WorkerCommand},
    prelude::*,
};
use rocketjob_testing::eventually;
use serde::{Deserialize, Serialize};

use crate::stores::{self, Fixture, Kind, on_every_store};

/// No test lasts until a server gives its next sign of life.
const NEVER: Duration = Duration::from_hours(1);

/// Blocks its thread until the test lets it go; it looks whether it should stop, or does not.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "WaitingForEvent", keep_completed)]
struct Waiting {
    stubborn: bool,
}

#[derive(Default)]
struct Gate {
    begun: AtomicUsize,
    open: AtomicBool,
}

impl Perform for Waiting {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        let gate = job.shared::<Arc<Gate>>()?;
        gate.begun.fetch_add(1, Ordering::SeqCst);
        while !gate.open.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
            if !self.stubborn {
                job.check()?;
            }
        }
        Ok(())
    }
}

/// Does what it is asked for, well or badly.
#[derive(Serialize, Deserialize, Debug, PartialEq)]
#[serde(rename_all = "snake_case")]
enum NoteAction {
    Clear,
    Add { text: String, times: u32 },
    Fail,
    Panic,
}

#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    async fn eventually(&self, notes: &[&str]) {
        eventually(&format!("the notes are {notes:?}"), async || {
            (*self.0.lock() == notes).then_some(())
        })
        .await;
    }
}

impl Subscriber for Notes {
    const NAME: &'static str = "Notes";
    type Action = NoteAction;

    async fn act(&self, action: NoteAction) -> Result<(), BoxError> {
        match action {
            NoteAction::Clear => self.0.lock().clear(),
            NoteAction::Add { text, times } => {
                self.0.lock().extend((0..times).map(|_| text.clone()));
            }
            NoteAction::Fail => return Err("as asked for".into()),
            NoteAction::Panic => panic!("as asked for"),
        }
        Ok(())
    }
}

/// Hears the events of all.
#[derive(Clone, Default)]
struct All(Arc<Mutex<Vec<Event>>>);

impl Subscriber for All {
    const NAME: &'static str = EVERYTHING;
    type Action = Event;

    async fn act(&self, event: Event) -> Result<(), BoxError> {
        self.0.lock().push(event);
        Ok(())
    }
}

async fn server(fixture: &Fixture, gate: &Arc<Gate>) -> Server {
    let server = fixture.server::<Waiting>();
    let server = server
        .heartbeat_interval(NEVER)
        .call_timeout(Duration::from_secs(30));
    let server = server.cancel_grace(Duration::from_millis(100));
    server.shared(Arc::clone(gate)).start().await.unwrap()
}

async fn eventually_state(store: &Store, server: &Server, state: ServerState) {
    eventually(&format!("the server is {state:?}"), async || {
        let servers = store.servers().await.unwrap();
        let found = servers.iter().find(|found| found.id == server.id());
        found
            .is_some_and(|found| found.state == state)
            .then_some(())
    })
    .await;
}

async fn eventually_begun(gate: &Gate, count: usize) {
    eventually(&format!("{count} jobs are begun"), async || {
        (gate.begun.load(Ordering::SeqCst) == count).then_some(())
    })
    .await;
}

async fn wait(store: &Store, stubborn: bool) -> bson::oid::ObjectId {
    Waiting { stubborn }.create(store).await.unwrap().id()
}

/// The number of the worker that performs the job.
fn performer(server: &Server, job: bson::oid::ObjectId) -> Option<usize> {
    let performs = |worker: &rocketjob::WorkerDump| {
        worker
            .job
            .as_ref()
            .is_some_and(|performed| performed.id == job)
    };
    server
        .dump()
        .workers
        .into_iter()
        .find(performs)
        .map(|worker| worker.number)
}

on_every_store! {
    /// An event alone, as the original publishes it; the document follows.
    async fn a_server_does_what_an_event_says(fixture: &Fixture) {
        let (store, gate) = (&fixture.store, Arc::default());
        let server = server(fixture, &gate).await;
        let tell = async |action, target| {
            let command = ServerCommand { action, target };
            store.publish(&command.to_event(store)).await.unwrap();
        };
        tell(ServerAction::Pause, Target::Named("another".into())).await;
        tell(ServerAction::Pause, Target::Server(store.next_id())).await;
        tell(ServerAction::Pause, Target::Named(server.name())).await;
        eventually_state(store, &server, ServerState::Paused).await;
        wait(store, false).await;
        tell(ServerAction::Resume, Target::Server(server.id())).await;
        eventually_state(store, &server, ServerState::Running).await;
        eventually_begun(&gate, 1).await;
        let before = store.servers().await.unwrap()[0].beats();
        tell(ServerAction::Refresh, Target::All).await;
        eventually("it gives a sign of life", async || {
            (store.servers().await.unwrap()[0].beats() > before).then_some(())
        })
        .await;
        tell(ServerAction::ThreadDump, Target::All).await;
        // What is running does not finish: a stop alone would wait for it.
        let wait = Duration::from_millis(50);
        tell(ServerAction::Kill { wait }, Target::All).await;
        let stopped = server.run_until(std::future::pending()).await.unwrap();
        assert_eq!(stopped.abandoned, 0);
        assert_eq!(store.servers().await.unwrap(), []);
        let job = Waiting::query(store).first().await.unwrap().unwrap();
        assert_eq!((job.state(), job.document().failure_count()), (State::Queued, 0));
    }

    /// Those who steer are told when nobody is meant, and who was.
    async fn servers_are_selected_by_name_part_and_all(fixture: &Fixture) {
        let store = &fixture.store;
        let none = control::pause_servers(store, &Target::All).await.unwrap_err();
        assert_eq!(none.to_string(), "there are no servers");
        let mut servers = Vec::new();
        for name in ["app:1", "app:2", "web:1"] {
            let server = fixture.server::<Waiting>().name(name).heartbeat_interval(NEVER);
            servers.push(server.start().await.unwrap());
        }
        let named = |name: &str| Target::Named(name.into());
        let names = |servers: Vec<rocketjob::ServerDocument>| {
            servers.into_iter().map(|server| server.name).collect::<Vec<_>>()
        };
        let paused = control::pause_servers(store, &named("app")).await.unwrap();
        assert!(paused.iter().all(|server| server.state == ServerState::Paused));
        assert_eq!(names(paused), ["app:1", "app:2"]);
        let resumed = control::resume_servers(store, &named("app:2")).await.unwrap();
        assert_eq!(names(resumed), ["app:2"]);
        let dumped = control::dump_servers(store, &Target::All).await.unwrap();
        assert_eq!(names(dumped).len(), 3);
        let error = control::stop_servers(store, &named("db")).await.unwrap_err().to_string();
        let expected = "no server's name is `db` or contains it: there are `app:1`, `app:2`, `web:1`";
        assert_eq!(error, expected);
        // Each hears all that it was told, in that order, and the last word is what lasts.
        let wanted = [ServerState::Paused, ServerState::Running, ServerState::Running];
        for (server, state) in servers.iter().zip(wanted) {
            eventually_state(store, server, state).await;
        }
        let resume = Event::new(store, control::SERVER, "resume", doc! { "name": "app:1" });
        store.publish(&resume).await.unwrap();
        eventually_state(store, &servers[0], ServerState::Running).await;
        for server in servers {
            server.stop().await.unwrap();
        }
    }

    /// A worker that is stopped finishes its job; another takes its place.
    async fn a_worker_is_stopped_and_replaced(fixture: &Fixture) {
        let (store, gate): (_, Arc<Gate>) = (&fixture.store, Arc::default());
        let server = server(fixture, &gate).await;
        let job = wait(store, true).await;
        eventually_begun(&gate, 1).await;
        let dump = server.dump();
        assert_eq!((dump.workers.len(), dump.pid), (3, std::process::id()));
        let busy = dump.workers.iter().find(|worker| worker.job.is_some()).unwrap();
        let performed = busy.job.as_ref().unwrap();
        assert_eq!((performed.id, performed.kind.as_str()), (job, "WaitingForEvent"));
        if cfg!(target_os = "linux") {
            assert!(dump.workers.iter().all(|worker| worker.thread.is_some()));
        }
        assert!(dump.to_string().contains(&format!("performs WaitingForEvent {job}")), "{dump}");

        let stop = WorkerCommand {
            action: WorkerAction::Stop,
            server: server.id(),
            worker: u32::try_from(busy.number).unwrap(),
        };
        store.publish(&stop.to_event(store)).await.unwrap();
        // Nobody of that number.
        let nobody = WorkerCommand { worker: 99, ..stop };
        store.publish(&nobody.to_event(store)).await.unwrap();
        gate.open.store(true, Ordering::SeqCst);
        eventually("the job is completed, and the worker replaced", async || {
            let job = store.get(job).await.unwrap().unwrap();
            let numbers: Vec<_> = server.dump().workers.iter().map(|worker| worker.number).collect();
            let replaced = numbers.len() == 3 && !numbers.contains(&busy.number);
            (job.state() == State::Completed && replaced).then_some(())
        })
        .await;
        server.stop().await.unwrap();
    }

    /// A worker that is killed loses its job to another, whether the code stops or not.
    async fn a_worker_is_killed_and_its_job_handed_back(fixture: &Fixture) {
        let (store, gate): (_, Arc<Gate>) = (&fixture.store, Arc::default());
        let server = server(fixture, &gate).await;
        let mut begun = 0;
        for stubborn in [false, true] {
            let job = wait(store, stubborn).await;
            begun += 1;
            eventually_begun(&gate, begun).await;
            let worker = performer(&server, job).unwrap();
            let kill = WorkerCommand {
                action: WorkerAction::Kill { wait: Duration::from_millis(20) },
                server: server.id(),
                worker: u32::try_from(worker).unwrap(),
            };
            store.publish(&kill.to_event(store)).await.unwrap();
            begun += 1;
            eventually_begun(&gate, begun).await;
            eventually("another worker performs the job", async || {
                performer(&server, job).filter(|number| *number != worker)
            })
            .await;
            assert_eq!(store.get(job).await.unwrap().unwrap().failure_count(), 0);
        }
        gate.open.store(true, Ordering::SeqCst);
        let completed = Waiting::query(store).state(State::Completed);
        eventually("both are completed", async || {
            (completed.clone().count().await.unwrap() == 2).then_some(())
        })
        .await;
        server.stop().await.unwrap();
    }

    /// Whatever goes wrong in a subscriber is its own affair.
    async fn a_program_subscribes_to_its_own_events(fixture: &Fixture) {
        let store = &fixture.store;
        let (notes, all) = (Notes::default(), All::default());
        let server = fixture.server::<Waiting>().subscribe(notes.clone()).subscribe(all.clone());
        let server = server.start().await.unwrap();
        let add = |text: &str, times| NoteAction::Add { text: text.into(), times };
        Notes::publish(store, add("a", 2)).await.unwrap();
        Notes::publish(store, NoteAction::Panic).await.unwrap();
        Notes::publish(store, NoteAction::Fail).await.unwrap();
        let unfit = Event::new(store, "Notes", "add", doc! { "text": 5 });
        store.publish(&unfit).await.unwrap();
        store.publish(&Event::new(store, "Notes", "explode", doc! {})).await.unwrap();
        store.publish(&Event::new(store, "Stranger", "add", doc! {})).await.unwrap();
        Notes::publish_named(store, "add", doc! { "text": "b", "times": 1 }).await.unwrap();
        notes.eventually(&["a", "a", "b"]).await;

        let refused = Notes::publish_named(store, "explode", doc! {}).await.unwrap_err();
        let expected = "the subscriber `Notes` refuses it: there is no action `explode`: \
                        there are `clear`, `add`, `fail`, `panic`";
        assert_eq!(refused.to_string(), expected);
        let refused = Notes::publish_named(store, "add", doc! { "text": "b" }).await.unwrap_err();
        assert!(refused.to_string().contains("do not fit"), "{refused}");
        let anything = Event::new(store, "Any", "thing", doc! {});
        assert!(All::publish(store, anything).await.is_err());

        eventually("all events are heard", async || (all.0.lock().len() == 7).then_some(())).await;
        let names: Vec<_> = all.0.lock().iter().map(|event| event.name.clone()).collect();
        assert_eq!(names.iter().filter(|name| *name == "Stranger").count(), 1);
        let subscription = server.subscribers().subscribe(Notes::default());
        subscription.unsubscribe();
        server.stop().await.unwrap();
    }

    /// Without a server, too; and as long as it is wanted.
    async fn a_program_without_a_server_listens(fixture: &Fixture) {
        let store = &fixture.store;
        let notes = Notes::default();
        let subscribers = Subscribers::new();
        let first = subscribers.subscribe(notes.clone());
        Notes::publish(store, NoteAction::Add { text: "early".into(), times: 1 }).await.unwrap();
        let listener = Listener::start(store, &subscribers).await.unwrap();
        let add = |text: &str| NoteAction::Add { text: text.into(), times: 1 };
        Notes::publish(store, add("a")).await.unwrap();
        notes.eventually(&["a"]).await;
        first.unsubscribe();
        let second = Notes::default();
        let _subscription = subscribers.subscribe(second.clone());
        Notes::publish(store, add("b")).await.unwrap();
        second.eventually(&["b"]).await;
        notes.eventually(&["a"]).await;
        listener.stop().await;
        Notes::publish(store, add("c")).await.unwrap();
        second.eventually(&["b"]).await;
    }
}

async fn ruby_and_we_understand_each_other(fixture: &Fixture) {
    let (store, gate) = (&fixture.store, Arc::default());
    let client = fixture.database.as_ref().unwrap().client().await;
    let database = client.default_database().unwrap();
    let events = database.collection::<Document>("rocket_job.events");
    let server = server(fixture, &gate).await;
    let now = bson::DateTime::from_millis(store.now().as_millisecond());
    let event = |action: Bson, parameters: Document| {
        doc! {
            "_id": store.next_id(),
            "name": "RocketJob::Subscribers::Server",
            "action": action,
            "parameters": parameters,
            "created_at": now,
            "updated_at": now,
        }
    };
    let pause = event(
        "pause".into(),
        doc! { "server_id": server.id(), "name": Bson::Null },
    );
    events.insert_one(pause).await.unwrap();
    eventually_state(store, &server, ServerState::Paused).await;
    let resume = event(
        Bson::Symbol("resume".into()),
        doc! { "server_id": server.id().to_hex() },
    );
    events.insert_one(resume).await.unwrap();
    eventually_state(store, &server, ServerState::Running).await;
    let everyone = doc! { "server_id": Bson::Null };
    events
        .insert_one(event("pause".into(), everyone))
        .await
        .unwrap();
    eventually_state(store, &server, ServerState::Paused).await;

    let set = LogAction::Set {
        level: LogLevel::Debug,
        module: None,
        host: Some("app1".into()),
        pid: Some(7),
    };
    let set = set.to_event(store);
    store.publish(&set).await.unwrap();
    let stored = events
        .find_one(doc! { "_id": set.id })
        .await
        .unwrap()
        .unwrap();
    let time = bson::DateTime::from_millis(set.created_at.as_millisecond());
    let expected = doc! {
        "_id": set.id,
        "name": "RocketJob::Subscribers::Logger",
        "action": "set",
        "parameters": { "level": "debug", "host_name": "app1", "pid": 7_i32 },
        "created_at": time,
        "updated_at": time,
    };
    assert_eq!(stored, expected);
    control::resume_servers(store, &Target::Server(server.id()))
        .await
        .unwrap();
    let query = doc! { "action": "resume", "parameters": { "server_id": server.id() } };
    assert!(events.find_one(query).await.unwrap().is_some());
    server.stop().await.unwrap();
}

#[test]
fn events_of_the_original_are_understood_and_ours_have_its_form() {
    let test = concat!(module_path!(), "::ruby_and_we_understand_each_other");
    stores::run(Kind::Mongo, test, ruby_and_we_understand_each_other);
}
