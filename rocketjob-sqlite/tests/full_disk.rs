//! A disk without room: what is told, that nothing is lost, and that work goes on.
//!
//! The disk is a real one, a small file system in memory that only a process of its own sees. Where
//! the system lets nobody have one, a limit on the size of files has to do.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests panic: that is how they fail")]

use std::{
    env,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use bson::oid::ObjectId;
use rocketjob_core::{
    Change, Error, Filter, Guard, JobDocument, Patch, ReadFrom, Settled, State, Store, name,
};
use rocketjob_sqlite::SqliteStore;
use rocketjob_testing::{Claimer, Wanted, claim_of, job};
use rusqlite::Connection;
use tempfile::TempDir;

/// Where the child process finds its disk.
const DISK: &str = "ROCKETJOB_TEST_DISK";
/// How often an operation may succeed before the disk must be full.
const TRIES: usize = 2_000;

/// Runs the test `name` in a process of its own, within `shell`, after the command `before`.
fn run(name: &str, disk: &Path, shell: &[&str], before: &str) {
    let [program, arguments @ ..] = shell else {
        panic!("no shell")
    };
    let script = format!("{before} && exec \"$0\" --exact --nocapture {name}");
    let mut command = Command::new(program);
    command.args(arguments).args(["-c", &script]);
    let ended = command
        .arg(env::current_exe().unwrap())
        .env(DISK, disk)
        .status();
    assert!(ended.unwrap().success(), "see what it wrote");
}

/// A shell whose mounts nobody else sees.
const ALONE: [&str; 4] = ["unshare", "--map-root-user", "--mount", "sh"];

/// Repeats `act` until it fails, and gives the error.
async fn until_it_fails(mut act: impl AsyncFnMut() -> Result<(), Error>) -> Error {
    for _ in 0..TRIES {
        if let Err(error) = act().await {
            return error;
        }
    }
    panic!("the disk is never full")
}

/// What was acknowledged.
#[derive(Default)]
struct Acknowledged {
    queued: Vec<ObjectId>,
    running: Vec<JobDocument>,
    completed: Vec<ObjectId>,
}

impl Acknowledged {
    async fn begin(&mut self, store: &Store, server: &Claimer) {
        for _ in 0..60 {
            self.insert(store).await.unwrap();
        }
        for _ in 0..30 {
            self.claim(server).await.unwrap();
        }
    }

    /// What is told when each operation is repeated until the disk is full.
    async fn refusals(&mut self, store: &Store, server: &Claimer) -> [String; 3] {
        let errors = [
            until_it_fails(async || self.insert(store).await).await,
            until_it_fails(async || self.claim(server).await).await,
            until_it_fails(async || self.settle(store).await).await,
        ];
        errors.map(|error| {
            assert!(error.is_transient(), "{error:?}");
            error.chain()
        })
    }

    async fn insert(&mut self, store: &Store) -> Result<(), Error> {
        let job = job("Mail").keep().set("text", "x".repeat(500)).build(store);
        let id = job.id();
        store.insert(vec![job]).await?;
        self.queued.push(id);
        Ok(())
    }

    async fn claim(&mut self, server: &Claimer) -> Result<(), Error> {
        for job in server.try_claim(&Wanted::count(1)).await?.jobs {
            self.queued.retain(|id| *id != job.id());
            self.running.push(job);
        }
        Ok(())
    }

    async fn settle(&mut self, store: &Store) -> Result<(), Error> {
        let job = self.running.last().unwrap();
        let settled = store.settle(vec![complete(job)]).await?;
        assert_eq!(settled, [Settled::Accepted]);
        self.completed.push(job.id());
        self.running.pop();
        Ok(())
    }

    /// Checks that the store says so, too, and nothing else.
    async fn check(&self, store: &Store) {
        let count = store.count(&Filter::all(), ReadFrom::Primary).await;
        let acknowledged = self.queued.len() + self.running.len() + self.completed.len();
        assert_eq!(count.unwrap(), acknowledged as u64);
        let running = self.running.iter().map(JobDocument::id);
        let queued = self.queued.iter().map(|id| (*id, State::Queued));
        let completed = self.completed.iter().map(|id| (*id, State::Completed));
        let expected = queued.chain(completed);
        for (id, state) in expected.chain(running.map(|id| (id, State::Running))) {
            let job = store.get(id).await.unwrap().unwrap();
            assert_eq!(job.state(), state);
        }
    }
}

fn complete(job: &JobDocument) -> Patch {
    Patch {
        id: job.id(),
        guard: Guard::claimed(claim_of(job)),
        change: Change::new().set(name::STATE, State::Completed.as_str()),
    }
}

fn assert_sound(path: &Path) {
    let connection = Connection::open(path).unwrap();
    let verdict: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(verdict, "ok");
}

/// Fills the disk until it takes nothing more, and says with which file.
fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("filler");
    let mut file = File::create(&path).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    path
}

/// Whether this is the process that [`run`] has started, and with which disk.
fn disk() -> Option<PathBuf> {
    env::var_os(DISK).map(Into::into)
}

#[tokio::test]
async fn a_full_disk_costs_nothing_but_time() {
    const NAME: &str = "a_full_disk_costs_nothing_but_time";
    if let Some(disk) = disk() {
        return fill_and_empty(&disk).await;
    }
    let folder = TempDir::new().unwrap();
    let mount = format!(
        "mount -t tmpfs -o size=16m none {}",
        folder.path().display()
    );
    let may = Command::new(ALONE[0])
        .args(&ALONE[1..])
        .args(["-c", &mount])
        .status();
    if may.is_ok_and(|status| status.success()) {
        run(NAME, folder.path(), &ALONE, &mount);
    } else {
        // Nobody may mount a file system of their own here.
        run(REFUSED, folder.path(), &["sh"], LIMIT);
    }
}

/// The name of the test below.
const REFUSED: &str = "a_disk_that_refuses_to_write_costs_nothing_but_time";
/// No file may become larger, and who tries is told so.
const LIMIT: &str = "trap '' XFSZ && ulimit -f 3500";

#[tokio::test]
async fn a_disk_that_refuses_to_write_costs_nothing_but_time() {
    if let Some(disk) = disk() {
        return write_until_refused(&disk).await;
    }
    let folder = TempDir::new().unwrap();
    run(REFUSED, folder.path(), &["sh"], LIMIT);
    // Here nothing stands against large files.
    let path = folder.path().join("jobs.db");
    let store = Store::new(SqliteStore::open(&path).await.unwrap());
    let mut later = Acknowledged::default();
    later.insert(&store).await.unwrap();
    let server = Claimer::new(&store, ["Mail"]);
    server.try_claim(&Wanted::count(1)).await.unwrap();
    drop((store, server));
    assert_sound(&path);
}

async fn fill_and_empty(disk: &Path) {
    let path = disk.join("jobs.db");
    let store = Store::new(SqliteStore::open(&path).await.unwrap());
    let server = Claimer::new(&store, ["Mail"]);
    let mut acknowledged = Acknowledged::default();
    acknowledged.begin(&store, &server).await;
    let filler = fill(disk);
    for text in acknowledged.refusals(&store, &server).await {
        assert!(text.contains("the disk is full"), "{text}");
        assert!(text.contains("make room"), "{text}");
        assert!(text.contains(&path.display().to_string()), "{text}");
    }
    acknowledged.check(&store).await;
    // Another process may begin meanwhile.
    let other = Store::new(SqliteStore::open(&path).await.unwrap());
    acknowledged.check(&other).await;

    fs::remove_file(filler).unwrap();
    acknowledged.insert(&store).await.unwrap();
    acknowledged.claim(&server).await.unwrap();
    while !acknowledged.running.is_empty() {
        acknowledged.settle(&other).await.unwrap();
    }
    acknowledged.check(&store).await;
    drop((store, server, other));
    assert_sound(&path);
}

async fn write_until_refused(disk: &Path) {
    let path = disk.join("jobs.db");
    let store = Store::new(SqliteStore::open(&path).await.unwrap());
    let server = Claimer::new(&store, ["Mail"]);
    let mut acknowledged = Acknowledged::default();
    acknowledged.begin(&store, &server).await;
    for text in acknowledged.refusals(&store, &server).await {
        assert!(text.contains("does not take what is written"), "{text}");
        assert!(text.contains("look at its space"), "{text}");
    }
    acknowledged.check(&store).await;
}
