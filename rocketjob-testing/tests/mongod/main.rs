//! A real server for tests: apart, shared, and gone when nobody needs it.
//!
//! Several tests start their own program again as another process; a test that then plays this part
//! is told so by [`HOLD`], and is a test like the others without it.
#![expect(
    clippy::unwrap_used,
    reason = "clippy does not take the helpers of a test for part of it"
)]

mod private;
mod shared;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bson::oid::ObjectId;
use bson::{Document, doc};
use mongodb::Client;
use rocketjob_testing::mongod::database;

/// For a condition that comes true within a second or two where nothing else runs.
const LIMIT: Duration = Duration::from_mins(1);

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

async fn count(client: &Client, database: &str) -> u64 {
    client
        .database(database)
        .collection::<Document>("things")
        .count_documents(doc! {})
        .await
        .unwrap()
}

async fn insert(client: &Client, database: &str) {
    client
        .database(database)
        .collection("things")
        .insert_one(doc! { "a": 1 })
        .await
        .unwrap();
}

/// Whether the process runs; one that only waits to be noticed by its parent does not.
fn runs(process: u32) -> bool {
    let process = process.to_string();
    let state = if Path::new("/proc/self/stat").exists() {
        let status = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // What follows the program's name in brackets.
        status
            .rsplit_once(") ")
            .map(|(_, fields)| fields.to_owned())
    } else {
        let output = Command::new("ps")
            .args(["-o", "stat=", "-p", &process])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).ok()
    };
    state.is_some_and(|state| !state.trim().is_empty() && !state.trim().starts_with(['Z', 'X']))
}

fn kill(process: u32) {
    let kill = ["-c", "kill -KILL \"$0\"", &process.to_string()];
    assert!(Command::new("sh").args(kill).status().unwrap().success());
}

/// Names the file into which a process says what it holds; it holds it until the file is removed.
const HOLD: &str = "ROCKETJOB_TEST_HOLD";

/// Does what a process with [`HOLD`] does, and nothing in another.
fn hold(what: &str) {
    if let Some(file) = std::env::var_os(HOLD).map(PathBuf::from) {
        let draft = file.with_extension("draft");
        fs::write(&draft, what).unwrap();
        fs::rename(&draft, &file).unwrap();
        eventually("it is released", || !file.exists());
    }
}

/// A process that runs one of these tests with [`HOLD`], until it is released or killed.
struct Holder {
    process: Child,
    file: PathBuf,
}

impl Holder {
    fn start(folder: &Path, test: &str, variables: &[(&str, &OsStr)]) -> Self {
        let file = folder.join(format!("hold-{}", ObjectId::new().to_hex()));
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env(HOLD, &file)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, file }
    }

    /// What it holds, once it does.
    fn held(&self) -> String {
        eventually("it holds something", || self.file.exists());
        fs::read_to_string(&self.file).unwrap()
    }

    fn release(mut self) {
        fs::remove_file(&self.file).unwrap();
        assert!(self.process.wait().unwrap().success());
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A folder of one's own, gone at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let name = format!("rocketjob-state-{}", ObjectId::new().to_hex());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // After a failure a server may still live in it; its watcher ends it without a folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn databases_are_apart() {
    let first = database("same").await;
    let second = database("same").await;
    let client = first.client().await;
    insert(&client, first.name()).await;
    assert_eq!(count(&client, first.name()).await, 1);
    assert_eq!(count(&client, second.name()).await, 0);
    first.drop().await;
    second.drop().await;
}

#[tokio::test]
async fn a_dropped_database_is_gone() {
    let database = database("dropped").await;
    let (client, name) = (database.client().await, database.name().to_owned());
    insert(&client, &name).await;
    assert!(client.list_database_names().await.unwrap().contains(&name));
    database.drop().await;
    assert!(!client.list_database_names().await.unwrap().contains(&name));
}

#[tokio::test]
async fn transactions_work_on_the_url_alone() {
    let database = database("transactions").await;
    let client = database.client().await;
    let things = client
        .default_database()
        .unwrap()
        .collection::<Document>("things");
    assert_eq!(client.default_database().unwrap().name(), database.name());
    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    things
        .insert_one(doc! { "a": 1 })
        .session(&mut session)
        .await
        .unwrap();
    assert_eq!(count(&client, database.name()).await, 0);
    session.commit_transaction().await.unwrap();
    assert_eq!(count(&client, database.name()).await, 1);
    database.drop().await;
}
