//! The storage traits: the operations of the domain that a store makes durable and atomic.
//!
//! Policy (when to retry, which limit holds, what a claim's outcome means) is computed in this
//! crate and passed in; a store only keeps it. All methods are mandatory. Each comment states the
//! atomicity that the method promises, and `rocketjob-testing` has a named test for each promise.
//!
//! An error of any method leaves it open whether the operation happened. Every method may be
//! repeated with the same arguments: `insert` by the ids, writes by their guards.

use std::{collections::BTreeMap, fmt::Debug, ops::RangeInclusive};

use async_trait::async_trait;
use bson::oid::ObjectId;
use jiff::Timestamp;

use crate::{
    bell::Bells,
    change::{Insertion, Patch, Refusal, Settled},
    claim::{ClaimRequest, Claimed, SetAside},
    document::JobDocument,
    error::Result,
    event::{Event, EventCursor},
    filter::{Filter, Query, ReadFrom},
    inspection::Inspection,
    job_set::JobSet,
    opening::Openings,
    server::{ServerDocument, ServerState},
    state::State,
    stored_limit::StoredLimit,
};

/// A store of jobs, limits, servers and events. `Store` holds any of them.
pub trait Storage: JobStore + LimitStore + ServerStore + EventStore + InspectStore {}

impl<S: JobStore + LimitStore + ServerStore + EventStore + InspectStore> Storage for S {}

/// Tells what a store is and whether it is fit for work.
#[async_trait]
pub trait InspectStore: Send + Sync {
    /// Looks at the store as it stands, for a server that starts and for people who look for a
    /// fault.
    async fn inspect(&self) -> Result<Inspection>;

    /// How many jobs are in `set`, or `at_most` if there are as many or more. Costs no more than
    /// `at_most` jobs do, whatever the number of all. Reads only; from the primary.
    async fn count_set(&self, set: &JobSet, at_most: u64) -> Result<u64>;

    /// The first queued jobs by (priority, id) of this kind and of these priorities that a worker
    /// may take, up to `at_most`. Costs the same whatever the number of jobs. Reads only; from the
    /// primary.
    async fn first_ready(
        &self,
        kind: &str,
        priorities: RangeInclusive<i64>,
        at_most: usize,
    ) -> Result<Vec<JobDocument>>;

    /// Up to `at_most` documents that cannot be read as jobs, and failed jobs that their structs
    /// could not be read from, each with what is wrong with it.
    ///
    /// They are looked for among the last [`COUNTED`](crate::COUNTED) failed jobs and among the
    /// first and last thousand of all: not all of them need be found. Reads only.
    async fn undecodable(&self, at_most: usize) -> Result<Vec<SetAside>>;
}

/// Keeps jobs.
#[async_trait]
pub trait JobStore: Debug + Send + Sync + 'static {
    /// The store's time now, in whole milliseconds: every due time and time stamp is judged by it.
    fn now(&self) -> Timestamp;

    /// The next id of this producer: first in, first out.
    fn next_id(&self) -> ObjectId;

    /// What this store is, for logs and people; never contains a password.
    fn address(&self) -> String;

    /// Adds jobs, and says for each what became of it, in the same order.
    ///
    /// Atomic for each job, together with its unique keys: of any number of concurrent inserts
    /// with one key, one wins while the key is in use. Not atomic as a group. A job whose `_id`
    /// exists already is not written again and reported as existing with its own id.
    async fn insert(&self, jobs: Vec<JobDocument>) -> Result<Vec<Insertion>>;

    /// Takes the next jobs for the workers of one server.
    ///
    /// The jobs are those that are ready, queued, due, of the given kinds and match the filter, by
    /// (priority, id) behind the first `skip`. Each is set to running in one atomic step with its
    /// token, worker, `started_at` and slots: two concurrent calls never return the same job, and
    /// no limit is exceeded even for a moment. A job that a limit does not let run is held (see
    /// [`Limit::wait`](crate::Limit::wait)) and stays queued; where time lets it go on, the stored
    /// limit says when. A job whose limits cannot be told is failed. `ready` never counts without `state`
    /// and `run_at`. An undecodable document is failed and reported, and nothing else suffers.
    /// Costs the same whatever the length of the queue.
    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claimed>;

    /// Writes outcomes and other changes of claimed jobs, and says for each what became of it, in
    /// the same order.
    ///
    /// Atomic for each patch: its guard is checked and its change made in one step, durably when
    /// the call returns. Not atomic as a group. A slot is free as soon as the state is no longer
    /// running. A patch that was made by an earlier try with the same claim is accepted; so may be,
    /// among several deletions, that of a job which was gone before, and among several transitions
    /// without a claim, one that somebody else made at the same moment.
    async fn settle(&self, patches: Vec<Patch>) -> Result<Vec<Settled>>;

    /// Makes one change and returns the job after it (before it, for a deletion).
    ///
    /// Atomic and durable like [`settle`](Self::settle). The inner result says why it was refused.
    async fn update(&self, patch: Patch) -> Result<Result<JobDocument, Refusal>>;

    /// Makes one change and adds jobs because of it, and says of each job what became of it, as
    /// [`insert`](Self::insert) does. The inner result says why the change was refused.
    ///
    /// A job whose id exists or whose key is in use is left out; the change is made all the same.
    /// When the guard does not hold, nothing is added.
    ///
    /// Atomic and durable, but for MongoDB: there the jobs are added first, at the latest a tenth of a
    /// second after the look at the guard, by the server's clock. A crash in between leaves them there
    /// without the change, and of two who do it at the same time both may add theirs: so their ids are
    /// to be the same for whoever does it.
    async fn update_and_insert(
        &self,
        patch: Patch,
        jobs: Vec<JobDocument>,
    ) -> Result<Result<Vec<Insertion>, Refusal>>;

    /// Makes scheduled jobs that have fallen due ready, and adopts queued jobs that the original
    /// wrote, which carry no mark at all. Says how many were touched, at most `limit`.
    ///
    /// Atomic for each job; any number of servers may do it at the same time. A held job whose
    /// `run_at` was cleared counts as due.
    async fn promote(&self, limit: usize) -> Result<u64>;

    /// Makes up to `count` queued jobs that are held for `hold` ready, by (priority, id), and says
    /// how many. Atomic for each job.
    async fn release(&self, hold: &str, count: usize) -> Result<u64>;

    /// The first queued job, by (reason, priority, id), that is held for a reason behind `after` in
    /// the order of text: from reason to reason, whatever the number of jobs held for each. Reads
    /// only; from the primary.
    async fn next_held(&self, after: &str) -> Result<Option<JobDocument>>;

    /// Running jobs that are claimed by the server `server`, in the order of their ids after
    /// `after`, at most `limit`. Reads only; from the primary.
    async fn claims_of(
        &self,
        server: ObjectId,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<JobDocument>>;

    /// The first running job, in the order of the text of the claims, whose claim's token comes
    /// behind `after`; see [`ClaimToken::end`](crate::ClaimToken::end) to go from server to server.
    /// Costs the same whatever the number of claims. Reads only; from the primary.
    async fn next_claim(&self, after: &str) -> Result<Option<JobDocument>>;

    /// The first kind behind `after`, in the order of the text, of which a job is ready. Costs the
    /// same whatever the number of jobs.
    async fn next_kind(&self, after: &str) -> Result<Option<String>>;

    /// The job with this id. From the primary.
    ///
    /// # Errors
    /// [`Error::Undecodable`](crate::Error::Undecodable) when its envelope cannot be read.
    async fn get(&self, id: ObjectId) -> Result<Option<JobDocument>>;

    /// The jobs that a query asks for. Undecodable documents are left out.
    async fn find(&self, query: &Query) -> Result<Vec<JobDocument>>;

    /// How many jobs meet `filter`.
    async fn count(&self, filter: &Filter, read_from: ReadFrom) -> Result<u64>;

    /// How many jobs that meet `filter` are in each state; states without any are left out.
    async fn count_by_state(
        &self,
        filter: &Filter,
        read_from: ReadFrom,
    ) -> Result<BTreeMap<State, u64>>;

    /// Deletes the jobs that meet `filter`, except running ones, and says how many. Atomic for
    /// each job.
    async fn delete(&self, filter: &Filter) -> Result<u64>;

    /// When the next scheduled job of any kind falls due, or the next stored limit; a job whose
    /// `run_at` was cleared is due now. Costs the same whatever the number of jobs. Reads only; from the primary.
    async fn next_due(&self) -> Result<Option<Timestamp>>;

    /// How often the bell has rung so far. Costs nothing: no request is made.
    ///
    /// It rings for work that becomes ready and for jobs that are to become so, in this process and,
    /// while [`hears_others`](Self::hears_others), in all others. Who asks for the bells first and
    /// for work then, and waits for further bells when there is none, misses nothing that is heard.
    fn bells(&self) -> Bells;

    /// Returns when the bell has rung otherwise than `known`, with how often by then, and otherwise
    /// never. A bell may be early, late, doubled or not heard at all: who waits also polls.
    ///
    /// A store may listen to other processes only while somebody waits. Once it listens again it
    /// rings, for whatever was missed.
    async fn work_ready(&self, known: Bells) -> Bells;

    /// Whether the bell rings now for what other processes do. It rings when that ends, so that
    /// whoever waits can go on with looking more often.
    fn hears_others(&self) -> bool;

    /// Where the servers of this process offer their idle workers to those who create jobs through
    /// this store.
    fn openings(&self) -> &Openings;
}

/// Keeps what must be known of limits besides the places that running jobs take.
#[async_trait]
pub trait LimitStore: Send + Sync {
    /// What is kept of the limit `key`. From the primary.
    async fn limit(&self, key: &str) -> Result<Option<StoredLimit>>;

    /// Writes `limit` in the place of the one with the version `previous`, or as the first one, and
    /// says whether it did: not when another version stands there. Atomic and durable.
    async fn swap_limit(&self, previous: Option<ObjectId>, limit: &StoredLimit) -> Result<bool>;

    /// Limits that have fallen due, by time, at most `limit`. From the primary.
    async fn due_limits(&self, limit: usize) -> Result<Vec<StoredLimit>>;

    /// Whether any job of this kind runs, by exact name. Costs no more than there are running jobs.
    /// From the primary.
    async fn any_running(&self, kind: &str) -> Result<bool>;
}

/// Keeps server documents.
#[async_trait]
pub trait ServerStore: Send + Sync {
    /// Registers a server.
    ///
    /// # Errors
    /// [`Error::ServerNameTaken`](crate::Error::ServerNameTaken) when another document has the
    /// name; of two concurrent calls with one name, one wins.
    async fn insert_server(&self, server: &ServerDocument) -> Result<()>;

    /// Writes a sign of life: the store's time, the number of workers, the counter grown by one.
    /// Returns the document after it, or `None` when it is gone: then the server has been declared
    /// dead. Atomic.
    async fn heartbeat(&self, id: ObjectId, workers: u32) -> Result<Option<ServerDocument>>;

    /// Changes a server's state when it is in one of `from`, and says whether it did. Atomic.
    async fn set_server_state(
        &self,
        id: ObjectId,
        from: &[ServerState],
        to: ServerState,
    ) -> Result<bool>;

    /// Changes how many workers a server should have, and says whether it exists. Atomic.
    async fn set_max_workers(&self, id: ObjectId, max_workers: u32) -> Result<bool>;

    /// All servers, in the order of their ids, with those that the original registered.
    async fn servers(&self) -> Result<Vec<ServerDocument>>;

    /// Removes a server's document, and says whether it was there. Its claims are not touched.
    async fn remove_server(&self, id: ObjectId) -> Result<bool>;

    /// Removes the document of a server whose heartbeat counter still stands at `counter` (0 when
    /// it has none), and says whether it did: one that has beaten meanwhile stays. Atomic. Its
    /// claims are not touched.
    async fn declare_dead(&self, id: ObjectId, counter: u64) -> Result<bool>;
}

/// Carries events.
#[async_trait]
pub trait EventStore: Send + Sync {
    /// Publishes an event: subscribers of all processes get it, whatever has become of the events
    /// before it, and of the place where they are kept. Atomic.
    async fn publish(&self, event: &Event) -> Result<()>;

    /// The place behind all events so far: where a new subscriber begins.
    async fn event_end(&self) -> Result<EventCursor>;

    /// Events that were published behind `after`, in the order of publication as far as the store
    /// knows it, at most `limit`, with the place behind them. No event is left out that is still
    /// kept, also when those that were read have been removed; one may come twice.
    async fn events(&self, after: &EventCursor, limit: usize) -> Result<(Vec<Event>, EventCursor)>;

    /// How often the bell for events has rung so far. Costs nothing: no request is made.
    ///
    /// Who asks for the bells first and for events then, and waits for further bells when there is
    /// none, misses nothing that is heard.
    fn event_bells(&self) -> u64;

    /// Returns when the bell for events has rung otherwise than `known`, with how often by then. It
    /// may be early, late, doubled or not heard at all: who waits also polls.
    ///
    /// A store may listen to other processes only from when somebody waits. Once it listens it
    /// rings, for whatever was missed.
    async fn event_published(&self, known: u64) -> u64;

    /// Whether the bell for events rings now for what other processes publish. It rings when that
    /// ends, so that whoever waits can go on with looking more often.
    fn hears_events(&self) -> bool;
}
