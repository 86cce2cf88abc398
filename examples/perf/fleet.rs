//! Processes that work: servers, and the bare programs beside which they are measured. Whatever
//! becomes of the run, none outlives it.

use std::{process::Stdio, time::Duration};

use rocketjob::Figures;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, error::TryRecvError, unbounded_channel},
    time::{Instant, timeout},
};

use crate::{Anything, machine, serve::BEATS};

/// Whoever has no news for so long is stuck.
const PATIENCE: Duration = Duration::from_mins(2);

/// How long a beat may take.
const SOME: Duration = Duration::from_millis(100);

/// What a process tells, a line each.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Told {
    /// It has all that it needs and waits for the word to begin.
    Ready,
    /// How many jobs it has settled by now.
    Settled(u64),
    /// A job began, on the monotonic clock in microseconds and by the store's in milliseconds.
    Began {
        number: u64,
        at: i64,
        store_time: i64,
    },
    /// How often the store was called by now.
    Calls(u64),
    /// It has stopped.
    Served(Served),
}

/// What a server did.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Served {
    pub(crate) claims: u64,
    pub(crate) successful_claims: u64,
    pub(crate) claimed: u64,
    pub(crate) lost: u64,
    pub(crate) settled: u64,
    pub(crate) refused: u64,
    /// For how many microseconds workers had nothing to do between two jobs.
    pub(crate) idle: Vec<i64>,
}

impl From<Figures> for Served {
    fn from(figures: Figures) -> Self {
        Self {
            claims: figures.claims,
            successful_claims: figures.successful_claims,
            claimed: figures.claimed,
            lost: figures.lost,
            settled: figures.settled,
            refused: figures.refused,
            ..Self::default()
        }
    }
}

/// What a process may be told, a line each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Work, and tell how many jobs are settled.
    Begin,
    /// Claim nothing more for now.
    Hold,
    /// Tell how often the store was called.
    Count,
}

/// Some processes.
#[derive(Debug)]
pub(crate) struct Fleet {
    processes: Vec<Process>,
    told: UnboundedReceiver<(usize, Told)>,
    settled: Vec<u64>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    id: u32,
    input: Option<ChildStdin>,
}

/// How it went from the word to begin until all jobs were settled.
#[derive(Debug)]
pub(crate) struct Course {
    pub(crate) time: Duration,
    /// Which share of a core each process took.
    pub(crate) cpu: Vec<f64>,
    /// And each of the other processes that were watched.
    pub(crate) others: Vec<f64>,
}

impl Fleet {
    /// Starts processes of this program with these arguments, each when the one before is ready.
    pub(crate) async fn start(arguments: &[Vec<String>]) -> Anything<Self> {
        let (sender, told) = unbounded_channel();
        let mut fleet = Self {
            processes: Vec::with_capacity(arguments.len()),
            told,
            settled: vec![0; arguments.len()],
        };
        for (number, arguments) in arguments.iter().enumerate() {
            fleet
                .processes
                .push(Process::start(arguments, number, &sender)?);
            match fleet.next().await? {
                Told::Ready => {}
                other => return Err(format!("a process said {other:?} in place of ready").into()),
            }
        }
        Ok(fleet)
    }

    /// Starts so many servers with these further arguments.
    pub(crate) async fn servers(store: &str, count: usize, more: &[&str]) -> Anything<Self> {
        let first = ["serve", "--store", store];
        let arguments = first.iter().chain(more);
        let arguments: Vec<_> = arguments.map(ToString::to_string).collect();
        Self::start(&vec![arguments; count]).await
    }

    /// Starts so many servers that claim nothing until they are told to begin, and waits until all
    /// know their rank among each other.
    pub(crate) async fn held(store: &str, count: usize, more: &[&str]) -> Anything<Self> {
        let fleet = Self::servers(store, count, &[&["--held"], more].concat()).await?;
        let beat = if count > 1 { BEATS } else { SOME };
        tokio::time::sleep(beat + SOME).await;
        Ok(fleet)
    }

    /// The ids of the processes.
    pub(crate) fn ids(&self) -> Vec<u32> {
        self.processes.iter().map(|process| process.id).collect()
    }

    /// Tells all the same.
    pub(crate) async fn tell(&mut self, order: Order) -> Anything<()> {
        let line = serde_json::to_string(&order)? + "\n";
        for process in &mut self.processes {
            let input = process.input.as_mut().ok_or("the process has ended")?;
            input.write_all(line.as_bytes()).await?;
        }
        Ok(())
    }

    /// What is told next.
    pub(crate) async fn next(&mut self) -> Anything<Told> {
        let told = timeout(PATIENCE, self.told.recv()).await;
        let told = told.map_err(|_| "the processes are stuck")?;
        let (number, told) = told.ok_or("all processes have ended")?;
        Ok(self.note(number, told))
    }

    /// Takes note of what was told meanwhile, without waiting for more.
    pub(crate) fn catch_up(&mut self) -> Anything<()> {
        loop {
            match self.told.try_recv() {
                Ok((number, told)) => drop(self.note(number, told)),
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err("all processes have ended".into()),
            }
        }
    }

    fn note(&mut self, number: usize, told: Told) -> Told {
        if let Told::Settled(count) = told {
            self.settled[number] = count;
        }
        told
    }

    /// How many jobs are settled as far as it was told.
    pub(crate) fn settled(&self) -> u64 {
        self.settled.iter().sum()
    }

    /// Returns when so many jobs are settled in all.
    pub(crate) async fn until_settled(&mut self, jobs: u64) -> Anything<()> {
        while self.settled() < jobs {
            self.next().await?;
        }
        Ok(())
    }

    /// Lets all begin at once, and watches them and `others` until so many jobs are settled and
    /// `are_done` agrees: jobs that were handed back are settled more than once.
    pub(crate) async fn work(
        &mut self,
        jobs: usize,
        others: &[u32],
        mut are_done: impl AsyncFnMut() -> Anything<bool>,
    ) -> Anything<Course> {
        let ids = self.ids();
        let before = machine::usage(&ids)?;
        let others_before = machine::usage(others)?;
        let began = Instant::now();
        self.tell(Order::Begin).await?;
        self.until_settled(jobs as u64).await?;
        loop {
            let time = began.elapsed();
            let course = Course {
                time,
                cpu: machine::shares(&before, &machine::usage(&ids)?, time),
                others: machine::shares(&others_before, &machine::usage(others)?, time),
            };
            if are_done().await? {
                return Ok(course);
            }
            self.next().await?;
        }
    }

    /// Returns when so many further jobs have begun.
    pub(crate) async fn until_begun(&mut self, jobs: usize) -> Anything<()> {
        let mut begun = 0;
        while begun < jobs {
            begun += usize::from(matches!(self.next().await?, Told::Began { .. }));
        }
        Ok(())
    }

    /// How often the store was called by all, so far.
    pub(crate) async fn calls(&mut self) -> Anything<u64> {
        self.tell(Order::Count).await?;
        let (mut calls, mut counted) = (0, 0);
        while counted < self.processes.len() {
            if let Told::Calls(count) = self.next().await? {
                calls += count;
                counted += 1;
            }
        }
        Ok(calls)
    }

    /// Lets all stop, and returns what each did.
    pub(crate) async fn end(mut self) -> Anything<Vec<Served>> {
        for process in &mut self.processes {
            // The end of its input.
            drop(process.input.take());
        }
        let mut served = Vec::new();
        while served.len() < self.processes.len() {
            if let Told::Served(told) = self.next().await? {
                served.push(told);
            }
        }
        for process in &mut self.processes {
            let status = process.child.wait().await?;
            if !status.success() {
                return Err(format!("process {} ended with {status}", process.id).into());
            }
        }
        Ok(served)
    }
}

impl Process {
    fn start(
        arguments: &[String],
        number: usize,
        told: &UnboundedSender<(usize, Told)>,
    ) -> Anything<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().ok_or("the process has no output")?;
        tokio::spawn(listen(output, number, told.clone()));
        Ok(Self {
            id: child.id().ok_or("the process has no id")?,
            input: child.stdin.take(),
            child,
        })
    }
}

async fn listen(output: ChildStdout, number: usize, told: UnboundedSender<(usize, Told)>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(line) => {
                // Who no longer listens need not know.
                let _ = told.send((number, line));
            }
            Err(_) => crate::progress(&format!("process {number} says: {line}")),
        }
    }
}
