//! Connections to the file: how one is opened, and those that read.

use std::{
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::{
    error::{Failure, broken_off},
    options::Options,
    rest,
};
use rocketjob_core::{Error, Result};

/// How many reads happen at the same time; more wait for their turn.
const READERS: usize = 4;
/// Statements that a connection keeps prepared: all of the hot ones.
const STATEMENTS: usize = 128;
/// How long a statement that finds the file locked sleeps before it looks again.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(1);

/// Opens a connection to the file at `path`.
pub(crate) fn open(path: &PathBuf, options: &Options) -> Result<Connection, Failure> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    #[cfg(test)]
    crate::watch::watch(&mut connection, path)?;
    wait_while_busy(&mut connection, options.busy_timeout)?;
    use_wal(&connection, options.busy_timeout)?;
    connection.pragma_update(None, "synchronous", options.synchronous.as_str())?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    rest::register(&connection)?;
    Ok(connection)
}

/// Lets a statement wait for its turn, up to `patience`.
///
/// `SQLite`'s own way of waiting sleeps ever longer, up to 100 ms, while a busy process leaves the
/// file alone for microseconds only: whoever looks that seldom may wait for a very long time.
fn wait_while_busy(connection: &mut Connection, patience: Duration) -> rusqlite::Result<()> {
    let mut begun = Instant::now();
    connection.busy_handler(Some(move |tries: i32| {
        if tries == 0 {
            begun = Instant::now();
        }
        let is_patient = begun.elapsed() < patience;
        if is_patient {
            thread::sleep(LOOK_AGAIN_AFTER);
        }
        is_patient
    }))
}

/// Turns the write-ahead log on, which lets readers and one writer work side by side.
///
/// `SQLite` does not wait for others in this one step, so it is repeated here.
fn use_wal(connection: &Connection, patience: Duration) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        let mode = connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
        match mode {
            Ok(mode) if mode.eq_ignore_ascii_case("wal") => return Ok(()),
            Ok(mode) => {
                return Err(Failure::Unexpected(format!(
                    "the file system does not support a write-ahead log (journal mode {mode}): keep the file on a local disk"
                )));
            }
            Err(error) if is_busy(&error) && begun.elapsed() < patience => {
                thread::sleep(LOOK_AGAIN_AFTER);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
}

/// Connections that only read, each from a snapshot, without waiting for the writer.
#[derive(Debug)]
pub(crate) struct Readers {
    path: PathBuf,
    options: Options,
    idle: Mutex<Vec<Connection>>,
    places: Arc<Semaphore>,
}

impl Readers {
    pub(crate) fn new(path: PathBuf, options: Options) -> Self {
        Self {
            path,
            options,
            idle: Mutex::default(),
            places: Arc::new(Semaphore::new(READERS)),
        }
    }

    /// Runs `act` on a thread that may block, in one read transaction.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        address: &str,
        act: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let place = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .map_err(|error| broken_off(address, error))?;
        let readers = Arc::clone(self);
        spawn_blocking(move || {
            // Held until the connection is back: then the next reader finds it.
            let _place = place;
            readers.run(act)
        })
        .await
        .map_err(|error| broken_off(address, error))?
        .map_err(|failure: Failure| failure.at(address))
    }

    fn run<T>(&self, act: impl FnOnce(&Connection) -> Result<T, Failure>) -> Result<T, Failure> {
        let idle = self.idle.lock().pop();
        let connection = if let Some(connection) = idle {
            connection
        } else {
            let connection = open(&self.path, &self.options)?;
            connection.pragma_update(None, "query_only", true)?;
            connection
        };
        // One that fails here is dropped with its transaction, and not used again.
        connection.prepare_cached("BEGIN")?.execute([])?;
        let result = act(&connection)?;
        connection.prepare_cached("COMMIT")?.execute([])?;
        self.idle.lock().push(connection);
        Ok(result)
    }
}

/// Opens the connection that writes, on a thread that may block, and brings the layout up to date.
pub(crate) async fn open_writer(path: PathBuf, options: Options) -> Result<Connection> {
    let shown = path.display().to_string();
    spawn_blocking(move || {
        let connection =
            open(&path, &options).map_err(|failure| crate::error::cannot_open(&path, failure))?;
        crate::schema::migrate(&connection, &path)?;
        Ok(connection)
    })
    .await
    .map_err(|error: tokio::task::JoinError| {
        Error::Storage(format!("opening `{shown}`: {error}").into())
    })?
}
