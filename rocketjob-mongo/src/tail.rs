//! Following the end of the capped collection of events, where there are no change streams.
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
use rocketjob_core::{Bell, News, whole_number};
use tokio::time::timeout;

use crate::{
    error, schema,
    store::{durable, primary},
};

/// The name of the mark.
pub(crate) const MARK: &str = "rocketjob.mark";
/// The same for all, so that there is one.
const MARK_ID: [u8; 12] = *b"rocketjobmrk";

/// How long the server holds a request back while there is nothing to tell. Who waits is not told
/// when the collection is dropped, and hears nothing of a new one until then; jobs are looked for as
/// often where there are no change streams.
const AWAIT: Duration = Duration::from_millis(500);
/// How much longer than that an answer may take, before the connection counts as dead.
const MARGIN: Duration = Duration::from_secs(10);
/// How many events come with one answer, at most; only their ids do.
const BATCH: i64 = 1000;
/// So many of the latest events are read when the collection is opened: with those before them
/// nothing may have happened meanwhile.
const READ_AGAIN: i64 = 1000;
/// How long to wait after an error; the driver itself waits for a server that is away.
const BACK_OFF: Duration = Duration::from_millis(500);
/// How long to wait where the collection cannot be followed; somebody may change that.
const LONG_BACK_OFF: Duration = Duration::from_mins(1);

/// Why the collection is not followed any more.
pub(crate) enum Ended {
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

/// Follows the events of a database, and rings for what comes.
pub(crate) struct Tail {
    pub(crate) database: Database,
    pub(crate) bell: Arc<Bell>,
    pub(crate) hears: Arc<AtomicBool>,
}

impl Tail {
    /// Follows the events for as long as that goes well, and returns how long to wait before it is
    /// tried again.
    pub(crate) async fn run(&self) -> Duration {
        let ended = match self.open().await {
            Ok(mut follow) => {
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
                Ok(()) => return Duration::ZERO,
                Err(error) => error.to_string(),
            },
            Ended::Unfit(reason) => {
                tracing::info!(
                    reason,
                    "events are found by looking for them again and again"
                );
                return LONG_BACK_OFF;
            }
            Ended::Failed(error) => error.to_string(),
            Ended::Silence => "the server does not answer".to_owned(),
        };
        tracing::debug!(
            problem,
            "the events are not followed any more: trying again"
        );
        BACK_OFF
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
    pub(crate) async fn make_fit(&self) -> Result<(), Ended> {
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
