//! What a simulated process hears of others: some bells are missed, some ring late or twice, and some
//! processes hear nothing at all, for good or for a while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rocketjob_core::{Bell, Bells, JobStore, News};
use rocketjob_worker::simulation::Process;
use tokio::time::sleep;

use super::world::World;

/// The bell of one process.
#[derive(Debug, Default)]
pub(super) struct Ear {
    bell: Bell,
    hears: AtomicBool,
}

impl Ear {
    /// Begins to listen, unless the process is deaf.
    pub(super) fn listen(world: &World, process: &Process) -> Arc<Self> {
        let ear = Arc::new(Self::default());
        if !world.chance(25) {
            ear.hears.store(true, Ordering::Relaxed);
            let (ear, world) = (Arc::clone(&ear), world.clone());
            process.spawn(async move { ear.pass_on(&world).await });
        }
        ear
    }

    pub(super) fn rung(&self) -> Bells {
        self.bell.rung()
    }

    pub(super) async fn wait(&self, known: Bells) -> Bells {
        self.bell.wait(known).await
    }

    pub(super) fn hears_others(&self) -> bool {
        self.hears.load(Ordering::Relaxed)
    }

    async fn pass_on(&self, world: &World) {
        let mut known = world.store().bells();
        loop {
            let before = known;
            known = world.store().work_ready(known).await;
            let news = News {
                ready: known.ready != before.ready,
                waiting: known.waiting != before.waiting,
            };
            match world.number(0..100) {
                0..20 => {}
                20..25 => self.lose_it(world).await,
                25..35 => {
                    self.bell.ring(news);
                    sleep(Duration::from_millis(world.number(0..50))).await;
                    self.bell.ring(news);
                }
                _ => {
                    sleep(Duration::from_millis(world.number(0..50))).await;
                    self.bell.ring(news);
                }
            }
        }
    }

    /// Hears nothing for a while, and rings as a store does that notices it.
    async fn lose_it(&self, world: &World) {
        let anything = News {
            ready: true,
            waiting: true,
        };
        for (hears, pause) in [(false, world.number(0..3000)), (true, 0)] {
            self.hears.store(hears, Ordering::Relaxed);
            self.bell.ring(anything);
            sleep(Duration::from_millis(pause)).await;
        }
    }
}
