//! How a file is opened, and where an address leads.

use std::{
    path::{self, Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rocketjob_core::{Clock, Error, Result, SystemClock};

use crate::store::SqliteStore;

/// What an address of this store begins with.
pub(crate) const SCHEME: &str = "sqlite://";

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Synchronous {
    /// When it is on the disk: nothing is lost even when the power goes.
    #[default]
    Full,
    /// When the operating system has it: nothing is lost when the process dies, but the last
    /// moments before a power cut may be.
    Normal,
}

impl Synchronous {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Normal => "NORMAL",
        }
    }
}

/// How a file is opened.
///
/// ```
/// use std::time::Duration;
/// use rocketjob_core::JobStore;
/// use rocketjob_sqlite::{Options, Synchronous};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> rocketjob_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("jobs.db");
/// let store = Options::new()
///     .synchronous(Synchronous::Normal)
///     .busy_timeout(Duration::from_secs(10))
///     .open(path)
///     .await?;
/// assert!(store.address().starts_with("sqlite:///"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) synchronous: Synchronous,
    pub(crate) busy_timeout: Duration,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// Every write on the disk before it counts, patience of 30 seconds, the clock of this machine.
    pub fn new() -> Self {
        Self {
            synchronous: Synchronous::default(),
            busy_timeout: Duration::from_secs(30),
            clock: Arc::new(SystemClock),
        }
    }

    /// When a write counts as done.
    #[must_use]
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// How long to wait while another process writes, before
    /// [`Error::Unavailable`](rocketjob_core::Error::Unavailable).
    #[must_use]
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// Which clock is the store's. Processes that share a file must share it.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Opens the file at `path`, and makes it when there is none.
    ///
    /// # Errors
    /// [`Error::Configuration`](rocketjob_core::Error::Configuration) when the file cannot be
    /// opened or is of another kind; the text names the path and says what would help.
    pub async fn open(self, path: impl AsRef<Path>) -> Result<SqliteStore> {
        let path = checked(path.as_ref())?;
        SqliteStore::start(self, path).await
    }

    /// Opens the file at the address `url`: `sqlite://jobs.db` stands in the current folder,
    /// `sqlite:///var/lib/jobs.db` does not.
    ///
    /// The path is taken as it is written. Behind a `?` may follow `synchronous=full` or
    /// `synchronous=normal`, and `busy_timeout=` with a number of seconds, joined by `&`.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when `url` is no such address.
    pub async fn connect(self, url: &str) -> Result<SqliteStore> {
        let (options, path) = self.with_address(url)?;
        options.open(path).await
    }

    fn with_address(mut self, url: &str) -> Result<(Self, PathBuf)> {
        let wrong = |what: String| {
            Error::configuration(format!(
                "{what} in the address `{url}`: it must look like `sqlite://jobs.db`, `sqlite:///var/lib/jobs.db` or `sqlite://jobs.db?synchronous=normal&busy_timeout=10`"
            ))
        };
        let rest = url
            .strip_prefix(SCHEME)
            .ok_or_else(|| wrong(format!("no `{SCHEME}` at the beginning")))?;
        let (path, settings) = rest.split_once('?').unwrap_or((rest, ""));
        for setting in settings.split('&').filter(|setting| !setting.is_empty()) {
            self = match setting.split_once('=') {
                Some(("synchronous", "full")) => self.synchronous(Synchronous::Full),
                Some(("synchronous", "normal")) => self.synchronous(Synchronous::Normal),
                Some(("busy_timeout", seconds)) => match seconds.parse() {
                    Ok(seconds) => self.busy_timeout(Duration::from_secs(seconds)),
                    Err(_) => return Err(wrong(format!("`{seconds}` is no number of seconds"))),
                },
                _ => return Err(wrong(format!("`{setting}` is no known setting"))),
            };
        }
        if path.is_empty() {
            return Err(wrong("no path".into()));
        }
        Ok((self, path.into()))
    }
}

/// The absolute path, so that a later change of the current folder does no harm, after what can be
/// told about it without opening it.
fn checked(path: &Path) -> Result<PathBuf> {
    if path.as_os_str().is_empty() || path == Path::new(":memory:") {
        return Err(Error::configuration(format!(
            "`{}` is no path of a file: this store keeps jobs in one, such as `jobs.db`",
            path.display()
        )));
    }
    let path = path::absolute(path)
        .map_err(|error| Error::configuration(format!("`{}`: {error}", path.display())))?;
    if path.is_dir() {
        return Err(Error::configuration(format!(
            "`{}` is a folder: give the path of a file in it, such as `{}`",
            path.display(),
            path.join("jobs.db").display()
        )));
    }
    match path.parent() {
        Some(folder) if !folder.is_dir() => Err(Error::configuration(format!(
            "cannot open `{}`: the folder `{}` does not exist; create it or give another path",
            path.display(),
            folder.display()
        ))),
        _ => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lead_to_paths_and_settings() {
        let (options, path) = Options::new().with_address("sqlite://jobs.db").unwrap();
        assert_eq!(path, Path::new("jobs.db"));
        assert_eq!(options.synchronous, Synchronous::Full);
        let (options, path) = Options::new()
            .with_address("sqlite:///tmp/jobs.db?synchronous=normal&busy_timeout=7")
            .unwrap();
        assert_eq!(path, Path::new("/tmp/jobs.db"));
        assert_eq!(options.synchronous, Synchronous::Normal);
        assert_eq!(options.busy_timeout, Duration::from_secs(7));
    }

    #[test]
    fn wrong_addresses_are_refused_with_what_is_wrong() {
        for (url, part) in [
            ("mongodb://localhost", "no `sqlite://`"),
            ("sqlite://", "no path"),
            ("sqlite://a.db?mode=ro", "`mode=ro` is no known setting"),
            (
                "sqlite://a.db?busy_timeout=long",
                "`long` is no number of seconds",
            ),
        ] {
            let error = Options::new().with_address(url).unwrap_err().to_string();
            assert!(
                error.contains(part) && error.contains("sqlite://jobs.db"),
                "{error}"
            );
        }
    }
}
