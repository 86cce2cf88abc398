//! The whole system: server processes that work through a queue.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rocketjob::{Filter, prelude::*};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    sync::Notify,
};

use crate::Anything;

/// Does nothing, with as many fields as the rivals' jobs of `speed` had.
#[derive(RocketJob, Serialize, Deserialize)]
#[rocketjob(kind = "PerfJob")]
struct PerfJob {
    number: i64,
    text: String,
}

impl Perform for PerfJob {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

/// Jobs per second.
pub(crate) fn rate(jobs: usize, time: Duration) -> f64 {
    f64::from(u32::try_from(jobs).unwrap_or(u32::MAX)) / time.as_secs_f64()
}

/// Empties the store and fills it with jobs.
pub(crate) async fn enqueue(url: &str, jobs: usize, keep: bool) -> Anything<()> {
    let store = rocketjob::connect(url).await?;
    store.delete(&Filter::all()).await?;
    let left = store
        .count(&Filter::all(), rocketjob::ReadFrom::Primary)
        .await?;
    if left > 0 {
        return Err(format!("{left} running jobs are in the store: it is in use").into());
    }
    let text = "x".repeat(100);
    let new = (0..jobs).map(|number| {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        PerfJob {
            number,
            text: text.clone(),
        }
        .keep_completed(keep)
    });
    PerfJob::create_many(&store, new).await?;
    Ok(())
}

/// Jobs per second of so many processes of ten workers, all told to begin at the same time.
pub(crate) async fn measure(url: &str, jobs: usize, processes: usize, keep: bool) -> Anything<f64> {
    enqueue(url, jobs, keep).await?;
    let mut servers = Vec::new();
    for _ in 0..processes {
        servers.push(Process::start(url).await?);
    }
    let began = Instant::now();
    let settled: Arc<Vec<AtomicUsize>> =
        Arc::new((0..processes).map(|_| AtomicUsize::new(0)).collect());
    let told = Arc::new(Notify::new());
    for (number, server) in servers.iter_mut().enumerate() {
        server.begin().await?;
        let Some(mut lines) = server.lines.take() else {
            continue;
        };
        let (settled, told) = (Arc::clone(&settled), Arc::clone(&told));
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                settled[number].store(line.parse().unwrap_or(0), Ordering::Relaxed);
                told.notify_one();
            }
        });
    }
    while settled
        .iter()
        .map(|count| count.load(Ordering::Relaxed))
        .sum::<usize>()
        < jobs
    {
        tokio::time::timeout(Duration::from_mins(1), told.notified())
            .await
            .map_err(|_| "the servers are stuck")?;
    }
    let time = began.elapsed();
    for server in servers {
        server.end().await?;
    }
    Ok(rate(jobs, time))
}

struct Process {
    child: Child,
    lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl Process {
    async fn start(url: &str) -> Anything<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().ok_or("the server has no output")?;
        let mut lines = BufReader::new(output).lines();
        match lines.next_line().await? {
            Some(line) if line == "ready" => Ok(Self {
                child,
                lines: Some(lines),
            }),
            other => Err(format!("the server said {other:?} in place of `ready`").into()),
        }
    }

    async fn begin(&mut self) -> Anything<()> {
        let input = self.child.stdin.as_mut().ok_or("the server has no input")?;
        input.write_all(b"begin\n").await?;
        input.flush().await?;
        Ok(())
    }

    /// The end of its input ends the server.
    async fn end(mut self) -> Anything<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait().await?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("a server ended with {status}").into())
        }
    }
}

/// A server process.
pub(crate) async fn serve(url: &str) -> Anything<()> {
    let store = rocketjob::connect(url).await?;
    println!("ready");
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    input.next_line().await?;
    let server = Server::builder(&store).workers(10).start().await?;
    let mut before = 0;
    let ended = input.next_line();
    tokio::pin!(ended);
    loop {
        tokio::select! {
            _ = &mut ended => break,
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
        let settled = server.settled();
        if settled != before {
            println!("{settled}");
            before = settled;
        }
    }
    server.stop().await?;
    Ok(())
}
