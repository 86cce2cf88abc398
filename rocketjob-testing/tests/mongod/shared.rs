//! The shared server: found by all, ended after the last.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rocketjob_testing::mongod::database;

use super::{Folder, Holder, count, eventually, hold, insert, kill, runs};

/// Also the client process of the tests below.
#[tokio::test]
async fn a_database_takes_writes() {
    let database = database("writes").await;
    let client = database.client().await;
    insert(&client, database.name()).await;
    assert_eq!(count(&client, database.name()).await, 1);
    hold(database.url());
    database.drop().await;
}

/// A state folder of one's own, in which clients find one another's server.
struct State(Folder);

impl State {
    fn folder(&self) -> &Path {
        &self.0.0
    }

    /// Starts a process that holds a database.
    fn client(&self) -> Holder {
        self.client_with(&[])
    }

    fn client_with(&self, more: &[(&str, &OsStr)]) -> Holder {
        let mut variables = vec![
            ("ROCKETJOB_TEST_STATE", self.folder().as_os_str()),
            ("ROCKETJOB_TEST_LINGER", OsStr::new("1")),
            ("ROCKETJOB_TEST_MONGODB", OsStr::new("")),
        ];
        variables.extend(more);
        Holder::start(self.folder(), "shared::a_database_takes_writes", &variables)
    }

    fn runs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        entries
            .filter(|path| {
                path.file_name()
                    .unwrap()
                    .to_string_lossy()
                    .starts_with("run-")
            })
            .collect()
    }

    /// The only run, whose server is in use.
    fn run(&self) -> Run {
        let runs = self.runs();
        let [folder] = runs.as_slice() else {
            panic!("expected one run: {runs:?}")
        };
        let process = |file| {
            fs::read_to_string(folder.join(file))
                .unwrap()
                .trim()
                .parse()
                .unwrap()
        };
        Run {
            folder: folder.clone(),
            watcher: process("watcher.pid"),
            server: process("mongod.pid"),
        }
    }
}

struct Run {
    folder: PathBuf,
    watcher: u32,
    server: u32,
}

impl Run {
    fn ends(&self) {
        eventually("the server and its watcher end", || {
            !runs(self.server) && !runs(self.watcher)
        });
        assert!(!self.folder.exists(), "{} is left", self.folder.display());
    }
}

/// The server of a client, without the name of its database.
fn server(client: &Holder) -> String {
    client.held().rsplit_once('/').unwrap().0.to_owned()
}

#[test]
fn processes_share_a_server_that_ends_after_the_last_of_them() {
    let state = State(Folder::new());
    // At the same time, so that only one of them may start it.
    let (first, second) = (state.client(), state.client());
    let common = server(&first);
    assert_eq!(common, server(&second));
    let run = state.run();
    first.release();
    let third = state.client();
    assert_eq!(common, server(&third));
    second.release();
    assert!(runs(run.server) && runs(run.watcher));
    third.release();
    run.ends();
}

#[test]
fn a_killed_client_does_not_keep_the_server() {
    let state = State(Folder::new());
    let client = state.client();
    client.held();
    let run = state.run();
    assert!(runs(run.server) && runs(run.watcher));
    client.kill();
    run.ends();
}

#[test]
fn a_client_that_is_killed_while_it_starts_the_server_leaves_nothing() {
    let state = State(Folder::new());
    let client = state.client();
    eventually("a server is started", || {
        state.runs().first().is_some_and(|run| {
            fs::read_to_string(run.join("mongod.pid")).is_ok_and(|id| !id.is_empty())
        })
    });
    let run = state.run();
    client.kill();
    assert!(!run.folder.join("port").exists());
    // One that comes now finds a server which nobody will ever publish.
    let next = state.client();
    next.held();
    let second = state.run();
    next.release();
    run.ends();
    second.ends();
}

#[test]
fn a_dead_server_is_replaced() {
    let state = State(Folder::new());
    let first = state.client();
    first.held();
    let dead = state.run();
    // Neither has a chance to clean up.
    kill(dead.watcher);
    kill(dead.server);
    let second = state.client();
    second.held();
    let run = state.run();
    assert_ne!(dead.folder, run.folder);
    first.kill();
    second.release();
    run.ends();
    dead.ends();
}

#[test]
fn a_server_without_its_watcher_is_ended_by_the_next_client() {
    let state = State(Folder::new());
    let first = state.client();
    first.held();
    let unwatched = state.run();
    kill(unwatched.watcher);
    first.kill();
    assert!(runs(unwatched.server));
    let second = state.client();
    second.held();
    unwatched.ends();
    let run = state.run();
    second.release();
    run.ends();
}

#[test]
fn a_recorded_id_that_is_somebody_elses_by_now_is_left_alone() {
    let state = State(Folder::new());
    let folder = state.folder().join("run-of-old");
    fs::create_dir(&folder).unwrap();
    let process = Command::new("sleep").arg("600").spawn().unwrap();
    // Only so that it ends with this test.
    let bystander = Holder {
        process,
        file: folder.clone(),
    };
    for file in ["watcher.pid", "mongod.pid"] {
        fs::write(folder.join(file), bystander.process.id().to_string()).unwrap();
    }
    fs::write(folder.join("port"), "1").unwrap();
    let client = state.client();
    client.held();
    assert!(runs(bystander.process.id()));
    assert!(!folder.exists());
    let run = state.run();
    client.release();
    run.ends();
}

#[test]
fn a_client_that_comes_while_the_port_is_withdrawn_gets_it_back() {
    let state = State(Folder::new());
    // The watcher's `mv` that withdraws the port stands still until it is told to go on.
    let (tools, withdrawn, go) = (
        state.folder().join("tools"),
        state.folder().join("withdrawn"),
        state.folder().join("go"),
    );
    fs::create_dir(&tools).unwrap();
    let script = format!(
        "#!/bin/sh\nPATH=${{PATH#*:}}\nmv \"$@\" || exit\ntouch '{}'\n\
         while [ -d '{}' ] && [ ! -e '{}' ]; do sleep 1; done\n",
        withdrawn.display(),
        tools.display(),
        go.display()
    );
    fs::write(tools.join("mv"), script).unwrap();
    fs::set_permissions(tools.join("mv"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());

    let first = state.client_with(&[("PATH", path.as_ref())]);
    let common = server(&first);
    let run = state.run();
    first.release();
    eventually("the port is withdrawn", || withdrawn.exists());
    let clients = || {
        fs::read_dir(state.folder().join("clients"))
            .unwrap()
            .count()
    };
    let before = clients();
    let second = state.client();
    eventually("the client is registered", || clients() > before);
    assert!(!run.folder.join("port").exists());
    fs::write(&go, "").unwrap();
    assert_eq!(common, server(&second));
    assert!(runs(run.server) && runs(run.watcher));
    second.release();
    run.ends();
}

/// Clients that come about when the server goes, one second after its last client.
#[test]
fn a_client_that_comes_as_the_server_goes_has_one() {
    let state = State(Folder::new());
    let serve = || {
        let client = state.client();
        client.held();
        client.release();
    };
    serve();
    for step in 0..5 {
        // The pause is the point here, and nothing is expected of it.
        std::thread::sleep(Duration::from_millis(250 * step));
        serve();
    }
    let runs = state.runs();
    eventually("the last server ends", || {
        runs.iter().all(|run| !run.exists())
    });
}
