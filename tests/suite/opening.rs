//! Jobs that begin with their creation, since a worker of the same process is idle.

use std::{sync::Arc, time::Duration};

use rocketjob::{Error, Filter, JobHandle, Registry, ServerBuilder, ServerState, name, prelude::*};
use rocketjob_testing::{Call, Fault, Faulty, eventually};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::stores::on_every_store;

/// Waits at the gate where it is told to.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "Visitor", keep_completed)]
struct Visitor {
    waits: bool,
}

impl Perform for Visitor {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        if self.waits {
            job.shared::<Arc<Semaphore>>()?.acquire().await?.forget();
        }
        Ok(())
    }
}

/// There is only one of it.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "OnlyVisitor")]
#[singleton]
struct OnlyVisitor {}

impl Perform for OnlyVisitor {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

/// A server with one worker that looks for work far too seldom to find any by chance.
fn one_worker(store: &Store) -> ServerBuilder {
    let mut registry = Registry::new();
    registry.register::<Visitor>().unwrap();
    registry.register::<OnlyVisitor>().unwrap();
    Server::builder(store).only(registry).workers(1)
}

/// How often a server must be seen to have nothing to do, before it is taken for idle.
const LOOKS: usize = 10;

/// Returns when the server has nothing to do.
async fn idle(store: &Store, server: &Server) {
    all_completed(store).await;
    let mut seen = (server.figures(), 0);
    eventually("the server is idle", async || {
        let now = server.figures();
        seen = (now, if now == seen.0 { seen.1 + 1 } else { 0 });
        (seen.1 >= LOOKS).then_some(())
    })
    .await;
}

/// Creates jobs until one begins with its creation: the server has found nothing else to do by then.
async fn begun_at_once(store: &Store, server: &Server) -> JobHandle<Visitor> {
    eventually("a job begins at once", async || {
        idle(store, server).await;
        let visitor = Visitor { waits: false }.create(store).await.unwrap();
        (visitor.state() == State::Running).then_some(visitor)
    })
    .await
}

async fn all_completed(store: &Store) {
    eventually("all jobs are completed", async || {
        let left = Visitor::query(store).filter(Filter::ne(name::STATE, "completed"));
        (left.count().await.unwrap() == 0).then_some(())
    })
    .await;
}

on_every_store! {
    /// It stands in the store as running when `create` returns, and is claimed by nobody else.
    async fn an_idle_worker_begins_what_is_created_beside_it(fixture: &Fixture) {
        let server = one_worker(&fixture.store).start().await.unwrap();
        let visitor = begun_at_once(&fixture.store, &server).await;
        assert_eq!(visitor.document().worker_name(), Some(format!("{}:1", server.name()).as_str()));
        assert!(visitor.document().get(name::STARTED_AT).is_some());
        all_completed(&fixture.store).await;
        let figures = server.figures();
        assert!(figures.at_once >= 1, "{figures:?}");
        let stored = fixture.store.get(visitor.id()).await.unwrap().unwrap();
        assert_eq!((stored.state(), stored.failure_count()), (State::Completed, 0));
        server.stop().await.unwrap();
    }

    /// Without an idle worker, on a paused server, and where the server's filter forbids it, a job is
    /// queued.
    async fn others_are_queued(fixture: &Fixture) {
        let store = &fixture.store;
        let gate = Arc::new(Semaphore::new(0));
        let filter = Filter::ne(name::DESCRIPTION, "for another server");
        let server = one_worker(store).shared(Arc::clone(&gate)).filter(filter);
        let server = server.heartbeat_interval(Duration::from_millis(100)).start().await.unwrap();
        let mut visitor = Visitor { waits: true }.create(store).await.unwrap();
        eventually("the worker is busy", async || {
            visitor.reload().await.unwrap();
            (visitor.state() == State::Running).then_some(())
        })
        .await;
        let next = Visitor { waits: false }.create(store).await.unwrap();
        assert_eq!(next.state(), State::Queued, "the only worker is busy");
        gate.add_permits(Semaphore::MAX_PERMITS / 2);
        all_completed(store).await;

        begun_at_once(store, &server).await;
        let foreign = Visitor { waits: false }.description("for another server");
        let foreign = foreign.create(store).await.unwrap();
        assert_eq!(foreign.state(), State::Queued, "the filter forbids it");
        foreign.delete().await.unwrap();

        let running = [ServerState::Running];
        store.set_server_state(server.id(), &running, ServerState::Paused).await.unwrap();
        eventually("a paused server takes nothing", async || {
            let job = Visitor { waits: false }.create(store).await.unwrap();
            (job.state() == State::Queued).then_some(())
        })
        .await;
        let paused = [ServerState::Paused];
        store.set_server_state(server.id(), &paused, ServerState::Running).await.unwrap();
        all_completed(store).await;
        begun_at_once(store, &server).await;
        server.stop().await.unwrap();
    }

    /// An answer that is lost leaves open whether the job exists. If it does it is performed, and
    /// the worker that was kept for it is there for others again.
    async fn a_lost_answer_costs_neither_the_job_nor_the_worker(fixture: &Fixture) {
        let faulty = Faulty::new(&fixture.store);
        let store = Store::new(faulty.clone());
        let server = one_worker(&store).start().await.unwrap();
        for fault in [Fault::Before, Fault::After] {
            begun_at_once(&store, &server).await;
            idle(&store, &server).await;
            faulty.fail_next(Call::Insert, fault);
            let failed = Visitor { waits: false }.create(&store).await.unwrap_err();
            assert!(failed.is_transient(), "{failed}");
            begun_at_once(&store, &server).await;
            idle(&store, &server).await;
        }
        let performed = Visitor::query(&fixture.store).state(State::Completed).count().await.unwrap();
        assert_eq!(server.stop().await.unwrap().refused, 0);
        assert!(performed >= 5, "what was stored all the same is performed too: {performed}");
    }

    /// Whoever gives up on creating a job, or is told that it exists already, takes no worker away.
    async fn what_is_given_up_takes_no_worker_away(fixture: &Fixture) {
        let faulty = Faulty::new(&fixture.store);
        let store = Store::new(faulty.clone());
        let server = one_worker(&store).start().await.unwrap();
        OnlyVisitor {}.priority(1).run_at(rocketjob::after(&store, Duration::from_hours(1)))
            .create(&store)
            .await
            .unwrap();
        begun_at_once(&store, &server).await;
        let error = OnlyVisitor {}.create(&store).await.unwrap_err();
        assert!(matches!(error, Error::Existing { .. }), "{error}");
        begun_at_once(&store, &server).await;
        faulty.before_next(Call::Insert, std::future::pending());
        let creating = Visitor { waits: false }.create(&store);
        assert!(tokio::time::timeout(Duration::from_millis(10), creating).await.is_err());
        begun_at_once(&store, &server).await;
        all_completed(&store).await;
        server.stop().await.unwrap();
    }
}
