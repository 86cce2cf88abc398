//! Whether the metrics agree with the store: jobs that complete, fail and are tried again, on
//! servers of which two are killed in the middle.
//!
//! `cargo run --release --features metrics --example metrics -- sqlite:///tmp/metrics.db 50000`
//!
//! Each job notes who performed it and how it ended, in the same write as its outcome. So the store
//! knows how many outcomes of each sort each server has to its credit, and what the servers that
//! are left tell over HTTP must be exactly that.

#![expect(clippy::print_stdout, reason = "the program's result")]

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use bson::Bson;
use rocketjob::{
    JobDocument, Query, Registry, connect, metrics::Exporter, name, prelude::*, whole_number,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
};

type AnyResult<T> = Result<T, Box<dyn std::error::Error>>;

/// How many servers work at a time; the first two of them are killed.
const SERVERS: usize = 4;
const KILLED: usize = 2;
/// How many jobs are read at a time.
const PAGE: usize = 5_000;

/// Notes who performed it.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "Metered", keep_completed)]
struct Metered {
    number: u32,
    /// `<server> <outcome>` of each attempt.
    attempts: Vec<String>,
    /// How many servers died with it: another attempt after a failure begins to count anew.
    lost: i64,
}

struct ServerName(String);

impl Perform for Metered {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        self.lost += job.document().lost_claims();
        let server = &job.shared::<ServerName>()?.0;
        let mut note = |outcome: &str| self.attempts.push(format!("{server} {outcome}"));
        match self.number % 20 {
            0 if job.attempt() == 1 => {
                note("retried");
                Err("busy").retry_after(Duration::from_millis(1))
            }
            7 => {
                note("failed");
                Err("hopeless")?
            }
            _ => {
                note("completed");
                Ok(())
            }
        }
    }
}

#[tokio::main]
async fn main() -> AnyResult<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [serve, address, server] if serve == "serve" => work(address, server).await,
        [address, count] => compare(address, count.parse()?).await,
        _ => Err("usage: metrics STORE JOBS".into()),
    }
}

/// One server, until it is told to end.
async fn work(address: &str, server: &str) -> AnyResult<()> {
    let mut registry = Registry::new();
    registry.register::<Metered>()?;
    let server = Server::builder(&connect(address).await?)
        .only(registry)
        .name(server)
        .workers(3)
        .heartbeat_interval(Duration::from_millis(500))
        .lease(Duration::from_secs(4))
        .shared(ServerName(server.to_owned()))
        .start()
        .await?;
    let exporter = Exporter::of(&server).interval(Duration::from_millis(100));
    let endpoint = exporter.serve("127.0.0.1:0").await?;
    println!("{}", endpoint.address());
    server.run_until_terminated().await?;
    endpoint.stop().await;
    Ok(())
}

async fn compare(address: &str, count: u32) -> AnyResult<()> {
    let store = connect(address).await?;
    for number in 0..count {
        let attempts = Vec::new();
        let job = Metered {
            number,
            attempts,
            lost: 0,
        };
        job.create(&store).await?;
    }
    let mut fleet = Vec::new();
    for number in 0..SERVERS {
        fleet.push(start(address, &format!("server-{number}")).await?);
    }
    until_left(&store, u64::from(count / 2)).await?;
    for mut victim in fleet.drain(..KILLED) {
        victim.child.kill().await?;
    }
    for number in 0..KILLED {
        fleet.push(start(address, &format!("successor-{number}")).await?);
    }
    until_left(&store, 0).await?;
    let truth = truth(&store).await?;
    let mut differences = 0;
    let mut lost = 0;
    for member in &fleet {
        let told = settled(member).await?;
        for outcome in ["completed", "failed", "retried"] {
            let key = format!("{} {outcome}", member.name);
            let expected = truth.outcomes.get(&key).copied().unwrap_or(0);
            let found = told.of_kind(&format!("jobs_{outcome}_total"));
            println!("{key}: {found} told, {expected} stored");
            differences += u32::from(found != expected);
        }
        let outcomes = ["completed", "failed", "retried"];
        let ended = outcomes.map(|outcome| told.of_kind(&format!("jobs_{outcome}_total")));
        let started = told.of_kind("jobs_started_total");
        let refused = told.of_kind("settle_refused_total");
        differences += u32::from(started != ended.iter().sum::<u64>() + refused);
        let performed = told.of_kind("perform_seconds_count");
        differences += u32::from(performed != started);
        lost += told.of_kind("jobs_lost_total");
    }
    println!(
        "claims of killed servers: {lost} told, {} stored",
        truth.lost
    );
    differences += u32::from(lost != truth.lost);
    for mut member in fleet {
        member.child.kill().await?;
    }
    if differences > 0 {
        return Err(format!("{differences} figures differ").into());
    }
    println!("the metrics agree with the store");
    Ok(())
}

struct Member {
    name: String,
    address: String,
    child: Child,
}

async fn start(address: &str, server: &str) -> AnyResult<Member> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["serve", address, server])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = child.stdout.take().ok_or("the server has no output")?;
    let mut lines = BufReader::new(output).lines();
    let address = lines.next_line().await?;
    Ok(Member {
        name: server.to_owned(),
        address: address.ok_or("the server did not start")?,
        child,
    })
}

/// Waits until no more than `count` jobs are queued or running.
async fn until_left(store: &Store, count: u64) -> AnyResult<()> {
    loop {
        let active = Metered::query(store).filter(Filter::states([State::Queued, State::Running]));
        if active.count().await? <= count {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[derive(Default)]
struct Truth {
    /// Accepted outcomes by `<server> <outcome>`.
    outcomes: BTreeMap<String, u64>,
    /// Claims that were lost.
    lost: u64,
}

async fn truth(store: &Store) -> AnyResult<Truth> {
    let mut truth = Truth::default();
    let mut query = Query::new(Filter::all());
    query.limit = PAGE;
    loop {
        let jobs = store.find(&query).await?;
        for job in &jobs {
            let attempts = job.get("attempts").and_then(Bson::as_array);
            for attempt in attempts.into_iter().flatten().filter_map(Bson::as_str) {
                *truth.outcomes.entry(attempt.to_owned()).or_default() += 1;
            }
            let lost = job.get("lost").and_then(whole_number).unwrap_or(0);
            truth.lost += u64::try_from(lost)?;
        }
        let Some(last) = jobs.last().map(JobDocument::id) else {
            return Ok(truth);
        };
        query.filter = Filter::gt(name::ID, last);
    }
}

/// What a server tells when all that it has in hand is settled.
async fn settled(member: &Member) -> AnyResult<Told> {
    loop {
        let told = Told::by(&member.address).await?;
        // The store knows of outcomes a moment before their server counts them.
        if told.value("rocketjob_jobs_in_hand") == Some(0) {
            return Told::by(&member.address).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The lines of one scrape.
struct Told(Vec<String>);

impl Told {
    async fn by(address: &str) -> AnyResult<Self> {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        if !answer.starts_with("HTTP/1.1 200") {
            return Err(format!("no metrics: {answer}").into());
        }
        Ok(Self(answer.lines().map(ToOwned::to_owned).collect()))
    }

    fn value(&self, series: &str) -> Option<u64> {
        let value = |line: &String| {
            line.strip_prefix(series)?
                .strip_prefix(' ')?
                .parse::<f64>()
                .ok()
        };
        let value = self.0.iter().find_map(value)?;
        format!("{value:.0}").parse().ok()
    }

    fn of_kind(&self, metric: &str) -> u64 {
        self.value(&format!("rocketjob_{metric}{{kind=\"Metered\"}}"))
            .unwrap_or(0)
    }
}
