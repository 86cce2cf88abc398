//! The one server that all test processes of a user share.
//!
//! They find it through a *state folder*: `lock`, `clients/` with a file for each process that may
//! use the server, and `run-…/` for each server, of which at most one is of use: the one with a
//! file `port`. Each server is the child of a *watcher* (`watcher.sh`), which ends it when no
//! client is left.
//!
//! # Why a client and a watcher that wants to stop never miss each other
//!
//! A client **(1)** creates its file in `clients/`, and then **(2)** looks for `port`. It never
//! takes its file back: the file counts as long as the process lives, and only the watcher removes
//! it, when the process has ended. A watcher that has seen no living client for a while **(a)**
//! moves `port` away, and then **(b)** looks for clients once more. It stops the server only if
//! there is none, and otherwise moves `port` back.
//!
//! - If (2) comes before (a), the client finds the port. Then (1) came before (b) too, so the
//!   watcher finds the client and keeps the server.
//! - If (2) comes after (a), the client finds no port, but the withdrawn one, and waits. If (b)
//!   found the client, `port` comes back; if not, the server ends, and the client starts another.
//!
//! Clients take (2) and all that follows under `lock`, so that one of them starts a server and the
//! others find it. Whoever holds the lock may take down what is left of earlier runs. It renames a
//! run's folder first: a watcher that has not yet started its server then cannot do so any more
//! (see `watcher.sh`), and one that has, has left its id.

use std::fs::{self, DirBuilder, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bson::oid::ObjectId;

use super::process::{self, WATCHER, recorded, wait_for};
use super::{Attempt, Variables, binary, replica_set};

const REPLICA_SET: &str = "rs0";

/// How long a watcher may take to start a server, or to decide whether to stop it. It needs
/// milliseconds.
const DECISION: Duration = Duration::from_secs(15);

/// The URI of the shared server, which is started if nobody has done so yet.
pub(super) async fn server(variables: Variables<'_>) -> Attempt<String> {
    // This blocks the runtime, here and at the lock: the test that waits has nothing else to do.
    let binary = binary::find(variables)?;
    let linger = linger(variables)?;
    let state = State::open(variables, &binary)?;
    let port = state.port(&binary, linger).await?;
    Ok(format!(
        "mongodb://127.0.0.1:{port}/?replicaSet={REPLICA_SET}"
    ))
}

fn linger(variables: Variables<'_>) -> Attempt<u32> {
    let Some(linger) = variables("ROCKETJOB_TEST_LINGER") else {
        return Ok(10);
    };
    let seconds = linger.to_str().and_then(|seconds| seconds.parse().ok());
    seconds.ok_or_else(|| {
        format!(
            "ROCKETJOB_TEST_LINGER is no number of seconds: {}",
            linger.display()
        )
    })
}

struct State {
    folder: PathBuf,
}

impl State {
    fn open(variables: Variables<'_>, binary: &Path) -> Attempt<Self> {
        let user = own_user()?;
        let folder = match variables("ROCKETJOB_TEST_STATE") {
            Some(folder) => PathBuf::from(folder),
            None => {
                std::env::temp_dir().join(format!("rocketjob-test-{user}-{:016x}", hash(binary)))
            }
        };
        let folder = std::path::absolute(folder)
            .map_err(|problem| format!("there is no state folder: {problem}"))?;
        let state = Self { folder };
        let io = |problem| {
            format!(
                "cannot use the state folder `{}`: {problem}",
                state.folder.display()
            )
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state.clients())
            .map_err(io)?;
        // The name can be guessed, and what is in the folder is believed: it must be nobody else's.
        let metadata = fs::symlink_metadata(&state.folder).map_err(io)?;
        if !metadata.is_dir() || metadata.uid().to_string() != user {
            return Err(format!(
                "the state folder `{}` is somebody else's",
                state.folder.display()
            ));
        }
        Ok(state)
    }

    fn clients(&self) -> PathBuf {
        self.folder.join("clients")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    async fn port(&self, binary: &Path, linger: u32) -> Attempt<u16> {
        let io = |problem| {
            format!(
                "cannot use the state folder `{}`: {problem}",
                self.folder.display()
            )
        };
        fs::write(self.clients().join(process::own_name()), "").map_err(io)?;
        let lock = File::create(self.folder.join("lock")).map_err(io)?;
        lock.lock().map_err(io)?;
        for run in self.runs().map_err(io)? {
            if let Some(port) = self.join(&run).await {
                return Ok(port);
            }
            self.take_down(&run);
        }
        self.start(binary, linger).await
    }

    fn runs(&self) -> std::io::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.folder)?.collect::<std::io::Result<Vec<_>>>()?;
        Ok(entries
            .into_iter()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("run-"))
            .map(|entry| entry.path())
            .collect())
    }

    /// The port of this run's server, or nothing if the server is gone or of no use.
    async fn join(&self, run: &Path) -> Option<u16> {
        let decided = wait_for(DECISION, || {
            let watched = recorded(&run.join("watcher.pid"), run).is_some();
            let served = recorded(&run.join("mongod.pid"), run).is_some();
            match publication(run) {
                _ if !watched || !served => Some(None),
                Publication::Port(port) => Some(Some(port)),
                Publication::Withdrawn => None,
                Publication::Never => Some(None),
            }
        });
        let port = decided.await.flatten()?;
        replica_set::primary(&[port]).await.ok().map(|()| port)
    }

    /// Ends what is left of a run, and removes it.
    fn take_down(&self, run: &Path) {
        let name = run.file_name().unwrap_or_default().to_string_lossy();
        let gone = self.folder.join(format!("gone-{name}"));
        // Fails if the watcher was faster.
        if fs::rename(run, &gone).is_ok() {
            for file in ["watcher.pid", "mongod.pid"] {
                if let Some(process) = recorded(&gone.join(file), run) {
                    process::kill(process);
                }
            }
            // Only room on the disk is at stake.
            let _ = fs::remove_dir_all(&gone);
        }
    }

    /// Starts a server in a new run, and publishes its port.
    async fn start(&self, binary: &Path, linger: u32) -> Attempt<u16> {
        let mut problem = String::new();
        // Somebody else may take the free port before the server does; then another is free.
        for _ in 0..3 {
            let run = self
                .folder
                .join(format!("run-{}", ObjectId::new().to_hex()));
            let port = process::free_port()?;
            match self.start_at(port, &run, binary, linger).await {
                Ok(()) => return Ok(port),
                Err(reason) => problem = reason,
            }
            self.take_down(&run);
        }
        let log = process::end_of(&self.log());
        Err(format!(
            "`{}` does not serve: {problem}. {log}",
            binary.display()
        ))
    }

    async fn start_at(&self, port: u16, run: &Path, binary: &Path, linger: u32) -> Attempt<()> {
        let io = |problem| format!("cannot start in `{}`: {problem}", run.display());
        let data = run.join("data");
        fs::create_dir_all(&data).map_err(io)?;
        let log = File::create(self.log()).map_err(io)?;
        let log_too = log.try_clone().map_err(io)?;
        // Nobody waits for it, since it outlives this process.
        Command::new("sh")
            .args(["-c", WATCHER, "rocketjob-watcher"])
            .args([run, &self.clients()])
            .arg(linger.to_string())
            .arg(binary)
            .args(process::arguments(port, &data))
            .args(["--replSet", REPLICA_SET])
            // Not part of the test's group, nor with its output in hand: the runner takes neither
            // for a leak.
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too)
            .spawn()
            .map_err(io)?;
        let pid = run.join("mongod.pid");
        wait_for(DECISION, || recorded(&pid, run))
            .await
            .ok_or("its watcher does not start it")?;
        replica_set::ready(port, &data, || recorded(&pid, run).is_some()).await?;
        replica_set::initiate(REPLICA_SET, &[port]).await?;
        // Under its name only when it is whole.
        fs::write(run.join("draft"), port.to_string()).map_err(io)?;
        fs::rename(run.join("draft"), run.join("port")).map_err(io)
    }
}

enum Publication {
    Port(u16),
    /// Its watcher is about to decide.
    Withdrawn,
    Never,
}

/// What there is of a port, for the holder of the lock.
///
/// Nobody else publishes a new port, so now only a watcher can, the one it has withdrawn. If neither
/// file is there, the port may have been moved back between the two looks, and then it is there now:
/// with this client registered, no watcher withdraws it a second time. Otherwise who began to start
/// this server died over it.
fn publication(run: &Path) -> Publication {
    match read_port(run) {
        Some(port) => Publication::Port(port),
        None if run.join("withdrawn").exists() => Publication::Withdrawn,
        None => read_port(run).map_or(Publication::Never, Publication::Port),
    }
}

fn read_port(run: &Path) -> Option<u16> {
    fs::read_to_string(run.join("port")).ok()?.parse().ok()
}

fn own_user() -> Attempt<String> {
    let output = Command::new("id")
        .arg("-u")
        .output()
        .map_err(|problem| format!("cannot run `id -u`: {problem}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn hash(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}
