//! The statements of the hot paths, and the pieces that statements and indexes have in common.
//!
//! A partial index serves a statement only if the statement repeats its condition word for word,
//! so both are made of the same pieces. `INDEXED BY` turns a plan that went wrong into an error,
//! whatever statistics somebody may have gathered on the file.

/// The columns in the order of [`Row`](crate::row::Row).
macro_rules! columns {
    () => {
        "id, kind, state, priority, run_at, created_at, started_at, completed_at, worker_name, \
         claim, ready, hold, unique_key, unfinished_key, sub_state, successors, misfit, rest"
    };
}

/// A job without a priority has the default one in the order of claims.
macro_rules! place {
    () => {
        "ifnull(priority, 50)"
    };
}

/// Work that may be handed out, as far as the marks tell.
macro_rules! is_ready {
    () => {
        "ready = 1 AND (state = 'queued' OR (state = 'running' AND sub_state = 'processing'))"
    };
}

/// Queued jobs among them.
macro_rules! is_queued {
    () => {
        "state = 'queued' AND ready = 1"
    };
}

/// Queued jobs that may not be handed out.
macro_rules! is_waiting {
    () => {
        "state = 'queued' AND ready IS NOT 1"
    };
}

macro_rules! is_scheduled {
    () => {
        "state = 'queued' AND hold = 'scheduled'"
    };
}

/// Or instead of in: the planner proves `a` from `a or b`, and nothing from a list.
macro_rules! is_stopped {
    () => {
        "(state = 'aborted' OR state = 'completed' OR state = 'failed' OR state = 'paused')"
    };
}

/// The table of events, which is made again when somebody dropped it.
macro_rules! events {
    () => {
        "CREATE TABLE events (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        id BLOB NOT NULL UNIQUE,
        name TEXT NOT NULL,
        action TEXT,
        parameters BLOB NOT NULL,
        created_at INTEGER NOT NULL
    ) STRICT;"
    };
}

macro_rules! is_active {
    () => {
        "(state = 'queued' OR state = 'running')"
    };
}

macro_rules! is_unfinished {
    () => {
        "(state = 'failed' OR state = 'paused' OR state = 'queued' OR state = 'running')"
    };
}

macro_rules! select {
    ($($rest:expr),+) => {
        concat!("SELECT ", columns!(), " FROM jobs ", $($rest),+)
    };
}

/// Everything of schema version 1.
pub(crate) const CREATE: &str = concat!(
    "CREATE TABLE jobs (
        id BLOB NOT NULL PRIMARY KEY,
        kind TEXT,
        state TEXT,
        priority INTEGER,
        run_at INTEGER,
        created_at INTEGER,
        started_at INTEGER,
        completed_at INTEGER,
        worker_name TEXT,
        claim TEXT,
        ready INTEGER,
        hold TEXT,
        unique_key TEXT,
        unfinished_key TEXT,
        sub_state TEXT,
        successors INTEGER,
        misfit INTEGER,
        rest BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX jobs_ready ON jobs (kind, ",
    place!(),
    ", id, state) WHERE ",
    is_ready!(),
    ";
    CREATE INDEX jobs_waiting ON jobs (hold, ",
    place!(),
    ", id, ready) WHERE ",
    is_waiting!(),
    ";
    CREATE INDEX jobs_scheduled ON jobs (run_at, id) WHERE ",
    is_scheduled!(),
    ";
    CREATE INDEX jobs_running ON jobs (substr(claim, 1, 25), id) WHERE state = 'running';
    CREATE INDEX jobs_stopped ON jobs (state, completed_at, id) WHERE ",
    is_stopped!(),
    ";
    CREATE UNIQUE INDEX jobs_unique ON jobs (unique_key) WHERE unique_key IS NOT NULL AND ",
    is_active!(),
    ";
    CREATE UNIQUE INDEX jobs_unfinished ON jobs (unfinished_key)
        WHERE unfinished_key IS NOT NULL AND ",
    is_unfinished!(),
    ";
    CREATE INDEX jobs_successors ON jobs (successors, id) WHERE successors = 1;
    CREATE INDEX jobs_misfit ON jobs (misfit, id) WHERE misfit = 1;
    CREATE TABLE slots (
        key TEXT NOT NULL,
        number INTEGER NOT NULL,
        job BLOB NOT NULL,
        PRIMARY KEY (key, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE servers (
        id BLOB NOT NULL PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        max_workers INTEGER NOT NULL,
        started_at INTEGER,
        state TEXT NOT NULL,
        updated_at INTEGER,
        workers INTEGER,
        counter INTEGER,
        version TEXT NOT NULL,
        definitions BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    ",
    events!(),
);

/// Makes the table of events again that somebody dropped.
pub(crate) const CREATE_EVENTS: &str = events!();

/// What version 2 changes: the claims in the order of their tokens, which leads from one server to
/// the next, whatever stands in a token.
pub(crate) const CLAIMS_BY_TOKEN: &str = "DROP INDEX jobs_running;
    CREATE INDEX jobs_claimed ON jobs (claim, id) WHERE state = 'running';";

/// What version 3 adds: for how long each server may be silent, in milliseconds.
pub(crate) const LEASES: &str = "ALTER TABLE servers ADD COLUMN lease INTEGER";

/// What version 4 adds: what is kept of limits.
pub(crate) const LIMITS: &str = "CREATE TABLE limits (
        key TEXT NOT NULL PRIMARY KEY,
        version BLOB NOT NULL,
        next INTEGER,
        expires_at INTEGER,
        document BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX limits_next ON limits (next) WHERE next IS NOT NULL;
    CREATE INDEX limits_expires ON limits (expires_at) WHERE expires_at IS NOT NULL;";

/// One limit: key.
pub(crate) const LIMIT: &str = "SELECT document FROM limits WHERE key = ?1";

/// The first version of a limit: key, version, next, expiry, document.
pub(crate) const INSERT_LIMIT: &str = "INSERT OR IGNORE INTO limits \
     (key, version, next, expires_at, document) VALUES (?1, ?2, ?3, ?4, ?5)";

/// Another version of a limit: key, version, next, expiry, document, version before.
pub(crate) const UPDATE_LIMIT: &str = "UPDATE limits SET version = ?2, next = ?3, \
     expires_at = ?4, document = ?5 WHERE key = ?1 AND version = ?6";

/// Limits that have fallen due: time, how many.
pub(crate) const DUE_LIMITS: &str = "SELECT document FROM limits INDEXED BY limits_next \
     WHERE next <= ?1 ORDER BY next LIMIT ?2";

/// When the first limit falls due.
pub(crate) const NEXT_LIMIT: &str =
    "SELECT next FROM limits INDEXED BY limits_next WHERE next IS NOT NULL ORDER BY next LIMIT 1";

/// Limits of which nothing needs to be kept: time.
pub(crate) const FORGET_LIMITS: &str =
    "DELETE FROM limits WHERE expires_at IS NOT NULL AND expires_at <= ?1";

/// A running job of a kind: kind.
pub(crate) const RUNNING: &str =
    "SELECT 1 FROM jobs INDEXED BY jobs_claimed WHERE state = 'running' AND kind = ?1 LIMIT 1";

/// The first ready jobs of one kind: kind, time, how many.
pub(crate) const CLAIM: &str = select!(
    "INDEXED BY jobs_ready WHERE kind = ?1 AND ",
    is_ready!(),
    " AND (run_at IS NULL OR run_at <= ?2 OR state = 'running') ORDER BY ",
    place!(),
    ", id LIMIT ?3"
);

/// The ready jobs of one kind behind a place: kind, time, how many, priority, id.
pub(crate) const CLAIM_BEHIND: &str = select!(
    "INDEXED BY jobs_ready WHERE kind = ?1 AND ",
    is_ready!(),
    " AND (run_at IS NULL OR run_at <= ?2 OR state = 'running') AND (",
    place!(),
    ", id) > (?4, ?5) ORDER BY ",
    place!(),
    ", id LIMIT ?3"
);

/// When the first scheduled job falls due.
pub(crate) const NEXT_DUE: &str = concat!(
    "SELECT run_at FROM jobs INDEXED BY jobs_scheduled WHERE ",
    is_scheduled!(),
    " ORDER BY run_at LIMIT 1"
);

/// Scheduled jobs whose time was taken away: how many.
pub(crate) const TIMELESS: &str = select!(
    "INDEXED BY jobs_scheduled WHERE ",
    is_scheduled!(),
    " AND run_at IS NULL LIMIT ?1"
);

/// Scheduled jobs that have fallen due: how many, time.
pub(crate) const DUE: &str = select!(
    "INDEXED BY jobs_scheduled WHERE ",
    is_scheduled!(),
    " AND run_at <= ?2 ORDER BY run_at LIMIT ?1"
);

/// Queued jobs without a mark: how many.
pub(crate) const UNMARKED: &str = select!(
    "INDEXED BY jobs_waiting WHERE ",
    is_waiting!(),
    " AND hold IS NULL LIMIT ?1"
);

/// Jobs that are held for one reason: reason, how many.
pub(crate) const HELD: &str = select!(
    "INDEXED BY jobs_waiting WHERE ",
    is_waiting!(),
    " AND hold = ?1 ORDER BY ",
    place!(),
    ", id LIMIT ?2"
);

/// The first job that is held for a reason behind another: reason, how many.
pub(crate) const NEXT_HELD: &str = select!(
    "INDEXED BY jobs_waiting WHERE ",
    is_waiting!(),
    " AND hold > ?1 ORDER BY hold, ",
    place!(),
    ", id LIMIT ?2"
);

/// The claims of one server: its prefix, the end of its claims, the id before, how many.
pub(crate) const CLAIMS_OF: &str = select!(
    "INDEXED BY jobs_claimed WHERE state = 'running' AND claim > ?1 AND claim < ?2 AND id > ?3 \
     ORDER BY id LIMIT ?4"
);

/// The first claims behind a token: token, how many.
pub(crate) const NEXT_CLAIM: &str = select!(
    "INDEXED BY jobs_claimed WHERE state = 'running' AND claim > ?1 ORDER BY claim, id LIMIT ?2"
);

/// The first kind behind another of which a job is ready: kind.
pub(crate) const NEXT_KIND: &str = concat!(
    "SELECT kind FROM jobs INDEXED BY jobs_ready WHERE kind > ?1 AND ",
    is_ready!(),
    " ORDER BY kind LIMIT 1"
);

/// One job: id.
pub(crate) const JOB: &str = select!("WHERE id = ?1");

/// A new job: all columns.
pub(crate) const INSERT: &str = concat!(
    "INSERT OR IGNORE INTO jobs (",
    columns!(),
    ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)"
);

/// A ready job begins to run: all columns as they were found, token, worker, time.
pub(crate) const START: &str = "UPDATE jobs SET state = 'running', claim = ?19, worker_name = ?20, \
     started_at = ?21, ready = NULL, hold = NULL WHERE id = ?1 AND kind IS ?2 AND +state IS ?3 \
     AND priority IS ?4 AND run_at IS ?5 AND created_at IS ?6 AND started_at IS ?7 \
     AND completed_at IS ?8 AND worker_name IS ?9 AND +claim IS ?10 AND +ready IS ?11 \
     AND +hold IS ?12 AND +unique_key IS ?13 AND +unfinished_key IS ?14 AND sub_state IS ?15 \
     AND +successors IS ?16 AND +misfit IS ?17 AND rest IS ?18";

/// The beginning of a change of a job, before the new values.
pub(crate) const UPDATE: &str = "UPDATE OR IGNORE jobs SET ";

/// A job that is held, has no place in a limit, and is what its columns say: id, token, worker.
macro_rules! where_claimed {
    () => {
        "WHERE id = ?1 AND +state = 'running' AND +claim = ?2 AND worker_name = ?3 \
         AND +misfit IS NULL AND NOT has_slots(rest)"
    };
}

/// The end of a change that its holder makes to such a job.
pub(crate) const WHERE_CLAIMED: &str = where_claimed!();

/// Such a job goes.
pub(crate) const DELETE_CLAIMED: &str = concat!("DELETE FROM jobs ", where_claimed!());

/// A job goes: id.
pub(crate) const DELETE: &str = "DELETE FROM jobs WHERE id = ?1";

/// Who holds a key among active jobs: key, a job that does not count.
pub(crate) const UNIQUE: &str = concat!(
    "SELECT id FROM jobs INDEXED BY jobs_unique WHERE unique_key = ?1 AND ",
    is_active!(),
    " AND id <> ?2"
);

/// Who holds a key among unfinished jobs: key, a job that does not count.
pub(crate) const UNFINISHED: &str = concat!(
    "SELECT id FROM jobs INDEXED BY jobs_unfinished WHERE unfinished_key = ?1 AND ",
    is_unfinished!(),
    " AND id <> ?2"
);

/// The places of a limit that are taken: key.
pub(crate) const SLOTS: &str = "SELECT number FROM slots WHERE key = ?1";

/// Takes a place: key, number, job.
pub(crate) const TAKE_SLOT: &str = "INSERT INTO slots (key, number, job) VALUES (?1, ?2, ?3)";

/// Who has a place: key, number, a job that does not count.
pub(crate) const SLOT_HOLDER: &str =
    "SELECT job FROM slots WHERE key = ?1 AND number = ?2 AND job <> ?3";

/// Frees a place: key, number, job.
pub(crate) const FREE_SLOT: &str = "DELETE FROM slots WHERE key = ?1 AND number = ?2 AND job = ?3";

macro_rules! count_up_to {
    ($($rest:expr),+) => {
        concat!("SELECT count(*) FROM (SELECT 1 FROM jobs ", $($rest),+, " LIMIT ?1)")
    };
}

/// Ready jobs: at most, kind, first priority, last priority.
pub(crate) const COUNT_READY: &str = count_up_to!(
    "INDEXED BY jobs_ready WHERE kind = ?2 AND ",
    is_queued!(),
    " AND ",
    place!(),
    " BETWEEN ?3 AND ?4"
);

/// Ready jobs before a place: at most, kind, first priority, last priority, id.
pub(crate) const COUNT_READY_BEFORE: &str = count_up_to!(
    "INDEXED BY jobs_ready WHERE kind = ?2 AND ",
    is_queued!(),
    " AND ",
    place!(),
    " >= ?3 AND (",
    place!(),
    ", id) < (?4, ?5)"
);

/// Jobs that are held for a reason: at most, reason.
pub(crate) const COUNT_HELD: &str = count_up_to!(
    "INDEXED BY jobs_waiting WHERE ",
    is_waiting!(),
    " AND hold = ?2"
);

/// Running jobs: at most.
pub(crate) const COUNT_RUNNING: &str =
    count_up_to!("INDEXED BY jobs_claimed WHERE state = 'running'");

/// Jobs in a state that is neither queued nor running: at most, state.
pub(crate) const COUNT_STOPPED: &str = count_up_to!(
    "INDEXED BY jobs_stopped WHERE ",
    is_stopped!(),
    " AND state = ?2"
);

/// Queued jobs, in two statements: at most.
pub(crate) const COUNT_HALVES: [&str; 2] = [
    count_up_to!("INDEXED BY jobs_ready WHERE ", is_queued!()),
    count_up_to!("INDEXED BY jobs_waiting WHERE ", is_waiting!()),
];

/// The first ready jobs of a kind: kind, first priority, last priority, how many.
pub(crate) const FIRST_READY: &str = select!(
    "INDEXED BY jobs_ready WHERE kind = ?1 AND ",
    is_ready!(),
    " AND state = 'queued' AND ",
    place!(),
    " BETWEEN ?2 AND ?3 ORDER BY ",
    place!(),
    ", id LIMIT ?4"
);

/// Rows of which the columns do not tell all: how many.
pub(crate) const MISFITS: &str =
    select!("INDEXED BY jobs_misfit WHERE misfit = 1 ORDER BY id LIMIT ?1");

/// The jobs that failed last: how many.
pub(crate) const LAST_FAILED: &str = select!(
    "INDEXED BY jobs_stopped WHERE ",
    is_stopped!(),
    " AND state = 'failed' ORDER BY completed_at DESC LIMIT ?1"
);

/// The first jobs of all: how many.
pub(crate) const FIRST_JOBS: &str = select!("ORDER BY id LIMIT ?1");

/// The last jobs of all: how many.
pub(crate) const LAST_JOBS: &str = select!("ORDER BY id DESC LIMIT ?1");

/// What queries select, before their own conditions.
pub(crate) const SELECT: &str = select!("");

/// The halves of the queued jobs, each of which an index counts.
pub(crate) const QUEUED_HALVES: [&str; 2] = [is_queued!(), is_waiting!()];
