//! Hearing what other processes do: a file beside the database that is touched after a write that
//! makes work ready or schedules it, and watched by those who wait.
//!
//! `SQLite` itself tells other processes nothing. To ask it whether the file has changed, 100 times
//! a second, takes about half a percent of a core in each idle process; the system tells of a touched
//! file at once and costs nothing until then. The write-ahead log would do as little: it is written
//! before what it tells can be read.
//!
//! The file has no meaning. It may be deleted at any time; then it is made again.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher, event::ModifyKind};
use parking_lot::Mutex;
use rocketjob_core::{Bell, Bells, News};
use tokio::task::spawn_blocking;

/// The file is touched this seldom under load: each touch wakes every process that listens.
const REST: Duration = Duration::from_millis(2);

/// What the name of the file for jobs ends with.
pub(crate) const JOBS: &str = "-bell";
/// What the name of the file for events ends with: a busy queue must not wake those who wait for
/// them.
pub(crate) const EVENTS: &str = "-events-bell";

/// The bell of one store, in this process and through the file.
#[derive(Debug)]
pub(crate) struct Ear {
    bell: Arc<Bell>,
    database: PathBuf,
    file: PathBuf,
    hears: Arc<AtomicBool>,
    /// Nobody listens in a process that only writes.
    watcher: Mutex<Option<RecommendedWatcher>>,
    touched: Mutex<Touched>,
}

#[derive(Debug, Default)]
struct Touched {
    last: Option<Instant>,
    /// There is more to tell than the last touch has told.
    is_due: bool,
}

impl Ear {
    /// The bell of the database at `path`; `suffix` makes the name of its file.
    pub(crate) fn new(path: &Path, suffix: &str) -> Self {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        Self {
            bell: Arc::default(),
            database: path.to_owned(),
            file: file.into(),
            hears: Arc::default(),
            watcher: Mutex::default(),
            touched: Mutex::default(),
        }
    }

    pub(crate) fn rung(&self) -> Bells {
        self.bell.rung()
    }

    pub(crate) fn hears_others(&self) -> bool {
        self.hears.load(Ordering::Relaxed)
    }

    /// Waits for the bell, and listens to other processes from now on.
    pub(crate) async fn wait(self: &Arc<Self>, known: Bells) -> Bells {
        self.listen().await;
        self.bell.wait(known).await
    }

    /// As [`wait`](Self::wait), for a file of which every touch tells the same.
    pub(crate) async fn wait_for_ready(self: &Arc<Self>, known: u64) -> u64 {
        self.listen().await;
        self.bell.wait_for_ready(known).await
    }

    async fn listen(self: &Arc<Self>) {
        if !self.hears_others() {
            let this = Arc::clone(self);
            // Whatever becomes of it: who waits also polls.
            let _ = spawn_blocking(move || this.start_watching()).await;
        }
    }

    /// Tells others in this process, and those in other processes now or at the next
    /// [`rest`](Self::rest). Blocks.
    pub(crate) fn ring(&self, news: News) {
        if !news.is_any() {
            return;
        }
        self.bell.ring(news);
        let mut touched = self.touched.lock();
        touched.is_due = true;
        if touched.last.is_none_or(|last| last.elapsed() >= REST) {
            self.touch(&mut touched);
        }
    }

    /// Tells what is still to be told, once that may be done. Blocks.
    pub(crate) fn rest(&self) {
        let last = {
            let touched = self.touched.lock();
            touched.last.filter(|_| touched.is_due)
        };
        let Some(last) = last else { return };
        thread::sleep(REST.saturating_sub(last.elapsed()));
        let mut touched = self.touched.lock();
        if touched.is_due {
            self.touch(&mut touched);
        }
    }

    fn touch(&self, touched: &mut Touched) {
        touched.is_due = false;
        touched.last = Some(Instant::now());
        // One that cannot be written is not watched either.
        if let Err(error) = self.open().and_then(|mut file| file.write_all(b"!")) {
            tracing::debug!(%error, file = %self.file.display(), "cannot ring for other processes");
        }
    }

    /// The file, by its name each time, since it may have been deleted.
    fn open(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true);
        match options.open(&self.file) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let file = options.create(true).truncate(false).open(&self.file)?;
                // Whoever may write the database may ring.
                let permissions = fs::metadata(&self.database)?.permissions();
                file.set_permissions(permissions)?;
                Ok(file)
            }
            opened => opened,
        }
    }

    /// Watches the file, and rings for what was missed until then. Blocks.
    fn start_watching(&self) {
        let mut watcher = self.watcher.lock();
        if self.hears_others() {
            return;
        }
        // The old one ends before the new one begins.
        *watcher = None;
        match self.watch() {
            Ok(new) => {
                *watcher = Some(new);
                self.hears.store(true, Ordering::Relaxed);
                self.bell.ring(ANYTHING);
            }
            Err(error) => tracing::debug!(
                %error,
                file = %self.file.display(),
                "cannot hear other processes: their jobs are found by looking for them"
            ),
        }
    }

    fn watch(&self) -> notify::Result<RecommendedWatcher> {
        self.open().map_err(notify::Error::io)?;
        let (bell, hears) = (Arc::clone(&self.bell), Arc::clone(&self.hears));
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                let is_gone = match event.map(|event| event.kind) {
                    Ok(EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_)) | Err(_) => {
                        true
                    }
                    Ok(EventKind::Modify(_) | EventKind::Any | EventKind::Other) => false,
                    Ok(EventKind::Access(_) | EventKind::Create(_)) => return,
                };
                if is_gone {
                    hears.store(false, Ordering::Relaxed);
                }
                bell.ring(ANYTHING);
            })?;
        watcher.watch(&self.file, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    }
}

/// What a touch tells: anything.
const ANYTHING: News = News {
    ready: true,
    waiting: true,
};
