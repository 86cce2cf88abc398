//! Servers that are steered, cut off, declared dead or full of jobs that do not end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rocketjob::{
    Cancelled, LOST_CLAIM, PANIC, Registry, ServerBuilder, ServerDocument, ServerState, TIMEOUT,
    name, prelude::*,
};
use rocketjob_testing::{Faulty, eventually};
use serde::{Deserialize, Serialize};

use crate::stores::on_every_store;

/// Short, so that a test sees what follows on a sign of life.
const HEARTBEAT: Duration = Duration::from_millis(100);
/// No machine is so busy that a server lapses that should not.
const LONG: Duration = Duration::from_secs(30);
/// Short, so that a test sees what follows on a lapse.
const LEASE: Duration = Duration::from_secs(2);

/// What the jobs of a test share with it.
#[derive(Default)]
struct Board {
    running: AtomicUsize,
    most: AtomicUsize,
    open: AtomicBool,
    told: AtomicUsize,
    lapsed: AtomicUsize,
}

/// Waits until the test opens the board, or until it is told to stop.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "Waiting", keep_completed)]
struct Waiting {}

impl Perform for Waiting {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        let board = job.shared::<Arc<Board>>()?;
        let running = board.running.fetch_add(1, Ordering::SeqCst) + 1;
        board.most.fetch_max(running, Ordering::SeqCst);
        while !board.open.load(Ordering::SeqCst) && !job.is_cancelled() {
            thread::sleep(Duration::from_millis(2));
        }
        board.running.fetch_sub(1, Ordering::SeqCst);
        if job.is_cancelled() {
            board.told.fetch_add(1, Ordering::SeqCst);
            if job.cancelled_for() == Some(Cancelled::ServerLapsed) {
                board.lapsed.fetch_add(1, Ordering::SeqCst);
            }
        }
        job.check()
    }
}

/// A server of two workers that performs jobs of `T`, with a lease that is soon over.
fn server_of<T: Perform>(store: &Store, board: &Arc<Board>) -> ServerBuilder {
    let mut registry = Registry::new();
    registry.register::<T>().unwrap();
    Server::builder(store)
        .only(registry)
        .workers(2)
        .poll_interval(Duration::from_millis(20))
        .heartbeat_interval(HEARTBEAT)
        .lease(LEASE)
        .shared(Arc::clone(board))
}

async fn create_waiting(store: &Store, count: usize) {
    Waiting::create_many(store, (0..count).map(|_| Waiting {}))
        .await
        .unwrap();
}

async fn completed(store: &Store) -> u64 {
    let completed = Waiting::query(store).state(State::Completed);
    completed.count().await.unwrap()
}

async fn running(board: &Board, count: usize) {
    eventually(&format!("{count} jobs run"), async || {
        (board.running.load(Ordering::SeqCst) == count).then_some(())
    })
    .await;
}

on_every_store! {
    /// The number of workers in the document is that of the pool, at the next sign of life.
    async fn a_pool_grows_and_shrinks_while_it_works(fixture: &Fixture) {
        let board = Arc::new(Board::default());
        create_waiting(&fixture.store, 20).await;
        let server = fixture
            .server::<Waiting>()
            .workers(2)
            .heartbeat_interval(HEARTBEAT)
            .lease(LONG)
            .shared(Arc::clone(&board))
            .start()
            .await
            .unwrap();
        running(&board, 2).await;
        assert!(fixture.store.set_max_workers(server.id(), 6).await.unwrap());
        running(&board, 6).await;
        assert_eq!(server.workers(), 6);
        assert!(fixture.store.set_max_workers(server.id(), 3).await.unwrap());
        eventually("three are to stay", async || (server.workers() == 3).then_some(())).await;
        assert_eq!(board.running.load(Ordering::SeqCst), 6, "who has a job finishes it");
        board.open.store(true, Ordering::SeqCst);
        eventually("all complete", async || (completed(&fixture.store).await == 20).then_some(()))
            .await;
        board.open.store(false, Ordering::SeqCst);
        create_waiting(&fixture.store, 10).await;
        running(&board, 3).await;
        eventually("the server tells how many it has", async || {
            let servers = fixture.store.servers().await.unwrap();
            let workers = servers[0].heartbeat.map(|heartbeat| heartbeat.workers);
            (workers == Some(3)).then_some(())
        })
        .await;
        board.open.store(true, Ordering::SeqCst);
        server.run_until_idle().await.unwrap();
        assert_eq!(board.most.load(Ordering::SeqCst), 6);
    }

    /// A server that is paused through the store takes nothing new, and goes on when it is resumed;
    /// one that is stopped through the store ends.
    async fn a_server_is_steered_through_its_document(fixture: &Fixture) {
        let board = Arc::new(Board::default());
        board.open.store(true, Ordering::SeqCst);
        let server = fixture
            .server::<Waiting>()
            .heartbeat_interval(HEARTBEAT)
            .lease(LONG)
            .shared(Arc::clone(&board))
            .start()
            .await
            .unwrap();
        let (store, id) = (&fixture.store, server.id());
        let steer = async |from, to| store.set_server_state(id, &[from], to).await.unwrap();
        assert!(steer(ServerState::Running, ServerState::Paused).await);
        let beats = async || {
            let servers = store.servers().await.unwrap();
            servers[0].heartbeat.map_or(0, |heartbeat| heartbeat.counter)
        };
        let before = beats().await;
        eventually("it has read that it is paused", async || (beats().await >= before + 2).then_some(()))
            .await;
        create_waiting(store, 5).await;
        let before = beats().await;
        eventually("it lives on", async || (beats().await >= before + 3).then_some(())).await;
        assert_eq!(completed(store).await, 0);
        assert!(steer(ServerState::Paused, ServerState::Running).await);
        eventually("it goes on", async || (completed(store).await == 5).then_some(())).await;
        assert!(steer(ServerState::Running, ServerState::Stopping).await);
        let stopped = server.run_until(std::future::pending()).await.unwrap();
        assert_eq!(stopped.settled, 5);
        assert_eq!(stopped.recycle, None);
        assert_eq!(store.servers().await.unwrap(), []);
    }

    /// Whose document somebody removes has lost its claims, and goes on as another.
    async fn a_removed_document_is_a_declared_death(fixture: &Fixture) {
        let board = Arc::new(Board::default());
        create_waiting(&fixture.store, 3).await;
        let server = fixture
            .server::<Waiting>()
            .heartbeat_interval(HEARTBEAT)
            .lease(LONG)
            .shared(Arc::clone(&board))
            .start()
            .await
            .unwrap();
        running(&board, 3).await;
        let (former, name) = (server.id(), server.name());
        assert!(fixture.store.remove_server(former).await.unwrap());
        eventually("its jobs are told", async || {
            (board.told.load(Ordering::SeqCst) == 3).then_some(())
        })
        .await;
        eventually("it goes on as another", async || (server.id() != former).then_some(())).await;
        assert_eq!(server.name(), name);
        board.open.store(true, Ordering::SeqCst);
        eventually("all complete", async || (completed(&fixture.store).await == 3).then_some(()))
            .await;
        for job in Waiting::query(&fixture.store).list().await.unwrap() {
            // Either the job handed its claim back in time, or it was ended over its head.
            assert!(job.document().lost_claims() <= 1);
            assert_eq!(job.document().failure_count(), 0);
        }
        server.stop().await.unwrap();
        assert_eq!(fixture.store.servers().await.unwrap(), []);
    }

    /// With the original it stood there for ever.
    async fn a_server_that_died_while_it_started_is_declared_dead(fixture: &Fixture) {
        let store = &fixture.store;
        let dead = ServerDocument {
            id: store.next_id(),
            name: "box:1".into(),
            max_workers: 10,
            started_at: None,
            state: ServerState::Starting,
            heartbeat: None,
            lease: Some(LEASE),
            version: "0.1.0".into(),
            definitions: Vec::new(),
            filter: None,
            poll_interval: None,
        };
        store.insert_server(&dead).await.unwrap();
        let server = fixture.server::<Waiting>().heartbeat_interval(HEARTBEAT).lease(LONG);
        let server = server.start().await.unwrap();
        eventually("the dead one is gone", async || {
            let servers = store.servers().await.unwrap();
            let ids: Vec<_> = servers.iter().map(|server| server.id).collect();
            (ids == [server.id()]).then_some(())
        })
        .await;
        server.stop().await.unwrap();
    }

    /// A thread that dies is replaced, and its job has failed.
    async fn a_dead_worker_is_replaced(fixture: &Fixture) {
        let server = fixture.server::<Deadly>().workers(1).start().await.unwrap();
        let mut deadly = Deadly { kills: true }.create(&fixture.store).await.unwrap();
        eventually("the job fails", async || {
            deadly.reload().await.unwrap();
            (deadly.state() == State::Failed).then_some(())
        })
        .await;
        assert_eq!(deadly.exception().unwrap().class_name, PANIC);
        let mut next = Deadly { kills: false }.create(&fixture.store).await.unwrap();
        eventually("another worker works", async || {
            next.reload().await.unwrap();
            (next.state() == State::Completed).then_some(())
        })
        .await;
        assert_eq!(server.workers(), 1);
        server.stop().await.unwrap();
    }

    /// Past its timeout a job fails: when it notices, when it awaits something, and when it blocks.
    async fn a_job_past_its_timeout_fails(fixture: &Fixture) {
        let board = Arc::new(Board::default());
        let server = fixture
            .server::<Slow>()
            .workers(3)
            .cancel_grace(Duration::from_millis(100))
            .shared(Arc::clone(&board))
            .start()
            .await
            .unwrap();
        for way in [Way::Checks, Way::Awaits, Way::Blocks] {
            let mut job = Slow { way }.create(&fixture.store).await.unwrap();
            eventually(&format!("{way:?} fails"), async || {
                job.reload().await.unwrap();
                (job.state() == State::Failed).then_some(())
            })
            .await;
            let failure = job.exception().unwrap();
            assert_eq!(failure.class_name, TIMEOUT, "{failure}");
            assert!(failure.message.contains("longer than its timeout"), "{failure}");
            assert_eq!(job.document().failure_count(), 1);
        }
        let mut quick = Slow { way: Way::Quick }.create(&fixture.store).await.unwrap();
        eventually("there are workers left", async || {
            quick.reload().await.unwrap();
            (quick.state() == State::Completed).then_some(())
        })
        .await;
        assert_eq!(server.workers(), 3, "the stuck one was replaced");
        board.open.store(true, Ordering::SeqCst);
        let stopped = server.stop().await.unwrap();
        assert_eq!(stopped.recycle, None);
    }
}

/// Dies with its thread: what it panics with panics again when it is thrown away.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "Deadly", keep_completed)]
struct Deadly {
    kills: bool,
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a panic outside of any job");
    }
}

impl Perform for Deadly {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        if self.kills {
            std::panic::panic_any(Bomb);
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq)]
enum Way {
    Checks,
    Awaits,
    Blocks,
    Quick,
}

/// Does not end by itself, or at once.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "Slow", keep_completed, timeout = "1s")]
struct Slow {
    way: Way,
}

impl Perform for Slow {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        let board = job.shared::<Arc<Board>>()?;
        match self.way {
            Way::Quick => {}
            Way::Checks => loop {
                job.check()?;
                thread::sleep(Duration::from_millis(2));
            },
            Way::Awaits => std::future::pending().await,
            Way::Blocks => {
                while !board.open.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(2));
                }
            }
        }
        Ok(())
    }
}

/// A server that was paused stays so when it must go on as another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_server_stays_paused_in_its_next_life() {
    let store = Store::new(MemoryStore::new());
    let server = server_of::<Waiting>(&store, &Arc::default())
        .lease(LONG)
        .start()
        .await
        .unwrap();
    let former = server.id();
    let running = [ServerState::Running];
    let paused = store.set_server_state(former, &running, ServerState::Paused);
    assert!(paused.await.unwrap());
    let beats = async || {
        let servers = store.servers().await.unwrap();
        servers[0]
            .heartbeat
            .map_or(0, |heartbeat| heartbeat.counter)
    };
    let before = beats().await;
    eventually("it has read that it is paused", async || {
        (beats().await >= before + 2).then_some(())
    })
    .await;
    assert!(store.remove_server(former).await.unwrap());
    eventually("it goes on as another", async || {
        (server.id() != former).then_some(())
    })
    .await;
    let servers = store.servers().await.unwrap();
    assert_eq!(servers[0].id, server.id());
    assert_eq!(servers[0].state, ServerState::Paused);
    server.stop().await.unwrap();
}

/// With too many stuck threads the server hands back what it can, ends, and says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_stuck_threads_end_the_server() {
    let store = Store::new(MemoryStore::new());
    let board = Arc::new(Board::default());
    for _ in 0..3 {
        Slow { way: Way::Blocks }.create(&store).await.unwrap();
    }
    let server = server_of::<Slow>(&store, &board)
        .lease(LONG)
        .cancel_grace(Duration::from_millis(50))
        .grace(Duration::from_millis(50))
        .max_stuck(1);
    let server = server.start().await.unwrap();
    let stopped = tokio::time::timeout(
        Duration::from_mins(1),
        server.run_until(std::future::pending()),
    );
    let stopped = stopped.await.expect("it ends by itself").unwrap();
    let reason = stopped
        .recycle
        .as_deref()
        .expect("the process is to be recycled");
    assert!(reason.contains("stuck"), "{reason}");
    assert!(stopped.abandoned >= 2, "{stopped:?}");
    let failed = Slow::query(&store).state(State::Failed).count().await;
    assert!(failed.unwrap() >= 2);
    assert_eq!(
        store.next_claim("").await.unwrap(),
        None,
        "no claim is left"
    );
    board.open.store(true, Ordering::SeqCst);
}

/// A server that cannot show that it is alive stops its jobs and takes none, is unhealthy, and goes
/// on when the store is back; nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_cut_off_fences_itself() {
    let sound = Store::new(MemoryStore::new());
    let faulty = Faulty::new(&sound);
    let board = Arc::new(Board::default());
    create_waiting(&sound, 4).await;
    let server = server_of::<Waiting>(&Store::new(faulty.clone()), &board)
        .start()
        .await
        .unwrap();
    let monitor = server.monitor();
    running(&board, 2).await;
    assert!(monitor.health().is_healthy());
    let former = server.id();

    // Not one call is answered: without a deadline for each, nothing would ever go on.
    faulty.set_silence(true);
    eventually("its jobs are told, and why", async || {
        (board.lapsed.load(Ordering::SeqCst) == 2).then_some(())
    })
    .await;
    eventually("it is unhealthy", async || {
        (!monitor.health().is_healthy()).then_some(())
    })
    .await;
    // Meanwhile another server takes its jobs over.
    let rescuer = server_of::<Waiting>(&sound, &board).start().await.unwrap();
    running(&board, 2).await;
    board.open.store(true, Ordering::SeqCst);
    eventually("all complete", async || {
        (completed(&sound).await == 4).then_some(())
    })
    .await;
    let lost = Waiting::query(&sound).list().await.unwrap();
    let lost = lost.iter().map(|job| job.document().lost_claims());
    assert_eq!(lost.sum::<i64>(), 2);
    rescuer.stop().await.unwrap();

    faulty.set_silence(false);
    eventually("it goes on as another", async || {
        (server.id() != former).then_some(())
    })
    .await;
    eventually("it is healthy", async || {
        monitor.health().is_healthy().then_some(())
    })
    .await;
    create_waiting(&sound, 3).await;
    eventually("it works", async || {
        (completed(&sound).await == 7).then_some(())
    })
    .await;
    let stopped = server.stop().await.unwrap();
    assert_eq!(stopped.refused, 2, "its late outcomes were refused");
    assert_eq!(sound.servers().await.unwrap(), []);
}

/// A store that is away for longer than the lease, with nobody else there: what was done meanwhile
/// still counts, and the server goes on under its old name and id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_that_nobody_used_costs_nothing() {
    let sound = Store::new(MemoryStore::new());
    let faulty = Faulty::new(&sound);
    let board = Arc::new(Board::default());
    create_waiting(&sound, 2).await;
    let server = server_of::<Waiting>(&Store::new(faulty.clone()), &board)
        .start()
        .await
        .unwrap();
    running(&board, 2).await;
    let former = server.id();
    faulty.set_outage(true);
    board.open.store(true, Ordering::SeqCst);
    running(&board, 0).await;
    eventually("the lease is over", async || {
        (!server.health().is_healthy()).then_some(())
    })
    .await;
    faulty.set_outage(false);
    eventually("their outcomes are written", async || {
        (completed(&sound).await == 2).then_some(())
    })
    .await;
    create_waiting(&sound, 2).await;
    eventually("it goes on", async || {
        (completed(&sound).await == 4).then_some(())
    })
    .await;
    assert_eq!(server.id(), former);
    for job in Waiting::query(&sound).list().await.unwrap() {
        assert_eq!(job.document().lost_claims(), 0);
    }
    let stopped = server.stop().await.unwrap();
    assert_eq!((stopped.settled, stopped.refused), (4, 0));
}

/// May not be performed again by itself.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "AtMostOnce", keep_completed, on_lost_claim = "fail")]
struct AtMostOnce {}

impl Perform for AtMostOnce {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        let board = job.shared::<Arc<Board>>()?;
        board.running.fetch_add(1, Ordering::SeqCst);
        // Whoever listens when it is told to stop may complete before its claim is ended.
        while !board.open.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}

/// A kind that may not be performed twice is failed when its server is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_may_be_failed_when_its_server_is_lost() {
    let store = Store::new(MemoryStore::new());
    let board = Arc::new(Board::default());
    let server = server_of::<AtMostOnce>(&store, &board)
        .lease(LONG)
        .start()
        .await
        .unwrap();
    let mut job = AtMostOnce {}.create(&store).await.unwrap();
    running(&board, 1).await;
    assert!(store.remove_server(server.id()).await.unwrap());
    eventually("it is failed", async || {
        job.reload().await.unwrap();
        (job.state() == State::Failed).then_some(())
    })
    .await;
    assert_eq!(job.exception().unwrap().class_name, LOST_CLAIM);
    assert_eq!(board.running.load(Ordering::SeqCst), 1, "it was begun once");
    job.retry().await.unwrap();
    assert_eq!(job.document().get(name::LOST_CLAIMS), None);
    running(&board, 2).await;
    board.open.store(true, Ordering::SeqCst);
    server.stop().await.unwrap();
}

/// What a server finds out when it starts: the store, and jobs that it does not perform.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_reports_what_it_found() {
    let store = Store::new(MemoryStore::new());
    create_waiting(&store, 2).await;
    Slow { way: Way::Quick }.create(&store).await.unwrap();
    let server = server_of::<Slow>(&store, &Arc::default())
        .lease(LONG)
        .start()
        .await
        .unwrap();
    let report = server.report();
    assert_eq!(report.foreign_kinds, ["Waiting"]);
    assert_eq!(report.inspection.product, "memory");
    assert_eq!(report.inspection.problems(), Vec::<String>::new());
    let servers = store.servers().await.unwrap();
    assert_eq!(servers[0].definitions[0].kind, "Slow");
    assert_eq!(servers[0].definitions[0].timeout_seconds, Some(1));
    server.stop().await.unwrap();
}

/// Settings that make no sense are refused, and it is said what would.
#[tokio::test]
async fn a_lease_is_longer_than_two_heartbeats() {
    let store = Store::new(MemoryStore::new());
    let server = server_of::<Slow>(&store, &Arc::default())
        .heartbeat_interval(Duration::from_secs(2))
        .lease(Duration::from_secs(3));
    let refused = server.start().await.unwrap_err().to_string();
    assert!(
        refused.contains("a lease of 3s is too short for a heartbeat every 2s"),
        "{refused}"
    );
}
