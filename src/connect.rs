//! From an address to a store.

use rocketjob_core::{Error, MemoryStore, Result, Store};

/// Connects to the store at `address`, and makes it ready for use.
///
/// | address | store |
/// |---|---|
/// | `memory://` | in this process, gone with it: for tests |
/// | `sqlite://jobs.db`, `sqlite:///var/lib/jobs.db` | a file, created when it is missing (feature `sqlite`) |
/// | `mongodb://…`, `mongodb+srv://…` | a database on MongoDB (feature `mongo`) |
///
/// ```
/// # pollster::block_on(async {
/// let store = rocketjob::connect("memory://").await?;
/// assert_eq!(store.address(), "memory://");
///
/// let error = rocketjob::connect("redis://localhost").await.unwrap_err();
/// assert!(error.to_string().contains("unknown scheme `redis`"));
/// # Ok::<_, rocketjob::Error>(())
/// # }).unwrap();
/// ```
///
/// # Errors
/// [`Error::Configuration`] for an address that makes no sense or whose store is not compiled in,
/// [`Error::Unavailable`] within seconds when nothing answers.
pub async fn connect(address: &str) -> Result<Store> {
    let scheme = address.split_once("://").map(|(scheme, _)| scheme);
    match scheme {
        Some("memory") => Ok(Store::new(MemoryStore::new())),
        #[cfg(feature = "sqlite")]
        Some("sqlite") => Ok(Store::new(
            rocketjob_sqlite::SqliteStore::connect(address).await?,
        )),
        #[cfg(feature = "mongo")]
        Some("mongodb" | "mongodb+srv") => Ok(Store::new(
            rocketjob_mongo::MongoStore::connect(address).await?,
        )),
        Some(scheme) => Err(Error::configuration(format!(
            "unknown scheme `{scheme}` in the address of the store: this program knows {}",
            known().join(", ")
        ))),
        None => Err(Error::configuration(format!(
            "the address of the store has no scheme: write one of {}",
            known().join(", ")
        ))),
    }
}

fn known() -> Vec<&'static str> {
    let mut known = vec!["`memory://`"];
    if cfg!(feature = "sqlite") {
        known.push("`sqlite://jobs.db`");
    }
    if cfg!(feature = "mongo") {
        known.push("`mongodb://host/database`");
    }
    known
}
