//! For tests: which statements the connections to a file run, and how much work they are.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use rusqlite::{
    Connection,
    trace::{TraceEvent, TraceEventCodes},
};

static WATCHES: LazyLock<Mutex<HashMap<PathBuf, Arc<Watch>>>> = LazyLock::new(Mutex::default);

/// What happened on the connections to one file.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// How often each statement was begun.
    runs: Mutex<BTreeMap<String, u64>>,
    /// Instructions of SQLite's virtual machine.
    steps: AtomicU64,
}

impl Watch {
    pub(crate) fn of(path: &Path) -> Arc<Self> {
        Arc::clone(WATCHES.lock().entry(path.to_owned()).or_default())
    }

    /// Forgets what happened so far.
    pub(crate) fn reset(&self) {
        self.runs.lock().clear();
        self.steps.store(0, Ordering::Relaxed);
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    pub(crate) fn runs(&self, sql: &str) -> u64 {
        self.runs.lock().get(sql).copied().unwrap_or(0)
    }

    pub(crate) fn statements(&self) -> Vec<String> {
        self.runs.lock().keys().cloned().collect()
    }
}

/// From now on notes what happens on `connection`.
pub(crate) fn watch(connection: &mut Connection, path: &Path) -> rusqlite::Result<()> {
    let watch = Watch::of(path);
    let counter = Arc::clone(&watch);
    connection.progress_handler(
        1,
        Some(move || {
            counter.steps.fetch_add(1, Ordering::Relaxed);
            false
        }),
    )?;
    connection.trace_v2(
        TraceEventCodes::SQLITE_TRACE_STMT,
        Some(move |event: TraceEvent<'_>| {
            if let TraceEvent::Stmt(_, sql) = event {
                *watch.runs.lock().entry(sql.to_owned()).or_default() += 1;
            }
        }),
    )
}
