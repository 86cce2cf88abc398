//! What answers, and where.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rocketjob_core::{AsStore, Error, Result, Store};
use rocketjob_worker::{HealthMonitor, Meter, Server};
use tokio::{
    net::{TcpListener, ToSocketAddrs},
    task::JoinHandle,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{depth::Gauge, http, page::Page};

/// How often the queue is measured at most, unless said otherwise.
const INTERVAL: Duration = Duration::from_secs(5);

/// Says what is to be told over HTTP.
#[derive(Debug)]
pub struct Exporter {
    store: Store,
    server: Option<(Meter, HealthMonitor)>,
    interval: Duration,
}

impl Exporter {
    /// Tells what the store knows; there is no server whose health it could tell, so that `/health`
    /// and `/ready` always say yes.
    pub fn new(store: &impl AsStore) -> Self {
        Self {
            store: store.as_store(),
            server: None,
            interval: INTERVAL,
        }
    }

    /// Tells what `server` counts and how it is, besides what its store knows.
    pub fn of(server: &Server) -> Self {
        Self {
            store: server.store().clone(),
            server: Some((server.meter(), server.monitor())),
            interval: INTERVAL,
        }
    }

    /// How often the queue is measured at most; every five seconds unless said otherwise. It is
    /// measured more seldom where that takes long: never for more than a twentieth of the time.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Listens at `address`, such as `0.0.0.0:9394`, and answers until the endpoint is stopped or
    /// dropped. There is no authentication: what listens must be reached by those only who may know.
    ///
    /// # Errors
    /// [`Error::Configuration`] when it cannot listen there.
    pub async fn serve(self, address: impl ToSocketAddrs) -> Result<Endpoint> {
        let refused = |error: std::io::Error| {
            Error::configuration(format!(
                "cannot listen for metrics and probes: {error}; choose another address"
            ))
        };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let stop = CancellationToken::new();
        let gauge = Arc::new(Gauge::new(self.store, self.interval));
        let page = Arc::new(Page {
            server: self.server,
            gauge: Arc::clone(&gauge),
        });
        let measuring = tokio::spawn(gauge.run(stop.clone()));
        let answering = tokio::spawn(http::answer(listener, page, stop.clone()));
        tracing::info!(%address, "metrics and probes");
        Ok(Endpoint {
            address,
            tasks: [measuring, answering],
            stop: stop.drop_guard(),
        })
    }
}

/// Where metrics and probes are answered, until it is dropped.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    tasks: [JoinHandle<()>; 2],
    stop: DropGuard,
}

impl Endpoint {
    /// Where it listens: with the port that it got, if it was asked for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening. What is being answered is answered.
    pub async fn stop(self) {
        drop(self.stop);
        for task in self.tasks {
            // One that has panicked has nothing left to stop.
            let _ = task.await;
        }
    }
}
