//! How a server enters its name in the store.

use std::{sync::Arc, time::Duration};

use rocketjob_core::{Error, Filter, Registry, Result, ServerDocument, ServerState, Store};
use tokio::time::Instant;

use crate::lapse::Observer;

/// What a server registers with.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    /// The name that was asked for; without one a name is made.
    pub(crate) name: Option<String>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) lease: Duration,
    pub(crate) interval: Duration,
    pub(crate) filter: Option<Filter>,
    pub(crate) poll_interval: Duration,
}

impl Registration {
    /// Registers a server that starts.
    ///
    /// A name that was asked for may still belong to a predecessor that died. Then it is watched for
    /// its lease, and if it is silent its name is taken over.
    ///
    /// # Errors
    /// [`Error::ServerNameTaken`] when the other server lives.
    pub(crate) async fn first(&self, store: &Store, workers: u32) -> Result<ServerDocument> {
        let mut server = self.document(store, workers);
        if self.name.is_none() {
            enter(store, &mut server).await?;
            return Ok(server);
        }
        match store.insert_server(&server).await {
            Ok(()) => Ok(server),
            Err(Error::ServerNameTaken { name }) => {
                self.take_over(store, &name).await?;
                store.insert_server(&server).await?;
                Ok(server)
            }
            Err(error) => Err(error),
        }
    }

    /// Registers a server that goes on after it was declared dead.
    ///
    /// `pending` keeps the document until it is registered: who tries again registers the same one.
    pub(crate) async fn again(
        &self,
        store: &Store,
        workers: u32,
        state: ServerState,
        pending: &mut Option<ServerDocument>,
    ) -> Result<ServerDocument> {
        let server = pending.get_or_insert_with(|| ServerDocument {
            state,
            ..self.document(store, workers)
        });
        enter(store, server).await?;
        let server = server.clone();
        *pending = None;
        Ok(server)
    }

    /// Waits until the server `name` is dead and its document gone.
    async fn take_over(&self, store: &Store, name: &str) -> Result<()> {
        let mut observer = Observer::new(self.interval);
        let mut first = None;
        tracing::warn!(
            name,
            "a server of this name is registered: waiting for its lease in case it is dead"
        );
        loop {
            let servers = store.servers().await?;
            let Some(other) = servers.iter().find(|server| server.name == name) else {
                return Ok(());
            };
            let seen = *first.get_or_insert((other.id, other.beats(), Instant::now()));
            let lives = (other.id, other.beats()) != (seen.0, seen.1);
            if lives || other.is_original() {
                return Err(Error::ServerNameTaken { name: name.into() });
            }
            for lapsed in observer.look(std::slice::from_ref(other)) {
                store.declare_dead(lapsed.id, lapsed.beats()).await?;
            }
            tokio::time::sleep(self.interval.min(other.lease() / 4)).await;
        }
    }

    fn document(&self, store: &Store, workers: u32) -> ServerDocument {
        let made = || {
            let host = gethostname::gethostname().to_string_lossy().into_owned();
            format!("{host}:{}", std::process::id())
        };
        ServerDocument {
            id: store.next_id(),
            name: self.name.clone().unwrap_or_else(made),
            max_workers: workers,
            started_at: Some(store.now()),
            state: ServerState::Starting,
            heartbeat: None,
            lease: Some(self.lease),
            version: env!("CARGO_PKG_VERSION").into(),
            definitions: self.registry.publish(),
            filter: self.filter.clone(),
            poll_interval: Some(self.poll_interval),
        }
    }
}

/// Registers `server`, under another name if its own is taken.
async fn enter(store: &Store, server: &mut ServerDocument) -> Result<()> {
    let id = server.id.to_hex();
    // A container that restarts has the host name and process id of its predecessor; and servers of
    // one process may have the same count, each of another second.
    let others = [&id[18..], &id[..]];
    let own = server.name.clone();
    for other in others {
        match store.insert_server(server).await {
            Err(Error::ServerNameTaken { name: taken }) => {
                server.name = format!("{own}-{other}");
                tracing::warn!(
                    taken,
                    name = server.name,
                    "the name is taken: using another"
                );
            }
            outcome => return outcome,
        }
    }
    store.insert_server(server).await
}
