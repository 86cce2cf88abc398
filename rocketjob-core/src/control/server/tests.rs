use bson::{Bson, DateTime};

use super::*;
use crate::{memory::MemoryStore, server::ServerState};

fn ruby(action: &str, parameters: Document) -> Event {
    let store = Store::new(MemoryStore::new());
    Event::new(&store, SERVER, action, parameters)
}

#[test]
fn what_the_original_writes_is_understood() {
    let id = ObjectId::new();
    let read = |parameters| ServerCommand::from_event(&ruby("pause", parameters)).map(|c| c.target);
    assert_eq!(read(doc! {}), Ok(Target::All));
    let nobody = doc! { "server_id": Bson::Null, "name": Bson::Null };
    assert_eq!(read(nobody), Ok(Target::All));
    assert_eq!(read(doc! { "server_id": id }), Ok(Target::Server(id)));
    assert_eq!(
        read(doc! { "server_id": id.to_hex() }),
        Ok(Target::Server(id))
    );
    let symbol = Bson::Symbol("app:1".into());
    assert_eq!(
        read(doc! { "name": symbol }),
        Ok(Target::Named("app:1".into()))
    );

    let wait = |parameters| ServerCommand::from_event(&ruby("kill", parameters)).map(|c| c.action);
    let kill = |seconds| {
        Ok(ServerAction::Kill {
            wait: Duration::from_secs_f64(seconds),
        })
    };
    assert_eq!(wait(doc! {}), kill(5.0));
    assert_eq!(wait(doc! { "wait_timeout": 3 }), kill(3.0));
    assert_eq!(wait(doc! { "wait_timeout": 0.5 }), kill(0.5));
    assert_eq!(wait(doc! { "wait_timeout": 7_i64 }), kill(7.0));
}

#[test]
fn whoever_is_not_clearly_meant_is_not_meant() {
    for id in [
        Bson::from("nobody"),
        Bson::from(5),
        Bson::from(DateTime::MIN),
    ] {
        let event = ruby("stop", doc! { "server_id": id });
        assert!(matches!(
            ServerCommand::from_event(&event),
            Err(ActionError::Bad(_))
        ));
    }
    for wait in [Bson::from(-1), Bson::from(f64::NAN), Bson::from("soon")] {
        let event = ruby("kill", doc! { "wait_timeout": wait });
        assert!(matches!(
            ServerCommand::from_event(&event),
            Err(ActionError::Bad(_))
        ));
    }
    let Err(ActionError::Unknown(text)) = ServerCommand::from_event(&ruby("explode", doc! {}))
    else {
        panic!("there is no such action");
    };
    assert!(
        text.contains("`explode`") && text.contains("`thread_dump`"),
        "{text}"
    );
}

#[test]
fn what_we_write_has_the_form_of_the_original() {
    let store = Store::new(MemoryStore::new());
    let id = ObjectId::new();
    let event = |action, target| ServerCommand { action, target }.to_event(&store);
    let stop = event(ServerAction::Stop, Target::Server(id));
    assert_eq!(stop.name, "RocketJob::Subscribers::Server");
    assert_eq!(stop.action.as_deref(), Some("stop"));
    assert_eq!(stop.parameters, doc! { "server_id": id });
    let wait = Duration::from_secs(3);
    let kill = event(ServerAction::Kill { wait }, Target::All);
    assert_eq!(kill.parameters, doc! { "wait_timeout": 3_i32 });
    let wait = Duration::from_millis(2500);
    let kill = event(ServerAction::Kill { wait }, Target::Named("a".into()));
    assert_eq!(kill.parameters, doc! { "name": "a", "wait_timeout": 2.5 });
}

#[test]
fn names_are_taken_as_they_are_before_they_are_taken_as_parts() {
    let servers: Vec<_> = ["app:1", "app:12", "web:1"].map(server).into();
    let names = |target: Target| {
        let selected = target.select(&servers).into_iter();
        selected
            .map(|server| server.name.as_str())
            .collect::<Vec<_>>()
    };
    let named = |name: &str| Target::Named(name.into());
    assert_eq!(names(named("app:1")), ["app:1"]);
    assert_eq!(names(named("app")), ["app:1", "app:12"]);
    assert_eq!(names(named("app:12")), ["app:12"]);
    assert!(names(named("")).is_empty() && names(named("App")).is_empty());
    assert_eq!(names(Target::Server(servers[2].id)), ["web:1"]);
    assert_eq!(names(Target::All).len(), 3);
}

fn server(name: &str) -> ServerDocument {
    ServerDocument {
        id: ObjectId::new(),
        name: name.into(),
        max_workers: 1,
        started_at: None,
        state: ServerState::Running,
        heartbeat: None,
        lease: None,
        version: String::new(),
        definitions: Vec::new(),
        filter: None,
        poll_interval: None,
    }
}
