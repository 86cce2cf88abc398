//! The programs, and what they wrote.

use std::{path::PathBuf, process::Stdio};

use bson::{Document, doc};
use rocketjob::{JobDocument, name};
use serde_json::Value;
use tokio::{io::AsyncWriteExt, process::Command};

use crate::stores::Fixture;

/// Makes each function a test on SQLite and on MongoDB.
macro_rules! on_durable_stores {
    ($($(#[$comment:meta])* async fn $name:ident($fixture:ident: &Fixture) $body:block)+) => {
        $($(#[$comment])* mod $name {
            #[allow(unused_imports, reason = "not every test needs all that its neighbours need")]
            use super::*;
            use crate::stores::{self, Fixture, Kind};

            async fn test($fixture: &Fixture) $body

            #[test]
            fn on_sqlite() {
                stores::run(Kind::Sqlite, concat!(module_path!(), "::on_sqlite"), test);
            }

            #[test]
            fn on_mongo() {
                stores::run(Kind::Mongo, concat!(module_path!(), "::on_mongo"), test);
            }
        })+
    };
}

pub(crate) use on_durable_stores;

/// What a program wrote and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Its data, which is JSON, after it ended well.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Its data as text, after it ended well, with ids and ages that are the same in each run.
    pub(crate) fn text(&self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        steady(&self.out)
    }

    /// Checks how it ended, and that its message says so.
    pub(crate) fn failed(&self, code: i32, part: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.err.contains(part), "{part}: {self:?}");
    }
}

/// The text without what differs from run to run: ids, ages, spaces that fill columns.
pub(crate) fn steady(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let words = line.split_whitespace().map(|word| {
            let is_id = word.len() == 24 && word.chars().all(|c| c.is_ascii_hexdigit());
            let is_age = word.len() > 1
                && word.ends_with(['s', 'm', 'h', 'd'])
                && word.chars().rev().skip(1).all(|c| c.is_ascii_digit());
            match word {
                _ if is_id => "ID",
                _ if is_age => "AGE",
                word => word,
            }
        });
        words.collect::<Vec<_>>().join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The program `rocketjob`, without any store.
pub(crate) fn bare() -> Command {
    command(PathBuf::from(env!("CARGO_BIN_EXE_rocketjob")))
}

fn command(path: PathBuf) -> Command {
    let mut command = Command::new(path);
    command
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .env_remove("ROCKETJOB_STORE")
        .env_remove("ROCKETJOB_CONFIG")
        .env("HOME", "/nonexistent")
        .env_remove("XDG_CONFIG_HOME");
    command
}

/// The program `rocketjob` on the store of a test.
pub(crate) fn admin(fixture: &Fixture) -> Command {
    let mut command = bare();
    command.env("ROCKETJOB_STORE", &fixture.address);
    command
}

/// The program that has kinds compiled in.
pub(crate) fn app(fixture: &Fixture) -> Command {
    let mut folder = std::env::current_exe().expect("the test has a path");
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    let path = folder
        .join("examples")
        .join(format!("command_line{}", std::env::consts::EXE_SUFFIX));
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --examples`",
        path.display()
    );
    let mut command = command(path);
    command.env("ROCKETJOB_STORE", &fixture.address);
    command
}

/// Runs a program with `arguments`, separated by spaces or given one by one.
pub(crate) async fn run(mut command: Command, arguments: &[&str]) -> Ran {
    ran(command.args(arguments).output().await.unwrap())
}

/// Runs `rocketjob` on the store of a test.
pub(crate) async fn rocketjob(fixture: &Fixture, arguments: &[&str]) -> Ran {
    run(admin(fixture), arguments).await
}

/// Runs a program that reads `input`.
pub(crate) async fn run_with_input(mut command: Command, arguments: &[&str], input: &str) -> Ran {
    let mut child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    ran(child.wait_with_output().await.unwrap())
}

pub(crate) fn ran(output: std::process::Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Asks a process to end by the signal with this name.
pub(crate) async fn signal(child: &tokio::process::Child, name: &str) {
    let id = child.id().expect("the process runs").to_string();
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &id])
        .status();
    assert!(sent.await.unwrap().success());
}

/// Stores a job of kind `Import` in `state` with these fields, and returns its id.
pub(crate) async fn stored(fixture: &Fixture, state: &str, more: Document) -> String {
    let store = &fixture.store;
    let mut document = doc! {
        name::ID: store.next_id(),
        name::KIND: "Import",
        name::STATE: state,
        name::PRIORITY: 50,
        name::CREATED_AT: rocketjob::date(store.now()),
        name::DESTROY_ON_COMPLETE: false,
        name::FAILURE_COUNT: 0,
    };
    if state == "queued" {
        document.insert(name::READY, true);
    }
    document.extend(more);
    let job = JobDocument::new(document).unwrap();
    let id = job.id().to_hex();
    store.insert(vec![job]).await.unwrap();
    id
}

/// The state of a job, or `gone`.
pub(crate) async fn state(fixture: &Fixture, id: &str) -> String {
    let job = fixture.store.get(id.parse().unwrap()).await.unwrap();
    job.map_or_else(|| "gone".to_owned(), |job| job.state().to_string())
}
