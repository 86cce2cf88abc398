//! Hearing what other processes do: a change stream that rings the bell.
//!
//! It is read only while somebody waits, so that a busy server need not follow each insert. When
//! nobody has waited for a while it is closed, and opened again at the then present: the bell rings
//! once it is open, and whoever looks for work then finds what was missed.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bson::{Document, RawBsonRef, RawDocumentBuf, doc, oid::ObjectId};
use mongodb::{
    Collection,
    change_stream::ChangeStream,
    error::{Error as DriverError, Result as DriverResult},
    options::ReadConcern,
};
use parking_lot::Mutex;
use rocketjob_core::{Bell, Bells, JobDocument, News, State, name};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::error;

/// How long the server holds a request back while there is nothing to tell: one request in this
/// time is all that an idle listener costs.
const AWAIT: Duration = Duration::from_secs(20);
/// How much longer than that an answer may take, before the connection counts as dead.
const MARGIN: Duration = Duration::from_secs(10);
/// How long the stream stays open while nobody waits. What has come together in this time is read
/// when somebody waits again, so it must not be much.
const LINGER: Duration = Duration::from_millis(250);
/// How many changes come with one answer, at most.
const BATCH: u32 = 1000;
/// Of so many jobs that are inserted together the echo is told apart: it matters for jobs that are
/// created one by one.
const FEW: usize = 16;
/// How many insertions are remembered until the stream tells of them.
const MOST_EXPECTED: usize = 256;
/// How long to wait after an error, at first and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long to wait where there are no change streams; somebody may make a replica set of it.
const LONG_BACK_OFF: Duration = Duration::from_mins(1);

/// What is shared by those who wait and the task that listens. The task ends when this is dropped.
pub(crate) struct Ear {
    pub(crate) bell: Arc<Bell>,
    echoes: Arc<Echoes>,
    hears: Arc<AtomicBool>,
    /// How many wait.
    waiting: watch::Sender<usize>,
    listener: Mutex<Option<JoinHandle<()>>>,
}

impl Ear {
    pub(crate) fn new() -> Self {
        Self {
            bell: Arc::default(),
            echoes: Arc::default(),
            hears: Arc::default(),
            waiting: watch::Sender::new(0),
            listener: Mutex::default(),
        }
    }

    pub(crate) fn hears_others(&self) -> bool {
        self.hears.load(Ordering::Relaxed)
    }

    /// Waits for the bell, and lets it ring for changes of `jobs` by others meanwhile.
    pub(crate) async fn wait(&self, jobs: &Collection<RawDocumentBuf>, known: Bells) -> Bells {
        let _waiting = Waiting::new(&self.waiting);
        self.listen(jobs);
        self.bell.wait(known).await
    }

    /// Jobs are about to be inserted by this process. The bell rings for them when what is returned
    /// is dropped, and not when the stream tells of them.
    pub(crate) fn inserting(&self, jobs: &[JobDocument]) -> Inserting<'_> {
        let news = News::of_jobs(jobs);
        let mut ids = Vec::new();
        if news.is_any() && jobs.len() <= FEW {
            ids.extend(jobs.iter().map(JobDocument::id));
            self.echoes.expect(&ids);
        }
        Inserting {
            ear: self,
            news,
            ids,
            done: false,
        }
    }

    /// Starts the task, unless it runs.
    fn listen(&self, jobs: &Collection<RawDocumentBuf>) {
        let mut listener = self.listener.lock();
        // It ends with the runtime in which it was started.
        if listener.as_ref().is_none_or(JoinHandle::is_finished) {
            let task = Listener {
                jobs: jobs.clone(),
                bell: Arc::clone(&self.bell),
                echoes: Arc::clone(&self.echoes),
                hears: Arc::clone(&self.hears),
                waiting: self.waiting.subscribe(),
            };
            *listener = Some(tokio::spawn(task.run()));
        }
    }
}

/// An insertion under way. The bell rings whatever becomes of it; one whose end is not known may
/// come later, and then the stream is to tell of it.
pub(crate) struct Inserting<'e> {
    ear: &'e Ear,
    news: News,
    ids: Vec<ObjectId>,
    done: bool,
}

impl Inserting<'_> {
    pub(crate) fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Inserting<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.ear.echoes.forget(&self.ids);
        }
        self.ear.bell.ring(self.news);
    }
}

/// Insertions by this process for which the bell rings by itself: it need not ring again when the
/// stream tells of them.
#[derive(Default)]
struct Echoes(Mutex<VecDeque<ObjectId>>);

impl Echoes {
    fn expect(&self, ids: &[ObjectId]) {
        let mut expected = self.0.lock();
        expected.extend(ids);
        // Those of which nobody told, since nobody listened.
        let forgotten = expected.len().saturating_sub(MOST_EXPECTED);
        expected.drain(..forgotten);
    }

    fn forget(&self, ids: &[ObjectId]) {
        self.0.lock().retain(|expected| !ids.contains(expected));
    }

    fn has(&self, change: &RawDocumentBuf) -> bool {
        let Ok(Some(RawBsonRef::ObjectId(id))) = change.get(INSERTED) else {
            return false;
        };
        let mut expected = self.0.lock();
        let place = expected.iter().position(|expected| *expected == id);
        place.is_some_and(|place| expected.remove(place).is_some())
    }
}

/// One who waits.
struct Waiting<'e>(&'e watch::Sender<usize>);

impl<'e> Waiting<'e> {
    fn new(count: &'e watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Whoever could be told has gone.
struct Gone;

struct Listener {
    jobs: Collection<RawDocumentBuf>,
    bell: Arc<Bell>,
    echoes: Arc<Echoes>,
    hears: Arc<AtomicBool>,
    waiting: watch::Receiver<usize>,
}

impl Listener {
    async fn run(mut self) {
        let mut gone = self.waiting.clone();
        // Also while a request is under way, which may take long.
        tokio::select! {
            _ = self.listen() => {}
            () = async { while gone.changed().await.is_ok() {} } => {}
        }
        self.hears.store(false, Ordering::Relaxed);
    }

    async fn listen(&mut self) -> Result<(), Gone> {
        let mut back_off = BACK_OFF.0;
        loop {
            self.somebody_waits().await?;
            let problem = match self.open().await {
                Ok(stream) => {
                    back_off = BACK_OFF.0;
                    self.hears.store(true, Ordering::Relaxed);
                    // For what came before the stream was open.
                    self.ring_all();
                    let ended = self.follow(stream).await;
                    self.hears.store(false, Ordering::Relaxed);
                    match ended {
                        Ok(()) => continue,
                        Err(problem) => problem,
                    }
                }
                Err(problem) => problem,
            };
            // Whoever waits is to look more often from now on.
            self.ring_all();
            if problem
                .as_ref()
                .is_some_and(error::is_without_change_streams)
            {
                tracing::info!(
                    problem = problem.as_ref().map(ToString::to_string),
                    "no change streams here: jobs of other processes are found by looking for them"
                );
                sleep(LONG_BACK_OFF).await;
            } else {
                tracing::debug!(
                    problem = problem.as_ref().map(ToString::to_string),
                    "the change stream ended: it is opened again"
                );
                sleep(back_off).await;
                back_off = (back_off * 2).min(BACK_OFF.1);
            }
        }
    }

    async fn somebody_waits(&mut self) -> Result<(), Gone> {
        let somebody = self.waiting.wait_for(|count| *count > 0).await;
        somebody.map(drop).map_err(|_| Gone)
    }

    async fn open(&self) -> Result<ChangeStream<RawDocumentBuf>, Option<DriverError>> {
        let stream = self
            .jobs
            .watch()
            .pipeline([doc! { "$match": changes() }, doc! { "$project": fields() }])
            .max_await_time(AWAIT)
            .batch_size(BATCH)
            // What is read is what a majority has; the collection itself is read otherwise.
            .read_concern(ReadConcern::majority());
        match timeout(MARGIN, stream).await {
            Ok(opened) => opened.map(ChangeStream::with_type).map_err(Some),
            Err(_) => Err(None),
        }
    }

    /// Rings for what the stream tells. Returns when nobody waits any more, or with the reason why
    /// the stream ended, if there is any.
    async fn follow(
        &mut self,
        mut stream: ChangeStream<RawDocumentBuf>,
    ) -> Result<(), Option<DriverError>> {
        while stream.is_alive() {
            let next = timeout(AWAIT + MARGIN, stream.next_if_any());
            let next: DriverResult<_> = tokio::select! {
                biased;
                // Also while a request is under way: as long as it waits, the server looks at every
                // change of every job on its behalf, which costs as much as the change itself.
                () = self.nobody_waits() => return Ok(()),
                next = next => next.map_err(|_| None)?,
            };
            if let Some(change) = next.map_err(Some)?
                && !self.echoes.has(&change)
            {
                self.bell.ring(news(&change));
            }
        }
        // The collection was dropped or renamed.
        Err(None)
    }

    /// Returns when nobody has waited for a while.
    async fn nobody_waits(&mut self) {
        while self.waiting.wait_for(|count| *count == 0).await.is_ok() {
            match timeout(LINGER, self.somebody_waits()).await {
                Ok(Ok(())) => {}
                Ok(Err(Gone)) | Err(_) => return,
            }
        }
    }

    fn ring_all(&self) {
        self.bell.ring(News {
            ready: true,
            waiting: true,
        });
    }
}

const READY: &str = "ready";
/// The id of a job that was inserted.
const INSERTED: &str = "inserted";

/// The changes that make a job ready, or after which it is to be made so.
fn changes() -> Document {
    let updated = |field: &str| format!("updateDescription.updatedFields.{field}");
    let queued = State::Queued.as_str();
    doc! { "$or": [
        { "operationType": "insert", "fullDocument.state": queued },
        // An import.
        { "operationType": "replace", "fullDocument.state": queued },
        { updated(name::READY): true },
        { updated(name::HOLD): name::HOLD_SCHEDULED },
        { updated(name::RUN_AT): { "$exists": true } },
        { "updateDescription.removedFields": name::RUN_AT },
        // The original makes a job wait again without any mark of ours.
        { updated(name::STATE): queued },
    ] }
}

/// Whether it is ready now, and which job it is if it was inserted; the id is the stream's own.
fn fields() -> Document {
    let is_true = |field: String| doc! { "$eq": [field, true] };
    let ready = [
        is_true(format!("$fullDocument.{}", name::READY)),
        is_true(format!("$updateDescription.updatedFields.{}", name::READY)),
    ];
    let is_insertion = doc! { "$eq": ["$operationType", "insert"] };
    let id = doc! { "$cond": [is_insertion, "$documentKey._id", null] };
    doc! { READY: { "$or": ready.to_vec() }, INSERTED: id }
}

fn news(change: &RawDocumentBuf) -> News {
    let ready = change.get_bool(READY).unwrap_or(false);
    News {
        ready,
        waiting: !ready,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(id: ObjectId) -> RawDocumentBuf {
        RawDocumentBuf::try_from(doc! { READY: true, INSERTED: id }).unwrap()
    }

    #[test]
    fn each_insertion_is_told_apart_once() {
        let echoes = Echoes::default();
        let [ours, given_up, foreign] = [ObjectId::new(), ObjectId::new(), ObjectId::new()];
        echoes.expect(&[ours, given_up]);
        echoes.forget(&[given_up]);
        assert!(!echoes.has(&told(foreign)) && !echoes.has(&told(given_up)));
        assert!(echoes.has(&told(ours)) && !echoes.has(&told(ours)));
        let updated =
            RawDocumentBuf::try_from(doc! { READY: true, INSERTED: bson::Bson::Null }).unwrap();
        assert!(!echoes.has(&updated));
    }

    #[test]
    fn only_so_many_are_expected() {
        let echoes = Echoes::default();
        let ids: Vec<_> = (0..=MOST_EXPECTED).map(|_| ObjectId::new()).collect();
        echoes.expect(&ids);
        assert!(!echoes.has(&told(ids[0])) && echoes.has(&told(ids[1])));
    }
}
