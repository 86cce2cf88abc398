//! Hearing what other processes publish: a change stream on the events, or where there is none the
//! end of their collection, rings a bell.
//!
//! Nothing is read here but that there is something: what it is, and that nothing is left out, is up
//! to [`EventStore::events`](rocketjob_core::EventStore).
//!
//! As long as a change stream waits, `mongod` looks at each change of each job on its behalf. So while
//! this process claims one group of jobs after the other, the stream is closed, and whoever waits for
//! events looks for them a few times a second, which is nothing beside the claims. The end of a
//! capped collection could be followed at no such cost; but in a replica set who waits there is not
//! told when the collection is dropped, and hears nothing of a new one for as long as he waits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bson::{Document, doc};
use mongodb::{
    Database,
    change_stream::ChangeStream,
    error::{Error as DriverError, Result as DriverResult},
    options::ReadConcern,
};
use parking_lot::Mutex;
use rocketjob_core::{Bell, News};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    error, schema,
    tail::{Ended, Tail},
};

/// How long the server holds a request back while there is nothing to tell.
const AWAIT: Duration = Duration::from_secs(20);
/// How much longer than that an answer may take, before the connection counts as dead.
const MARGIN: Duration = Duration::from_secs(10);
/// How long to wait after an error, at first and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// Who claims more often than this in such a time is busy.
const BUSY: (u64, Duration) = (20, Duration::from_secs(1));

/// What is shared by those who wait and the task that listens. The task ends when this is dropped.
pub(crate) struct EventEar {
    bell: Arc<Bell>,
    hears: Arc<AtomicBool>,
    /// Dropped with this.
    alive: watch::Sender<()>,
    listener: Mutex<Option<JoinHandle<()>>>,
    /// How often this process has claimed.
    claims: Arc<AtomicU64>,
}

impl EventEar {
    pub(crate) fn new() -> Self {
        Self {
            bell: Arc::default(),
            hears: Arc::default(),
            alive: watch::Sender::new(()),
            listener: Mutex::default(),
            claims: Arc::default(),
        }
    }

    pub(crate) fn rung(&self) -> u64 {
        self.bell.rung().ready
    }

    /// Rings for an event of this process.
    pub(crate) fn ring(&self) {
        self.bell.ring(News::READY);
    }

    pub(crate) fn hears_others(&self) -> bool {
        self.hears.load(Ordering::Relaxed)
    }

    /// This process claims.
    pub(crate) fn claims(&self) {
        self.claims.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for the bell, and listens to other processes from now on.
    pub(crate) async fn wait(&self, database: &Database, known: u64) -> u64 {
        self.listen(database);
        self.bell.wait_for_ready(known).await
    }

    /// Starts the task, unless it runs.
    fn listen(&self, database: &Database) {
        let mut listener = self.listener.lock();
        // It ends with the runtime in which it was started.
        if listener.as_ref().is_none_or(JoinHandle::is_finished) {
            let task = Listener {
                tail: Tail {
                    database: database.clone(),
                    bell: Arc::clone(&self.bell),
                    hears: Arc::clone(&self.hears),
                },
                claims: Arc::clone(&self.claims),
            };
            let mut gone = self.alive.subscribe();
            *listener = Some(tokio::spawn(async move {
                tokio::select! {
                    () = task.run() => {}
                    () = async { while gone.changed().await.is_ok() {} } => {}
                }
                task.tail.hears.store(false, Ordering::Relaxed);
            }));
        }
    }
}

struct Listener {
    tail: Tail,
    claims: Arc<AtomicU64>,
}

impl Listener {
    async fn run(&self) {
        let mut back_off = BACK_OFF.0;
        loop {
            while self.is_busy().await {}
            let pause = match self.open().await {
                Ok(stream) => {
                    back_off = BACK_OFF.0;
                    self.set_hears(true);
                    let ended = self.follow(stream).await;
                    self.set_hears(false);
                    match ended {
                        Ok(()) => Duration::ZERO,
                        Err(problem) => failed(problem.as_ref(), &mut back_off),
                    }
                }
                Err(Some(problem)) if error::is_without_change_streams(&problem) => {
                    self.tail.run().await
                }
                Err(problem) => failed(problem.as_ref(), &mut back_off),
            };
            sleep(pause).await;
        }
    }

    /// Rings too: for what came before, or since whoever waits is to look more often.
    fn set_hears(&self, hears: bool) {
        self.tail.hears.store(hears, Ordering::Relaxed);
        self.tail.bell.ring(News::READY);
    }

    /// Whether this process claims one group of jobs after the other. Takes its time while it does;
    /// who has just begun to wait counts as idle.
    async fn is_busy(&self) -> bool {
        let before = self.claims.swap(0, Ordering::Relaxed);
        let busy = before > BUSY.0;
        if busy {
            sleep(BUSY.1).await;
        }
        busy
    }

    async fn open(&self) -> Result<ChangeStream<Document>, Option<DriverError>> {
        match timeout(MARGIN, self.tail.make_fit()).await {
            // A stream can be opened on any collection.
            Ok(Ok(()) | Err(Ended::Unfit(_))) => {}
            Ok(Err(Ended::Failed(problem))) => return Err(Some(problem)),
            Ok(Err(_)) | Err(_) => return Err(None),
        }
        let events = self.tail.database.collection::<Document>(schema::EVENTS);
        let stream = events
            .watch()
            .pipeline([doc! { "$project": { "_id": 1 } }])
            .max_await_time(AWAIT)
            .read_concern(ReadConcern::majority());
        match timeout(MARGIN, stream).await {
            Ok(opened) => opened.map(ChangeStream::with_type).map_err(Some),
            Err(_) => Err(None),
        }
    }

    /// Rings for what the stream tells. Returns when this process is busy, or the collection was
    /// dropped, or with the reason why the stream ended, if there is any.
    async fn follow(&self, mut stream: ChangeStream<Document>) -> Result<(), Option<DriverError>> {
        while stream.is_alive() {
            let next = timeout(AWAIT + MARGIN, stream.next_if_any());
            let next: DriverResult<_> = tokio::select! {
                biased;
                () = self.becomes_busy() => return Ok(()),
                next = next => next.map_err(|_| None)?,
            };
            if next.map_err(Some)?.is_some() {
                self.tail.bell.ring(News::READY);
            }
        }
        Ok(())
    }

    async fn becomes_busy(&self) {
        loop {
            self.claims.store(0, Ordering::Relaxed);
            sleep(BUSY.1).await;
            if self.claims.load(Ordering::Relaxed) > BUSY.0 {
                return;
            }
        }
    }
}

/// How long to wait then.
fn failed(problem: Option<&DriverError>, back_off: &mut Duration) -> Duration {
    tracing::debug!(
        problem = problem.map(ToString::to_string),
        "the events cannot be followed: trying again"
    );
    let pause = *back_off;
    *back_off = (pause * 2).min(BACK_OFF.1);
    pause
}
