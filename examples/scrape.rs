//! What a scrape costs in a long queue, while a server works on it.
//!
//! `cargo run --release --features metrics --example scrape -- sqlite:///tmp/scrape.db 2000000`
//!
//! Ends with an error when a scrape takes 20 ms or more. The store is filled up to the number of
//! jobs, of several kinds and priorities.

#![expect(clippy::print_stdout, reason = "the program's result")]

use std::time::{Duration, Instant};

use bson::doc;
use rocketjob::{
    ALL_PRIORITIES, JobDocument, JobSet, Limit, connect, date, metrics::Exporter, name, prelude::*,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

type AnyResult<T> = Result<T, Box<dyn std::error::Error>>;

/// How many jobs are inserted at a time.
const GROUP: usize = 10_000;
const KINDS: usize = 5;
/// How often is scraped, and how far apart.
const SCRAPES: usize = 300;
const EVERY: Duration = Duration::from_millis(100);
/// How long a scrape may take.
const MOST: Duration = Duration::from_millis(20);

/// What the server performs meanwhile.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "Kind0")]
struct Worked {}

impl Perform for Worked {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> AnyResult<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, count] = arguments.as_slice() else {
        return Err("usage: scrape STORE JOBS".into());
    };
    let (store, count) = (connect(address).await?, count.parse()?);
    let began = Instant::now();
    fill(&store, count).await?;
    println!("filled in {:.1?}", began.elapsed());
    let server = Server::builder(&store).workers(2).start().await?;
    let endpoint = Exporter::of(&server).serve("127.0.0.1:0").await?;
    let mut times = Vec::with_capacity(SCRAPES);
    let mut page = String::new();
    for _ in 0..SCRAPES {
        let began = Instant::now();
        page = scrape(&endpoint.address().to_string()).await?;
        times.push(began.elapsed());
        tokio::time::sleep(EVERY).await;
    }
    times.sort_unstable();
    let (median, longest) = (times[SCRAPES / 2], times[SCRAPES - 1]);
    for line in page
        .lines()
        .filter(|line| line.starts_with("rocketjob_jobs_ready{"))
    {
        println!("{line}");
    }
    let took = page
        .lines()
        .find(|line| line.starts_with("rocketjob_queue_measure_seconds"));
    println!("{}", took.ok_or("the queue was never measured")?);
    let most = times[SCRAPES * 99 / 100];
    println!(
        "{SCRAPES} scrapes: median {median:.2?}, 99 % within {most:.2?}, longest {longest:.2?}"
    );
    endpoint.stop().await;
    server.stop().await?;
    if longest >= MOST {
        return Err(format!("a scrape took {longest:.2?}, and may take {MOST:?}").into());
    }
    Ok(())
}

async fn fill(store: &Store, count: usize) -> AnyResult<()> {
    let kinds = (0..KINDS).map(kind);
    let ready = JobSet::ready(kinds, ALL_PRIORITIES);
    let there = store.count_set(&ready, count as u64).await?;
    for start in (usize::try_from(there)?..count).step_by(GROUP) {
        let jobs = (start..count.min(start + GROUP)).map(|number| new_job(store, number));
        store.insert(jobs.collect::<Result<_, _>>()?).await?;
    }
    Ok(())
}

fn kind(number: usize) -> String {
    format!("Kind{}", number % KINDS)
}

fn new_job(store: &Store, number: usize) -> rocketjob::Result<JobDocument> {
    let priority = i32::try_from(number / KINDS % 100 + 1).unwrap_or(50);
    let mut document = doc! {
        name::ID: store.next_id(),
        name::KIND: kind(number),
        name::STATE: State::Queued.as_str(),
        name::PRIORITY: priority,
        name::CREATED_AT: date(store.now()),
        name::DESTROY_ON_COMPLETE: true,
    };
    if number.is_multiple_of(100) {
        document.insert(name::HOLD, Limit::hold("some"));
    } else {
        document.insert(name::READY, true);
    }
    JobDocument::new(document)
}

async fn scrape(address: &str) -> AnyResult<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
