//! Metrics, health and readiness of [Rocket Job](https://docs.rs/rocketjob) over HTTP.
//!
//! An [`Exporter`] answers three paths: `/metrics` in the text format that Prometheus reads,
//! `/health` for a probe that restarts what makes no progress, and `/ready` for one that asks
//! whether the server takes work. All metrics are described in `docs/metrics.md`.
//!
//! What a server counts is read from its counters and costs nothing. What only the store knows (how
//! many jobs wait, and for how long) is measured in the background, every few seconds at most,
//! however often it is asked for, and only while somebody asks; each query is bounded and uses an
//! index.
//!
//! ```
//! # use rocketjob_core::{MemoryStore, Store};
//! use rocketjob_metrics::Exporter;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let store = Store::new(MemoryStore::new());
//! // In a program that performs jobs: `Exporter::of(&server)`.
//! let endpoint = Exporter::new(&store).serve("127.0.0.1:0").await?;
//! println!("http://{}/metrics", endpoint.address());
//! endpoint.stop().await;
//! # Ok::<_, rocketjob_core::Error>(())
//! # }).unwrap();
//! ```

mod depth;
mod exporter;
mod http;
mod page;

pub use exporter::{Endpoint, Exporter};
