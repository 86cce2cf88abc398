//! Metrics, health and readiness over HTTP.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rocketjob::{ServerState, metrics::Exporter, prelude::*};
use rocketjob_testing::{eventually, insert_all, job};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};

use crate::{
    process,
    stores::{self, Fixture, Kind, on_every_store},
};

/// Waits to be let through, then does what it is told.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "Measured", keep_completed)]
struct Measured {
    fails: bool,
}

struct Gate(Arc<Semaphore>);

impl Perform for Measured {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        job.shared::<Gate>()?.0.acquire().await?.forget();
        if self.fails {
            return Err("hopeless".into());
        }
        Ok(())
    }
}

/// The status and the body of what is answered.
async fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().to_owned();
    (status, body.to_owned())
}

/// Waits until the metrics have all these lines.
async fn tells(address: SocketAddr, lines: &[&str]) {
    let what = format!("the metrics tell {lines:?}");
    let told = eventually(&what, async || {
        let (status, body) = get(address, "/metrics").await;
        assert_eq!(status, "200");
        let told: Vec<_> = body.lines().collect();
        let missing = lines.iter().find(|line| !told.contains(line));
        missing
            .inspect(|line| println!("without {line}:\n{body}"))
            .is_none()
            .then_some(())
    });
    told.await;
}

on_every_store! {
    async fn a_server_tells_what_it_does_and_what_waits(fixture: &Fixture) {
        let store = &fixture.store;
        let gate = Arc::new(Semaphore::new(0));
        let server = fixture.server::<Measured>().workers(2).shared(Gate(Arc::clone(&gate)));
        let server = server.start().await.unwrap();
        let exporter = Exporter::of(&server).interval(Duration::from_millis(50));
        let endpoint = exporter.serve("127.0.0.1:0").await.unwrap();
        let address = endpoint.address();
        let other = |priority| job("Other").priority(priority);
        insert_all(store, [other(1), other(25), other(26), other(100), other(50).held("review")]).await;
        tells(address, &[
            "rocketjob_workers{state=\"busy\"} 0.0",
            "rocketjob_workers{state=\"idle\"} 2.0",
            "rocketjob_jobs_ready{kind=\"Other\",priority=\"1-25\"} 2",
            "rocketjob_jobs_ready{kind=\"Other\",priority=\"26-50\"} 1",
            "rocketjob_jobs_ready{kind=\"Other\",priority=\"51-75\"} 0",
            "rocketjob_jobs_ready{kind=\"Other\",priority=\"76-100\"} 1",
            "rocketjob_jobs_held{hold=\"review\"} 1.0",
            "rocketjob_jobs{state=\"queued\"} 5.0",
        ]).await;
        Measured { fails: false }.create(store).await.unwrap();
        Measured { fails: true }.create(store).await.unwrap();
        tells(address, &["rocketjob_workers{state=\"busy\"} 2.0", "rocketjob_jobs{state=\"running\"} 2.0"]).await;
        gate.add_permits(2);
        tells(address, &[
            "rocketjob_jobs_started_total{kind=\"Measured\"} 2",
            "rocketjob_jobs_completed_total{kind=\"Measured\"} 1",
            "rocketjob_jobs_failed_total{kind=\"Measured\"} 1",
            "rocketjob_perform_seconds_count{kind=\"Measured\"} 2",
            "rocketjob_pickup_seconds_bucket{le=\"+Inf\",kind=\"Measured\"} 2",
            "rocketjob_jobs{state=\"completed\"} 1.0",
            "rocketjob_jobs{state=\"failed\"} 1.0",
            "# EOF",
        ]).await;
        assert_eq!(get(address, "/elsewhere").await.0, "404");
        endpoint.stop().await;
        assert!(TcpStream::connect(address).await.is_err(), "it listens no more");
        server.stop().await.unwrap();
    }

    async fn probes_tell_whether_it_takes_work_and_makes_progress(fixture: &Fixture) {
        let server = fixture.server::<Measured>().heartbeat_interval(Duration::from_millis(50))
            .lease(Duration::from_secs(10)).start().await.unwrap();
        let endpoint = Exporter::of(&server).serve("127.0.0.1:0").await.unwrap();
        let address = endpoint.address();
        let (status, body) = get(address, "/health").await;
        assert_eq!(status, "200", "{body}");
        assert!(body.contains("\"loop\":\"dispatch\""), "{body}");
        assert_eq!(get(address, "/ready").await, ("200".into(), "{\"ready\":true}".into()));
        let paused = fixture.store.set_server_state(server.id(), &[ServerState::Running], ServerState::Paused);
        assert!(paused.await.unwrap());
        eventually("it is not ready", async || (get(address, "/ready").await.0 == "503").then_some(())).await;
        assert_eq!(get(address, "/health").await.0, "200", "who is paused is well");
        server.stop().await.unwrap();
    }
}

/// A store that is away is told by the probe of health, and the queue is not measured.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_makes_no_progress_is_not_healthy() {
    let fixture = Fixture::start(Kind::Memory, "metrics::no_progress").await;
    let faulty = rocketjob_testing::Faulty::new(&fixture.store);
    let mut registry = rocketjob::Registry::new();
    registry.register::<Measured>().unwrap();
    let server = Server::builder(&faulty)
        .only(registry)
        .workers(1)
        .poll_interval(Duration::from_millis(20))
        .heartbeat_interval(Duration::from_millis(100))
        .lease(Duration::from_millis(400))
        .grace(Duration::ZERO)
        .start()
        .await
        .unwrap();
    let exporter = Exporter::of(&server).interval(Duration::from_millis(20));
    let endpoint = exporter.serve("127.0.0.1:0").await.unwrap();
    let address = endpoint.address();
    assert_eq!(get(address, "/health").await.0, "200");
    faulty.set_outage(true);
    eventually("it is not healthy", async || {
        (get(address, "/health").await.0 == "503").then_some(())
    })
    .await;
    assert_eq!(
        get(address, "/ready").await.0,
        "503",
        "who cannot show that it lives takes no work"
    );
    faulty.set_outage(false);
    eventually("it is healthy again", async || {
        (get(address, "/health").await.0 == "200").then_some(())
    })
    .await;
    server.stop().await.unwrap();
}

/// Servers in processes of their own, of which two are killed; see `examples/metrics.rs`.
async fn the_metrics_agree_with_the_store(fixture: &Fixture) {
    let output = process::example("metrics")
        .args([&fixture.address, "5000"])
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("the metrics agree with the store"));
}

#[test]
fn the_metrics_agree_with_the_store_on_sqlite() {
    stores::run(
        Kind::Sqlite,
        "metrics::agree_on_sqlite",
        the_metrics_agree_with_the_store,
    );
}

#[test]
fn the_metrics_agree_with_the_store_on_mongo() {
    stores::run(
        Kind::Mongo,
        "metrics::agree_on_mongo",
        the_metrics_agree_with_the_store,
    );
}
