//! What a user may get wrong, and what he is told.

use std::time::{Duration, Instant};

use rocketjob::{Error, Registry, prelude::*};

use crate::stores::on_every_store;

#[tokio::test]
async fn an_unknown_scheme_lists_the_known_ones() {
    let error = rocketjob::connect("redis://localhost").await.unwrap_err();
    assert!(matches!(error, Error::Configuration(_)));
    assert_eq!(
        error.to_string(),
        "unknown scheme `redis` in the address of the store: this program knows `memory://`, `sqlite://jobs.db`, \
         `mongodb://host/database`"
    );
    let error = rocketjob::connect("jobs.db").await.unwrap_err();
    assert!(error.to_string().contains("has no scheme"), "{error}");
}

#[tokio::test]
async fn an_unreachable_server_is_named_within_seconds_and_its_password_is_not() {
    // A port that was free a moment ago: nobody listens there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let address = format!("mongodb://ada:hunter2@127.0.0.1:{port}/jobs");
    let began = Instant::now();
    let error = rocketjob::connect(&address).await.unwrap_err();
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "took {:?}",
        began.elapsed()
    );
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(error.is_transient());
    assert!(
        error.to_string().contains(&format!("127.0.0.1:{port}")),
        "{error}"
    );
    for text in [error.to_string(), error.chain(), format!("{error:?}")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn a_malformed_mongodb_address_is_refused_and_its_password_not_shown() {
    let error = rocketjob::connect("mongodb://ada:hunter2@/?x=y=z")
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Configuration(_)), "{error:?}");
    assert!(!error.chain().contains("hunter2"), "{}", error.chain());
}

#[tokio::test]
async fn a_file_that_cannot_be_a_database_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("no/such/folder/jobs.db");
    let error = rocketjob::connect(&format!("sqlite://{}", missing.display()))
        .await
        .unwrap_err();
    assert!(
        error.chain().contains("no/such/folder"),
        "{}",
        error.chain()
    );
    let text = folder.path().join("notes.txt");
    std::fs::write(
        &text,
        "this is no database, but a text that is long enough to have a header ".repeat(40),
    )
    .unwrap();
    let error = rocketjob::connect(&format!("sqlite://{}", text.display()))
        .await
        .unwrap_err();
    assert!(error.chain().contains("notes.txt"), "{}", error.chain());
}

on_every_store! {
    async fn a_server_without_kinds_does_not_start(fixture: &Fixture) {
        let error = Server::builder(&fixture.store).only(Registry::new()).start().await.unwrap_err();
        assert!(matches!(error, Error::NoKinds));
        assert!(error.to_string().contains("register::<YourJob>()"), "{error}");
        assert_eq!(fixture.store.servers().await.unwrap(), []);
    }
}

#[test]
fn kinds_register_themselves_in_the_program_that_has_them() {
    let registry = Registry::collected().unwrap();
    assert!(
        registry.handler("PackOrder").is_some(),
        "{:?}",
        registry.kinds()
    );
}
