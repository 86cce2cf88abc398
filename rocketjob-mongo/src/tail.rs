//! Hearing what other processes publish: the end of the capped collection of events is followed, and
//! rings a bell.
//!
//! This needs no replica set, and no change stream: as long as one waits, `mongod` looks at each
//! change of each job on its behalf. Nor is anything read here but that there is something: what it
//! is, and that nothing is left out, is up to [`EventStore::events`](rocketjob_core::EventStore).
//!
//! An empty collection cannot be followed, so one that is gets a mark, which is no event. One that is
//! missing is created, and one that is not capped made so, as the original does; but not where it
//! has an index that removes old events, which is how the original makes it where it is to be polled.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bson::{Bson, Document, doc, oid::ObjectId};
use futures_util::TryStreamExt;
use mongodb::{ClientSession, Database, error::Error as DriverError};
use parking_lot::Mutex;
use rocketjob_core::{Bell, Bells, News, whole_number};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    error, schema,
    store::{durable, primary},
};

/// The name of the mark.
pub(crate) const MARK: &str = "rocketjob.mark";
/// The same for all, so that there is one.
const MARK_ID: [u8; 12] = *b"rocketjobmrk";

/// How long the server holds a request back while there is nothing to tell.
const AWAIT: Duration = Duration::from_secs(20);
/// How much longer than that an answer may take, before the connection counts as dead.
const MARGIN: Duration = Duration::from_secs(10);
/// How many events come with one answer, at most; only their ids do.
const BATCH: i64 = 1000;
/// So many of the latest events are read when the collection is opened: with those before them
/// nothing may have happened meanwhile.
const READ_AGAIN: i64 = 1000;
/// How long to wait after an error, at first and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// How long to wait where the collection cannot be followed; somebody may change that.
const LONG_BACK_OFF: Duration = Duration::from_mins(1);

/// What is shared by those who wait and the task that listens. The task ends when this is dropped.
pub(crate) struct EventEar {
    bell: Arc<Bell>,
    hears: Arc<AtomicBool>,
    /// Dropped with this.
    alive: watch::Sender<()>,
    listener: Mutex<Option<JoinHandle<()>>>,
}

impl EventEar {
    pub(crate) fn new() -> Self {
        Self {
            bell: Arc::default(),
            hears: Arc::default(),
            alive: watch::Sender::new(()),
            listener: Mutex::default(),
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

    /// Waits for the bell, and listens to other processes from now on.
    pub(crate) async fn wait(&self, database: &Database, known: u64) -> u64 {
        self.listen(database);
        self.bell.wait(Bells::of_ready(known)).await.ready
    }

    /// Starts the task, unless it runs.
    fn listen(&self, database: &Database) {
        let mut listener = self.listener.lock();
        // It ends with the runtime in which it was started.
        if listener.as_ref().is_none_or(JoinHandle::is_finished) {
            let tail = Tail {
                database: database.clone(),
                bell: Arc::clone(&self.bell),
                hears: Arc::clone(&self.hears),
            };
            let mut gone = self.alive.subscribe();
            *listener = Some(tokio::spawn(async move {
                tokio::select! {
                    () = tail.run() => {}
                    () = async { while gone.changed().await.is_ok() {} } => {}
                }
                tail.hears.store(false, Ordering::Relaxed);
            }));
        }
    }
}

/// Why the collection is not followed any more.
enum Ended {
    /// It may be tried again soon.
    Failed(DriverError),
    /// The server did not answer.
    Silence,
    /// It is empty.
    Empty,
    /// It is meant to be polled, or may not be made fit to be followed.
    Unfit(String),
}

impl From<DriverError> for Ended {
    fn from(error: DriverError) -> Self {
        Self::Failed(error)
    }
}

/// A cursor that waits at the end of the collection.
struct Follow {
    session: ClientSession,
    cursor: i64,
}

struct Tail {
    database: Database,
    bell: Arc<Bell>,
    hears: Arc<AtomicBool>,
}

impl Tail {
    async fn run(&self) {
        let mut back_off = BACK_OFF.0;
        loop {
            let ended = match self.open().await {
                Ok(mut follow) => {
                    back_off = BACK_OFF.0;
                    self.hears.store(true, Ordering::Relaxed);
                    // For what came before it was open.
                    self.bell.ring(News::READY);
                    let ended = self.follow(&mut follow).await;
                    self.hears.store(false, Ordering::Relaxed);
                    ended
                }
                Err(ended) => ended,
            };
            // Whoever waits is to look more often from now on.
            self.bell.ring(News::READY);
            let problem = match ended {
                Ended::Empty => match self.mark().await {
                    Ok(()) => continue,
                    Err(error) => error.to_string(),
                },
                Ended::Unfit(reason) => {
                    tracing::info!(
                        reason,
                        "events are found by looking for them twice a second"
                    );
                    sleep(LONG_BACK_OFF).await;
                    continue;
                }
                Ended::Failed(error) => error.to_string(),
                Ended::Silence => "the server does not answer".to_owned(),
            };
            tracing::debug!(
                problem,
                "the events are not followed any more: trying again"
            );
            sleep(back_off).await;
            back_off = (back_off * 2).min(BACK_OFF.1);
        }
    }

    /// Waits at the end of the collection. Whatever is in it by now may have to be looked at.
    async fn open(&self) -> Result<Follow, Ended> {
        within(MARGIN, self.make_fit()).await?;
        let count = doc! { "count": schema::EVENTS };
        let counted = within(MARGIN, self.command(count)).await?;
        let events = counted.get("n").and_then(whole_number).unwrap_or(0);
        let session = self.database.client().start_session();
        let mut session = within(MARGIN, async {
            Ok(session.causal_consistency(false).await?)
        })
        .await?;
        let find = doc! {
            "find": schema::EVENTS,
            "projection": { "_id": 1 },
            "skip": (events - READ_AGAIN).max(0),
            "batchSize": BATCH,
            "tailable": true,
            "awaitData": true,
        };
        let (cursor, some) = self.ask(&mut session, find, MARGIN).await?;
        match cursor {
            0 if !some => Err(Ended::Empty),
            0 => Err(Ended::Unfit(
                "the collection of events cannot be followed".into(),
            )),
            cursor => Ok(Follow { session, cursor }),
        }
    }

    /// Rings for what comes, and returns when the collection cannot be followed any more.
    async fn follow(&self, follow: &mut Follow) -> Ended {
        let wait = i64::try_from(AWAIT.as_millis()).unwrap_or(i64::MAX);
        loop {
            let more = doc! {
                "getMore": follow.cursor,
                "collection": schema::EVENTS,
                "batchSize": BATCH,
                "maxTimeMS": wait,
            };
            match self.ask(&mut follow.session, more, AWAIT + MARGIN).await {
                Ok((cursor, some)) => {
                    if some {
                        self.bell.ring(News::READY);
                    }
                    if cursor == 0 {
                        return Ended::Silence;
                    }
                }
                Err(ended) => return ended,
            }
        }
    }

    /// Sends a request of a cursor, and returns the cursor's id and whether there are events.
    async fn ask(
        &self,
        session: &mut ClientSession,
        request: Document,
        patience: Duration,
    ) -> Result<(i64, bool), Ended> {
        let reply = self
            .database
            .run_command(request)
            .selection_criteria(primary())
            .session(session);
        let reply = within(patience, async { Ok(reply.await?) }).await?;
        let cursor = reply.get_document("cursor").ok();
        let id = cursor
            .and_then(|cursor| cursor.get("id"))
            .and_then(whole_number);
        let batches = ["firstBatch", "nextBatch"];
        let mut batches = batches
            .iter()
            .filter_map(|batch| cursor?.get_array(*batch).ok());
        Ok((id.unwrap_or(0), batches.any(|batch| !batch.is_empty())))
    }

    async fn command(&self, command: Document) -> Result<Document, Ended> {
        let reply = self
            .database
            .run_command(command)
            .selection_criteria(primary());
        Ok(reply.await?)
    }

    /// Sees to it that the collection is there and capped.
    async fn make_fit(&self) -> Result<(), Ended> {
        let named = doc! { "name": schema::EVENTS };
        let listed = self.database.list_collections().filter(named).await?;
        let listed: Vec<_> = listed.try_collect().await?;
        match listed.first() {
            None => Ok(schema::create_events(&self.database).await?),
            Some(events) if events.options.capped == Some(true) => Ok(()),
            Some(_) => self.cap().await,
        }
    }

    async fn cap(&self) -> Result<(), Ended> {
        let events = self.database.collection::<Document>(schema::EVENTS);
        let indexes: Vec<_> = events.list_indexes().await?.try_collect().await?;
        let expires = indexes.iter().any(|index| {
            let options = index.options.as_ref();
            options.is_some_and(|options| options.expire_after.is_some())
        });
        if expires {
            return Err(Ended::Unfit(
                "the collection of events is one that is polled".into(),
            ));
        }
        let size = i64::try_from(schema::EVENTS_SIZE).unwrap_or(i64::MAX);
        let command = doc! { "convertToCapped": schema::EVENTS, "size": size };
        match self.database.run_command(command).await {
            Ok(_) => Ok(()),
            Err(problem) if error::is_interrupted(&problem) => Err(problem.into()),
            Err(problem) => Err(Ended::Unfit(format!(
                "the collection of events cannot be made a capped one: {problem}"
            ))),
        }
    }

    /// Makes the collection not empty.
    async fn mark(&self) -> Result<(), DriverError> {
        let events = self.database.collection::<Document>(schema::EVENTS);
        let mark = doc! {
            "_id": ObjectId::from_bytes(MARK_ID),
            "name": MARK,
            "parameters": {},
            "created_at": Bson::DateTime(bson::DateTime::from_millis(0)),
        };
        match events.insert_one(mark).write_concern(durable()).await {
            Err(problem) if !error::is_duplicate(&problem) => Err(problem),
            _ => Ok(()),
        }
    }
}

async fn within<T>(
    patience: Duration,
    act: impl Future<Output = Result<T, Ended>>,
) -> Result<T, Ended> {
    timeout(patience, act).await.unwrap_or(Err(Ended::Silence))
}
