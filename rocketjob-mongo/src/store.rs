//! The store: a client, its collections, and what `JobStore` promises of them.

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;
use bson::{RawDocumentBuf, oid::ObjectId};
use jiff::Timestamp;
use mongodb::{
    Client, Collection, Database,
    error::Error as DriverError,
    options::{
        ClientOptions, CollectionOptions, ReadConcern, ReadPreference, SelectionCriteria,
        WriteConcern,
    },
};
use rocketjob_core::{
    Bells, ClaimRequest, Claimed, Error, Filter, IdSource, Insertion, JobDocument, JobStore, News,
    Openings, Patch, Query, ReadFrom, Refusal, Result, Settled, State,
};

use crate::{
    bell::Ear,
    clock::ServerClock,
    error,
    event_ear::EventEar,
    frontier::{Frontiers, Place, first_of_kinds},
    schema,
};

const DEFAULT_DATABASE: &str = "rocketjob";

/// A store on MongoDB 4.4 or newer, standalone or replica set. Cloning it costs nothing and gives
/// another handle on the same connections.
///
/// It belongs to the runtime in which it was made, as the driver's client does.
#[derive(Clone)]
pub struct MongoStore(Arc<Shared>);

struct Shared {
    client: Client,
    database: Database,
    jobs: Collection<RawDocumentBuf>,
    address: String,
    clock: ServerClock,
    ids: IdSource,
    ear: Ear,
    event_ear: EventEar,
    openings: Openings,
    frontiers: Frontiers,
}

impl MongoStore {
    /// Connects to the database in the path of `url` (`rocketjob` when it names none), and creates
    /// the collections and indexes that are missing.
    ///
    /// # Errors
    /// [`Error::Configuration`] when the URL makes no sense or the server does not accept the user
    /// and the password; [`Error::Unavailable`] when no server is found within the URL's
    /// `serverSelectionTimeoutMS`, or five seconds. Neither tells the password.
    pub async fn connect(url: &str) -> Result<Self> {
        let mut options = ClientOptions::parse(url)
            .await
            .map_err(|error| error::bad_url(&error))?;
        options
            .server_selection_timeout
            .get_or_insert(schema::SELECTION_TIMEOUT);
        options
            .app_name
            .get_or_insert_with(|| DEFAULT_DATABASE.into());
        let hosts: Vec<_> = options.hosts.iter().map(ToString::to_string).collect();
        let database = options.default_database.clone();
        let database = database.unwrap_or_else(|| DEFAULT_DATABASE.into());
        let client = Client::with_options(options).map_err(|error| error::bad_url(&error))?;
        Self::open(client, &database, &hosts.join(",")).await
    }

    /// A store in `database` of a client that the program has already, with its settings. Creates
    /// the collections and indexes that are missing.
    ///
    /// # Errors
    /// As [`connect`](Self::connect); how long a server is looked for is the client's setting.
    pub async fn with_client(client: Client, database: &str) -> Result<Self> {
        Self::open(client, database, "the given client").await
    }

    async fn open(client: Client, database: &str, hosts: &str) -> Result<Self> {
        let address = format!("mongodb://{hosts}/{database}");
        let database = client.database(database);
        let failed = |problem| error::translate(&address, problem);
        let clock = ServerClock::start(&database).await.map_err(failed)?;
        schema::create(&database).await.map_err(failed)?;
        // Whatever the defaults of the URL or the client are: guards look at the primary, and what
        // was acknowledged outlives a failover.
        let options = CollectionOptions::builder()
            .selection_criteria(primary())
            .read_concern(ReadConcern::local())
            .write_concern(durable())
            .build();
        let jobs = database.collection_with_options(schema::JOBS, options);
        Ok(Self(Arc::new(Shared {
            client,
            database,
            jobs,
            address,
            clock,
            ids: IdSource::new(),
            ear: Ear::new(),
            event_ear: EventEar::new(),
            openings: Openings::new(),
            frontiers: Frontiers::default(),
        })))
    }

    /// The driver's client, for the program's own collections and sessions.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// The database in which the jobs are.
    pub fn database(&self) -> &Database {
        &self.0.database
    }

    pub(crate) fn jobs(&self) -> &Collection<RawDocumentBuf> {
        &self.0.jobs
    }

    pub(crate) fn address_text(&self) -> &str {
        &self.0.address
    }

    pub(crate) fn clock(&self) -> &ServerClock {
        &self.0.clock
    }

    pub(crate) fn error(&self, error: DriverError) -> Error {
        error::translate(&self.0.address, error)
    }

    pub(crate) fn frontiers(&self) -> &Frontiers {
        &self.0.frontiers
    }

    pub(crate) fn event_ear(&self) -> &EventEar {
        &self.0.event_ear
    }

    /// Jobs were inserted, of which these are the first of their kinds.
    fn came(&self, first: impl IntoIterator<Item = (String, Place)>) {
        for (kind, place) in first {
            self.frontiers().came(&kind, place);
        }
    }

    /// Tells all in this process who wait for work that jobs have been changed.
    pub(crate) fn ring(&self, news: News) {
        if news.ready {
            self.frontiers().forget();
        }
        self.0.ear.bell.ring(news);
    }
}

impl fmt::Debug for MongoStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MongoStore").field(&self.0.address).finish()
    }
}

pub(crate) fn primary() -> SelectionCriteria {
    SelectionCriteria::ReadPreference(ReadPreference::Primary)
}

/// When a write counts: a majority has it in its journal, also where the set does not say so itself
/// and where there is only one server.
pub(crate) fn durable() -> WriteConcern {
    let mut concern = WriteConcern::majority();
    concern.journal = Some(true);
    concern
}

#[async_trait]
impl JobStore for MongoStore {
    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    fn next_id(&self) -> ObjectId {
        self.0.ids.next(self.now())
    }

    fn address(&self) -> String {
        self.0.address.clone()
    }

    async fn insert(&self, jobs: Vec<JobDocument>) -> Result<Vec<Insertion>> {
        let inserting = self.0.ear.inserting(&jobs);
        let first = first_of_kinds(&jobs);
        let insertions = self.insert_jobs(jobs).await?;
        self.came(first);
        inserting.done();
        Ok(insertions)
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claimed> {
        self.event_ear().claims();
        self.claim_jobs(request).await
    }

    async fn settle(&self, patches: Vec<Patch>) -> Result<Vec<Settled>> {
        let news = News::of_patches(&patches);
        let ready = patches.iter().filter(|patch| News::of_patch(patch).ready);
        let first_back = ready.map(|patch| patch.id).min();
        let settled = self.settle_patches(patches).await;
        if let Some(first) = first_back {
            self.frontiers().came_back(first);
        }
        self.0.ear.bell.ring(news);
        settled
    }

    async fn update(&self, patch: Patch) -> Result<Result<JobDocument, Refusal>> {
        let news = News::of_patch(&patch);
        let updated = self.update_job(patch).await;
        self.ring(news);
        updated
    }

    async fn update_and_insert(
        &self,
        patch: Patch,
        jobs: Vec<JobDocument>,
    ) -> Result<Result<Vec<Insertion>, Refusal>> {
        let news = News::of_patch(&patch);
        let inserting = self.0.ear.inserting(&jobs);
        let first = first_of_kinds(&jobs);
        let written = self.update_and_insert_jobs(patch, jobs).await?;
        self.came(first);
        inserting.done();
        self.ring(news);
        Ok(written)
    }

    async fn promote(&self, limit: usize) -> Result<u64> {
        self.promote_jobs(limit).await
    }

    async fn release(&self, hold: &str, count: usize) -> Result<u64> {
        self.release_jobs(hold, count).await
    }

    async fn next_held(&self, after: &str) -> Result<Option<JobDocument>> {
        self.next_held_job(after).await
    }

    async fn claims_of(
        &self,
        server: ObjectId,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<JobDocument>> {
        self.claimed_by(server, after, limit).await
    }

    async fn next_claim(&self, after: &str) -> Result<Option<JobDocument>> {
        self.next_claimed(after).await
    }

    async fn next_kind(&self, after: &str) -> Result<Option<String>> {
        self.next_ready_kind(after).await
    }

    async fn get(&self, id: ObjectId) -> Result<Option<JobDocument>> {
        self.job(id).await
    }

    async fn find(&self, query: &Query) -> Result<Vec<JobDocument>> {
        self.find_jobs(query).await
    }

    async fn count(&self, filter: &Filter, read_from: ReadFrom) -> Result<u64> {
        self.count_jobs(filter, read_from).await
    }

    async fn count_by_state(
        &self,
        filter: &Filter,
        read_from: ReadFrom,
    ) -> Result<BTreeMap<State, u64>> {
        self.count_jobs_by_state(filter, read_from).await
    }

    async fn delete(&self, filter: &Filter) -> Result<u64> {
        self.delete_jobs(filter).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        self.next_due_job().await
    }

    fn bells(&self) -> Bells {
        self.0.ear.bell.rung()
    }

    async fn work_ready(&self, known: Bells) -> Bells {
        self.0.ear.wait(&self.0.jobs, known).await
    }

    fn hears_others(&self) -> bool {
        self.0.ear.hears_others()
    }

    fn openings(&self) -> &Openings {
        &self.0.openings
    }
}
