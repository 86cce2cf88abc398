//! [`SqliteStore`], and [`JobStore`] for it.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bson::{Document, oid::ObjectId};
use jiff::Timestamp;
use rocketjob_core::{
    Bells, Change, ClaimRequest, ClaimToken, Claimed, Clock, Filter, IdSource, Insertion,
    JobDocument, JobStore, Openings, Patch, Query, ReadFrom, Refusal, Result, Settled, State, name,
};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    bell::{self, Ear},
    claim,
    connection::{Readers, open_writer},
    ending::{Ending, Form},
    error::Failure,
    find, hold,
    options::Options,
    row::key,
    session::{Session, Stored, existing},
    settle, sql,
    writer::Writer,
};

/// How many unreadable documents may hide a job that is looked for.
const UNREADABLE: i64 = 100;

/// A store in one SQLite file. Cloning it costs nothing and gives another handle on the same file.
///
/// Several processes on one machine may have the file open at the same time. Its methods must be
/// called within a Tokio runtime: they block a thread of its pool for blocking work, and no other.
#[derive(Clone)]
pub struct SqliteStore(Arc<Shared>);

struct Shared {
    address: String,
    clock: Arc<dyn Clock>,
    ids: IdSource,
    readers: Arc<Readers>,
    writer: Arc<Writer>,
    ear: Arc<Ear>,
    event_ear: Arc<Ear>,
    openings: Openings,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqliteStore").field(&self.0.address).finish()
    }
}

impl SqliteStore {
    /// Opens the file at `path`, and makes it when there is none; see [`Options::open`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        Options::new().open(path).await
    }

    /// Opens the file at an address such as `sqlite://jobs.db`; see [`Options::connect`].
    pub async fn connect(url: &str) -> Result<Self> {
        Options::new().connect(url).await
    }

    pub(crate) async fn start(options: Options, path: PathBuf) -> Result<Self> {
        let connection = open_writer(path.clone(), options.clone()).await?;
        let ear = Arc::new(Ear::new(&path, bell::JOBS));
        let event_ear = Arc::new(Ear::new(&path, bell::EVENTS));
        Ok(Self(Arc::new(Shared {
            address: format!("sqlite://{}", path.display()),
            clock: Arc::clone(&options.clock),
            ids: IdSource::new(),
            readers: Arc::new(Readers::new(path, options)),
            writer: Arc::new(Writer::new(connection, Arc::clone(&ear))),
            ear,
            event_ear,
            openings: Openings::new(),
        })))
    }

    /// Stores `document` as it is, in the place of one with the same `_id`: for tests and for
    /// importing. Nothing is checked but unique keys and slots. One without `_id` gets one.
    ///
    /// # Errors
    /// [`Error::Existing`](rocketjob_core::Error::Existing) when another job holds a unique key of
    /// the document.
    pub async fn insert_raw(&self, mut document: Document) -> Result<()> {
        let id = document
            .entry(name::ID)
            .or_insert_with(|| self.next_id().into())
            .clone();
        self.write(move |session| {
            let written = match session.row(&key(&id)?)? {
                None => session.insert(document)?,
                Some(row) => session.replace(&Stored::new(row), document)?.map(drop),
            };
            written.map_err(|rival| existing(&rival))
        })
        .await
    }

    /// Makes a change without any condition, and says whether the job exists: for tests.
    pub async fn change_raw(&self, id: ObjectId, change: Change) -> Result<bool> {
        self.write(move |session| {
            let Some(stored) = session.row(&id.bytes())?.map(Stored::new) else {
                return Ok(false);
            };
            if change.delete {
                session.delete(&stored)?;
            } else {
                session.mark(&stored, &change)?;
            }
            Ok(true)
        })
        .await
    }

    /// The stored document with this id, also an undecodable one: for tests and for exporting.
    pub async fn raw(&self, id: ObjectId) -> Result<Option<Document>> {
        self.read(move |connection| {
            let row = Session::new(connection).row(&id.bytes())?;
            Ok(row.map(|row| row.decode()))
        })
        .await
    }

    /// The bell for events.
    pub(crate) fn event_ear(&self) -> &Arc<Ear> {
        &self.0.event_ear
    }

    pub(crate) fn time(&self) -> Timestamp {
        self.0.clock.now()
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        self.0.readers.read(&self.0.address, act).await
    }

    pub(crate) async fn write<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Session<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        self.0.writer.write(&self.0.address, act).await
    }
}

#[async_trait]
impl JobStore for SqliteStore {
    fn now(&self) -> Timestamp {
        self.time()
    }

    fn next_id(&self) -> ObjectId {
        self.0.ids.next(self.time())
    }

    fn address(&self) -> String {
        self.0.address.clone()
    }

    async fn insert(&self, jobs: Vec<JobDocument>) -> Result<Vec<Insertion>> {
        self.write(move |session| settle::insert(session, jobs))
            .await
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claimed> {
        claim::claim(self, request).await
    }

    async fn settle(&self, patches: Vec<Patch>) -> Result<Vec<Settled>> {
        let mut form = Form::default();
        let endings: Vec<_> = patches
            .iter()
            .map(|patch| Ending::of(patch, &mut form))
            .collect();
        let (settled, ..) = self
            .write(move |session| {
                let settled = settle::settle(session, &patches, &endings)?;
                // Others wait for the writer: what is of no more use is let go elsewhere.
                Ok((settled, patches, endings))
            })
            .await?;
        Ok(settled)
    }

    async fn update(&self, patch: Patch) -> Result<Result<JobDocument, Refusal>> {
        match self
            .write(move |session| settle::update(session, &patch))
            .await?
        {
            Ok(document) => JobDocument::new(document).map(Ok),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    async fn update_and_insert(
        &self,
        patch: Patch,
        jobs: Vec<JobDocument>,
    ) -> Result<Result<Vec<Insertion>, Refusal>> {
        self.write(move |session| match settle::update(session, &patch)? {
            Ok(_) => settle::insert(session, jobs).map(Ok),
            Err(refusal) => Ok(Err(refusal)),
        })
        .await
    }

    async fn promote(&self, limit: usize) -> Result<u64> {
        let now = self.time();
        self.write(move |session| hold::promote(session, limit, now))
            .await
    }

    async fn release(&self, hold: &str, count: usize) -> Result<u64> {
        let hold = hold.to_owned();
        self.write(move |session| hold::release(session, &hold, count))
            .await
    }

    async fn next_held(&self, after: &str) -> Result<Option<JobDocument>> {
        let after = after.to_owned();
        self.read(move |connection| {
            let held = Session::new(connection).rows(sql::NEXT_HELD, params![after, UNREADABLE])?;
            Ok(held
                .iter()
                .find_map(|row| JobDocument::new(row.decode()).ok()))
        })
        .await
    }

    async fn claims_of(
        &self,
        server: ObjectId,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<JobDocument>> {
        let (start, end) = (ClaimToken::prefix(server), ClaimToken::end(server));
        let after = after.map_or_else(Vec::new, |after| after.bytes().to_vec());
        self.read(move |connection| {
            let rows = Session::new(connection).rows(
                sql::CLAIMS_OF,
                params![start, end, after, hold::count(limit)],
            )?;
            Ok(rows
                .iter()
                .filter_map(|row| JobDocument::new(row.decode()).ok())
                .collect())
        })
        .await
    }

    async fn next_claim(&self, after: &str) -> Result<Option<JobDocument>> {
        let after = after.to_owned();
        self.read(move |connection| {
            let session = Session::new(connection);
            let mut limit = 1;
            loop {
                let rows = session.rows(sql::NEXT_CLAIM, params![after, hold::count(limit)])?;
                let readable = rows
                    .iter()
                    .find_map(|row| JobDocument::new(row.decode()).ok());
                if readable.is_some() || rows.len() < limit {
                    return Ok(readable);
                }
                // However many cannot be read, they hide no claim behind them.
                limit *= 10;
            }
        })
        .await
    }

    async fn next_kind(&self, after: &str) -> Result<Option<String>> {
        let after = after.to_owned();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(sql::NEXT_KIND)?;
            Ok(statement.query_row([after], |row| row.get(0)).optional()?)
        })
        .await
    }

    async fn get(&self, id: ObjectId) -> Result<Option<JobDocument>> {
        self.raw(id).await?.map(JobDocument::new).transpose()
    }

    async fn find(&self, query: &Query) -> Result<Vec<JobDocument>> {
        let query = query.clone();
        self.read(move |connection| find::find(&Session::new(connection), &query))
            .await
    }

    async fn count(&self, filter: &Filter, _read_from: ReadFrom) -> Result<u64> {
        let filter = filter.clone();
        self.read(move |connection| find::count(&Session::new(connection), &filter))
            .await
    }

    async fn count_by_state(
        &self,
        filter: &Filter,
        _read_from: ReadFrom,
    ) -> Result<BTreeMap<State, u64>> {
        let filter = filter.clone();
        self.read(move |connection| find::count_by_state(&Session::new(connection), &filter))
            .await
    }

    async fn delete(&self, filter: &Filter) -> Result<u64> {
        let mut deleted = 0;
        let mut after = None;
        loop {
            let filter = filter.clone();
            let (more, last) = self
                .write(move |session| find::delete(session, &filter, after))
                .await?;
            deleted += more;
            after = last;
            if after.is_none() {
                return Ok(deleted);
            }
        }
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        let now = self.time().as_millisecond();
        self.read(move |connection| hold::next_due(&Session::new(connection), now))
            .await
    }

    fn bells(&self) -> Bells {
        self.0.ear.rung()
    }

    async fn work_ready(&self, known: Bells) -> Bells {
        self.0.ear.wait(known).await
    }

    fn hears_others(&self) -> bool {
        self.0.ear.hears_others()
    }

    fn openings(&self) -> &Openings {
        &self.0.openings
    }
}
