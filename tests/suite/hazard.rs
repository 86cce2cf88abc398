//! Server processes whose jobs do them harm, and what is looked at afterwards.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use bson::oid::ObjectId;
use rocketjob::{JobDocument, prelude::*};
use rocketjob_testing::eventually;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStdout, Command},
};

use crate::{
    job::{Harm, HazardJob},
    process,
    stores::Fixture,
};

/// What the servers are started with.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(500);
pub(crate) const LEASE: Duration = Duration::from_secs(2);
/// How long after the lease a machine that is busy may take to put things right.
pub(crate) const SOME_MORE: Duration = Duration::from_secs(8);

/// A server process whose jobs do harm.
pub(crate) struct Hazard {
    pub(crate) child: Child,
    pub(crate) output: BufReader<ChildStdout>,
    pub(crate) id: u32,
    pub(crate) name: String,
}

/// Where the processes of a test work.
pub(crate) struct Scene {
    pub(crate) store: String,
    pub(crate) folder: PathBuf,
}

impl Scene {
    pub(crate) fn of(fixture: &Fixture) -> Self {
        Self {
            store: fixture.address.clone(),
            folder: fixture.folder.path().into(),
        }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = process::example("hazard");
        command
            .args(["--store", &self.store])
            .arg("--ledger")
            .arg(self.folder.join("ledger.txt"))
            .args(["--heartbeat", &HEARTBEAT.as_millis().to_string()])
            .args(["--lease", &LEASE.as_millis().to_string()])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Starts a server and waits until it runs.
    pub(crate) async fn start(&self, arguments: &[&str]) -> Hazard {
        let mut child = self.spawn(arguments);
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).await.unwrap();
        let Some(name) = line.trim_end().strip_suffix(" is running") else {
            panic!("the server says `{line}`");
        };
        Hazard {
            id: child.id().unwrap(),
            name: name.to_owned(),
            child,
            output,
        }
    }

    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        // What its jobs do to it is loud.
        command.stderr(Stdio::null());
        command.spawn().expect("the example can be started")
    }

    pub(crate) fn ledger(&self) -> Vec<Line> {
        read(&self.folder.join("ledger.txt"))
    }
}

impl Hazard {
    pub(crate) async fn signal(&self, signal: &str) {
        send(self.id, signal).await;
    }

    /// Waits until it has ended well, and returns what it says of itself.
    pub(crate) async fn ended(mut self) -> String {
        let ended = async {
            let mut told = String::new();
            self.output.read_to_string(&mut told).await.unwrap();
            (self.child.wait().await.unwrap(), told)
        };
        let ended = tokio::time::timeout(Duration::from_secs(30), ended).await;
        let (status, told) = ended.expect("it ends");
        assert!(status.success(), "it ended with {status}");
        told
    }

    pub(crate) async fn stop(self) -> String {
        self.signal("TERM").await;
        self.ended().await
    }

    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

pub(crate) async fn send(process: u32, signal: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{signal}"), &process.to_string()])
        .status()
        .await;
    assert!(sent.expect("`kill` can be called").success());
}

/// A line of the ledger.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) event: String,
    pub(crate) job: ObjectId,
    pub(crate) process: u32,
    pub(crate) at: i64,
}

pub(crate) fn read(ledger: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(ledger).unwrap_or_default();
    let parse = |line: &str| {
        let mut parts = line.split(' ');
        Some(Line {
            event: parts.next()?.into(),
            job: parts.next()?.parse().ok()?,
            process: parts.next()?.parse().ok()?,
            at: parts.next()?.parse().ok()?,
        })
    };
    // The last write of a process that dies may be cut.
    text.lines().filter_map(parse).collect()
}

pub(crate) fn hazard(harm: Harm, milliseconds: u64) -> HazardJob {
    HazardJob {
        harm,
        milliseconds,
        by: None,
    }
}

pub(crate) async fn create(store: &Store, harm: Harm, milliseconds: u64) -> ObjectId {
    let job = hazard(harm, milliseconds).create(store).await;
    job.unwrap().id()
}

/// Jobs that do no harm; each takes some milliseconds.
pub(crate) async fn create_innocents(store: &Store, count: usize, milliseconds: u64) {
    let jobs = (0..count).map(|_| hazard(Harm::Nothing, milliseconds));
    HazardJob::create_many(store, jobs).await.unwrap();
}

pub(crate) async fn get(store: &Store, id: ObjectId) -> JobDocument {
    store.get(id).await.unwrap().unwrap()
}

/// Waits until this many jobs are completed, as long as more and more are.
pub(crate) async fn eventually_completed(store: &Store, count: u64) {
    let mut completed = 0;
    while completed < count {
        completed = eventually("more jobs complete", async || {
            let now = HazardJob::query(store).state(State::Completed).count();
            let now = now.await.unwrap_or(completed);
            (now > completed).then_some(now)
        })
        .await;
    }
}

pub(crate) async fn eventually_noted(scene: &Scene, event: &str, job: ObjectId, process: u32) {
    let what = format!("process {process} notes `{event}` of job {job}");
    eventually(&what, async || {
        let lines = scene.ledger();
        lines
            .iter()
            .any(|line| line.event == event && line.job == job && line.process == process)
            .then_some(())
    })
    .await;
}

/// All jobs of the kind.
pub(crate) async fn jobs(store: &Store) -> Vec<JobDocument> {
    let all = HazardJob::query(store).limit(10_000).documents();
    all.await.unwrap()
}

/// Completed, and blamed for nothing.
pub(crate) fn assert_unharmed(jobs: &[JobDocument]) {
    for job in jobs {
        assert_eq!(job.state(), State::Completed, "{job:?}");
        assert_eq!(job.failure_count(), 0, "{job:?}");
    }
}

pub(crate) async fn assert_nothing_left(store: &Store) {
    assert_eq!(store.servers().await.unwrap(), []);
    assert_eq!(store.next_claim("").await.unwrap(), None);
}
