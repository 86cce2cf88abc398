//! What job code may do on its thread.

use std::{rc::Rc, time::Duration};

use rocketjob::prelude::*;
use rocketjob_testing::eventually;
use serde::{Deserialize, Serialize};

use crate::stores::{self, Kind};

#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(keep_completed)]
struct Guest {
    does: Does,
    result: Option<i64>,
}

#[derive(Serialize, Deserialize, Debug, Clone, Copy)]
enum Does {
    OwnRuntime,
    Timer,
    Spawn,
    Rc,
    BlockTheThread,
}

impl Perform for Guest {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        self.result = Some(match self.does {
            Does::OwnRuntime => blocking_client()?,
            Does::Timer => {
                tokio::time::sleep(Duration::from_millis(2)).await;
                tokio::time::timeout(Duration::from_secs(5), async { 2 }).await?
            }
            Does::Spawn => {
                let context = job.clone();
                let task = tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    context.progress(50);
                    3
                });
                task.await?
            }
            Does::Rc => {
                let shared = Rc::new(std::cell::Cell::new(1));
                let other = Rc::clone(&shared);
                tokio::time::sleep(Duration::from_millis(1)).await;
                other.set(4);
                shared.get()
            }
            Does::BlockTheThread => {
                let (sender, receiver) = std::sync::mpsc::channel();
                tokio::spawn(async move { sender.send(5) });
                receiver.recv()?
            }
        });
        Ok(())
    }
}

/// As blocking HTTP and database clients do it: a runtime of its own, in the calling thread.
fn blocking_client() -> std::io::Result<i64> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        1
    }))
}

fn performs(does: Does, result: i64, test: &str) {
    stores::run(Kind::Memory, test, async |fixture| {
        let mut job = Guest { does, result: None }
            .create(&fixture.store)
            .await
            .unwrap();
        let server = fixture.server::<Guest>().workers(1).start().await.unwrap();
        eventually("the job ends", async || {
            job.reload().await.unwrap();
            (job.state() != State::Queued && job.state() != State::Running).then_some(())
        })
        .await;
        assert_eq!(
            (job.state(), job.result),
            (State::Completed, Some(result)),
            "{:?}",
            job.exception()
        );
        server.stop().await.unwrap();
    });
}

#[test]
fn a_job_may_use_a_blocking_client_with_a_runtime_of_its_own() {
    performs(Does::OwnRuntime, 1, "runtime::own");
}

#[test]
fn a_job_may_use_tokio_timers() {
    performs(Does::Timer, 2, "runtime::timers");
}

#[test]
fn a_job_may_spawn_tokio_tasks() {
    performs(Does::Spawn, 3, "runtime::spawn");
}

#[test]
fn a_job_may_hold_an_rc_over_an_await() {
    performs(Does::Rc, 4, "runtime::rc");
}

#[test]
fn a_job_may_block_its_thread() {
    performs(Does::BlockTheThread, 5, "runtime::block");
}

#[test]
fn a_blocking_job_stalls_no_other() {
    #[derive(RocketJob, Serialize, Deserialize)]
    #[rocketjob(kind = "Blocker")]
    struct Blocker {
        blocks: bool,
    }

    type Way = parking_lot::Mutex<(
        Option<std::sync::mpsc::Sender<()>>,
        Option<std::sync::mpsc::Receiver<()>>,
    )>;

    impl Perform for Blocker {
        async fn perform(&mut self, job: &JobContext) -> JobResult {
            let way = job.shared::<Way>()?;
            if self.blocks {
                let receiver = way.lock().1.take().ok_or("taken")?;
                // Ends only when the other job has run beside it.
                receiver.recv()?;
            } else if let Some(sender) = way.lock().0.take() {
                sender.send(())?;
            }
            Ok(())
        }
    }

    stores::run(Kind::Memory, "runtime::stalls_no_other", async |fixture| {
        let (sender, receiver) = std::sync::mpsc::channel();
        let way: Way = parking_lot::Mutex::new((Some(sender), Some(receiver)));
        Blocker { blocks: true }
            .priority(1)
            .create(&fixture.store)
            .await
            .unwrap();
        Blocker { blocks: false }
            .create(&fixture.store)
            .await
            .unwrap();
        let server = fixture
            .server::<Blocker>()
            .workers(2)
            .shared(way)
            .start()
            .await
            .unwrap();
        let stopped = server.run_until_idle().await.unwrap();
        assert_eq!(stopped.settled, 2);
    });
}
