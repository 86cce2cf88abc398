//! Servers that belong to one test, which may kill them.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use bson::oid::ObjectId;

use super::process::{self, WATCHER};
use super::{Attempt, binary, process_variables, replica_set, uri};

/// How a private server is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    replica_set: Option<String>,
    arguments: Vec<String>,
}

impl Options {
    /// A server that is no member of a replica set: without transactions and change streams, and a
    /// little faster.
    pub fn standalone() -> Self {
        Self::default()
    }

    /// The only member, and soon the primary, of a replica set of this name.
    pub fn replica_set(name: impl Into<String>) -> Self {
        Self {
            replica_set: Some(name.into()),
            arguments: Vec::new(),
        }
    }

    /// Adds an argument to the command line of `mongod`.
    #[must_use]
    pub fn with_argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }
}

/// A `mongod` of one's own: a process, a port and a folder, all gone when the value is dropped.
///
/// Should the test itself be killed, a watcher notices within a second or two, and does the same.
#[derive(Debug)]
pub struct Mongod {
    folder: PathBuf,
    binary: PathBuf,
    options: Options,
    port: u16,
    /// The ports of all members of its replica set; its own only, for a server without one.
    members: Vec<u16>,
    server: Option<Child>,
    watcher: Child,
}

impl Mongod {
    /// Starts a server with an empty data folder, and waits until it takes writes.
    ///
    /// # Panics
    /// When there is no `mongod` and none can be fetched, or when it does not start.
    pub async fn start(options: Options) -> Self {
        let mut mongod = done(Self::start_alone(options).await);
        mongod.members = vec![mongod.port];
        done(mongod.initiate().await);
        mongod
    }

    /// Starts a replica set of `count` members, and waits until one of them takes writes.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub async fn start_set(name: &str, count: usize) -> Vec<Self> {
        let mut set = Vec::with_capacity(count);
        for _ in 0..count {
            set.push(done(Self::start_alone(Options::replica_set(name)).await));
        }
        let ports: Vec<_> = set.iter().map(Self::port).collect();
        for mongod in &mut set {
            mongod.members.clone_from(&ports);
        }
        if let Some(first) = set.first() {
            done(first.initiate().await);
        }
        set
    }

    /// The port on which it listens, the same after each restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The id of its process, while it runs.
    pub fn process(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// The URI of a database on this server, or on all members of its replica set.
    pub fn url(&self, database: &str) -> String {
        let hosts: Vec<_> = self
            .members
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let options = match &self.options.replica_set {
            Some(name) => format!("replicaSet={name}"),
            None => "directConnection=true".to_owned(),
        };
        done(uri::with_database(
            &format!("mongodb://{}/?{options}", hosts.join(",")),
            database,
        ))
    }

    /// Kills it, and returns when it is dead; what it has on disk stays.
    ///
    /// Without the write concern `j: true` the last tenth of a second may not be on disk yet.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            // Both fail only if it has ended and was waited for, which nobody else does.
            let _ = server.kill();
            let _ = server.wait();
            // The id may now become somebody else's.
            let _ = fs::remove_file(self.process_file());
        }
    }

    /// Starts it again on its data and its port, after killing it if it runs, and waits until its
    /// replica set takes writes.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        self.kill();
        done(self.spawn());
        done(self.ready().await);
        done(replica_set::primary(&self.members).await);
    }

    async fn start_alone(options: Options) -> Attempt<Self> {
        let binary = binary::find(&process_variables)?;
        let mut problem = String::new();
        // Somebody else may take the free port before the server does; then another is free.
        for _ in 0..3 {
            let mut mongod = Self::prepare(binary.clone(), options.clone())?;
            mongod.spawn()?;
            match mongod.ready().await {
                Ok(()) => return Ok(mongod),
                Err(reason) => problem = reason,
            }
        }
        Err(problem)
    }

    fn prepare(binary: PathBuf, options: Options) -> Attempt<Self> {
        let folder =
            std::env::temp_dir().join(format!("rocketjob-mongod-{}", ObjectId::new().to_hex()));
        let io = |problem| format!("cannot start in `{}`: {problem}", folder.display());
        let clients = folder.join("clients");
        DirBuilder::new().mode(0o700).create(&folder).map_err(io)?;
        fs::create_dir(&clients).map_err(io)?;
        fs::create_dir(folder.join("data")).map_err(io)?;
        fs::write(clients.join(process::own_name()), "").map_err(io)?;
        let watcher = Command::new("sh")
            .args(["-c", WATCHER, "rocketjob-watcher"])
            .args([&folder, &clients])
            .arg("0")
            // It must outlive the test when the runner kills the test's group, and not hold its
            // output open.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(io)?;
        let port = process::free_port()?;
        Ok(Self {
            folder,
            binary,
            options,
            port,
            members: Vec::new(),
            server: None,
            watcher,
        })
    }

    fn spawn(&mut self) -> Attempt<()> {
        let io = |problem| format!("cannot start `{}`: {problem}", self.binary.display());
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .map_err(io)?;
        let log_too = log.try_clone().map_err(io)?;
        let server = Command::new("sh")
            // The id is on disk before there is a server, for the watcher.
            .args(["-c", "echo $$ >\"$0\" && exec \"$@\""])
            .arg(self.process_file())
            .arg(&self.binary)
            .args(process::arguments(self.port, &self.data()))
            .args(
                self.options
                    .replica_set
                    .iter()
                    .flat_map(|name| ["--replSet", name]),
            )
            .args(&self.options.arguments)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too)
            .spawn()
            .map_err(io)?;
        self.server = Some(server);
        Ok(())
    }

    async fn ready(&self) -> Attempt<()> {
        let is_running = || process::recorded(&self.process_file(), &self.folder).is_some();
        replica_set::ready(self.port, &self.data(), is_running)
            .await
            .map_err(|problem| {
                format!(
                    "`{}` does not serve: {problem}. {}",
                    self.binary.display(),
                    process::end_of(&self.log())
                )
            })
    }

    async fn initiate(&self) -> Attempt<()> {
        match &self.options.replica_set {
            Some(name) => replica_set::initiate(name, &self.members).await,
            None => Ok(()),
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn process_file(&self) -> PathBuf {
        self.folder.join("mongod.pid")
    }
}

impl Drop for Mongod {
    fn drop(&mut self) {
        self.kill();
        // Failures leave files in the temporary folder, and the watcher tries again if it still
        // lives.
        let _ = self.watcher.kill();
        let _ = self.watcher.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn done<T>(attempt: Attempt<T>) -> T {
    match attempt {
        Ok(value) => value,
        Err(problem) => panic!("{problem}"),
    }
}
