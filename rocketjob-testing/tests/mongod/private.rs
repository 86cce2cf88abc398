//! Private servers: killed, restarted, never left behind.

use std::path::{Path, PathBuf};

use bson::doc;
use mongodb::Client;
use rocketjob_testing::mongod::{Mongod, Options};

use super::{Folder, Holder, count, eventually, hold, insert, runs};

/// Writes are acknowledged when a majority has them on disk.
async fn private_client(mongod: &Mongod) -> Client {
    Client::with_uri_str(mongod.url("private") + "&journal=true&w=majority")
        .await
        .unwrap()
}

async fn write(mongod: &Mongod) {
    insert(&private_client(mongod).await, "private").await;
}

async fn written(mongod: &Mongod) -> u64 {
    count(&private_client(mongod).await, "private").await
}

#[tokio::test]
async fn a_private_server_survives_a_kill_and_is_gone_after_drop() {
    for options in [Options::standalone(), Options::replica_set("mine")] {
        let mut mongod = Mongod::start(options).await;
        let (port, first) = (mongod.port(), mongod.process().unwrap());
        write(&mongod).await;
        mongod.kill();
        assert!(!runs(first));
        assert_eq!(mongod.process(), None);
        mongod.restart().await;
        assert_eq!(mongod.port(), port);
        assert_eq!(written(&mongod).await, 1);
        let (second, folder) = (mongod.process().unwrap(), data_folder(&mongod).await);
        assert!(runs(second) && folder.exists());
        drop(mongod);
        assert!(!runs(second) && !folder.exists());
    }
}

async fn data_folder(mongod: &Mongod) -> PathBuf {
    let client = private_client(mongod).await;
    let options = client
        .database("admin")
        .run_command(doc! { "getCmdLineOpts": 1 })
        .await
        .unwrap();
    let storage = options
        .get_document("parsed")
        .unwrap()
        .get_document("storage")
        .unwrap();
    Path::new(storage.get_str("dbPath").unwrap()).to_owned()
}

#[tokio::test]
async fn a_set_of_three_goes_on_without_one() {
    let mut set = Mongod::start_set("three", 3).await;
    write(&set[0]).await;
    let client = private_client(&set[0]).await;
    let hello = client
        .database("admin")
        .run_command(doc! { "hello": 1 })
        .await
        .unwrap();
    let primary = hello.get_str("primary").unwrap().to_owned();
    let killed = set
        .iter_mut()
        .find(|mongod| primary == format!("127.0.0.1:{}", mongod.port()))
        .unwrap();
    killed.kill();
    // The driver waits for the next primary.
    insert(&client, "private").await;
    killed.restart().await;
    assert_eq!(count(&client, "private").await, 2);
}

/// Also the process that the test below kills.
#[tokio::test]
async fn a_private_server_takes_writes() {
    let mongod = Mongod::start(Options::standalone()).await;
    write(&mongod).await;
    assert_eq!(written(&mongod).await, 1);
    let (process, data) = (mongod.process().unwrap(), data_folder(&mongod).await);
    hold(&format!("{process} {}", data.display()));
}

#[test]
fn a_private_server_ends_with_a_killed_test() {
    let folder = Folder::new();
    let owner = Holder::start(&folder.0, "private::a_private_server_takes_writes", &[]);
    let held = owner.held();
    let (process, data) = held.split_once(' ').unwrap();
    let process = process.parse().unwrap();
    let server_folder = Path::new(data).parent().unwrap();
    assert!(runs(process) && server_folder.exists());
    owner.kill();
    eventually("the server and its folder go", || {
        !runs(process) && !server_folder.exists()
    });
}
