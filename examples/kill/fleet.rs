//! The server processes of a run. Whatever becomes of the run, none outlives it.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::{Instant, timeout},
};

use crate::{Anything, serve::Served};

/// How long a process may take to end when it is asked to: its own grace, and some more.
const STOPS_WITHIN: Duration = Duration::from_mins(1);

/// How all processes are started.
#[derive(Debug)]
pub(crate) struct Orders {
    pub(crate) store: String,
    pub(crate) ledger: PathBuf,
    pub(crate) workers: usize,
    /// Whether they perform the mix.
    pub(crate) mix: bool,
    /// Where the processes write their logs.
    pub(crate) folder: PathBuf,
}

/// The processes, each in a place of its own.
#[derive(Debug)]
pub(crate) struct Fleet {
    orders: Orders,
    processes: Vec<Process>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    id: Pid,
    wakes_at: Option<Instant>,
}

impl Fleet {
    pub(crate) fn start(orders: Orders, servers: usize) -> Anything<Self> {
        let mut fleet = Self {
            orders,
            processes: Vec::with_capacity(servers),
        };
        for place in 0..servers {
            let process = fleet.spawn(place)?;
            fleet.processes.push(process);
        }
        Ok(fleet)
    }

    /// The ids of the processes.
    pub(crate) fn ids(&self) -> BTreeSet<i32> {
        let ids = self.processes.iter();
        ids.map(|process| process.id.as_raw_pid()).collect()
    }

    /// The places of those that are not paused.
    pub(crate) fn awake(&self) -> Vec<usize> {
        let places = self.processes.iter().enumerate();
        places
            .filter(|(_, process)| process.wakes_at.is_none())
            .map(|(place, _)| place)
            .collect()
    }

    /// When the next paused process is to go on.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.processes
            .iter()
            .filter_map(|process| process.wakes_at)
            .min()
    }

    /// Kills a process, and starts another in its place.
    pub(crate) async fn kill(&mut self, place: usize) -> Anything<()> {
        self.processes[place].kill().await?;
        self.restart(place)
    }

    fn restart(&mut self, place: usize) -> Anything<()> {
        self.processes[place] = self.spawn(place)?;
        Ok(())
    }

    /// Stops a process where it stands, until [`wake`](Self::wake) finds that its time has come.
    pub(crate) fn pause(&mut self, place: usize, length: Duration) -> io::Result<()> {
        let process = &mut self.processes[place];
        kill_process(process.id, Signal::STOP)?;
        process.wakes_at = Some(Instant::now() + length);
        Ok(())
    }

    /// Lets the processes go on whose pause ends before `now`.
    pub(crate) fn wake(&mut self, now: Instant) -> io::Result<()> {
        let paused = self.processes.iter_mut();
        for process in paused.filter(|process| process.wakes_at.is_some_and(|end| end <= now)) {
            kill_process(process.id, Signal::CONT)?;
            process.wakes_at = None;
        }
        Ok(())
    }

    /// Replaces the processes that ended by themselves, and tells how they ended.
    pub(crate) fn replace_ended(&mut self) -> Anything<Vec<String>> {
        let mut ended = Vec::new();
        for place in 0..self.processes.len() {
            if let Some(status) = self.processes[place].child.try_wait()? {
                ended.push(format!(
                    "process {} ended by itself with {status}: see server-{place}.log",
                    self.processes[place].id
                ));
                self.restart(place)?;
            }
        }
        Ok(ended)
    }

    /// Asks all to stop, waits until they have, and returns what they tell, and what went wrong.
    pub(crate) async fn stop(&mut self) -> Anything<(Vec<Served>, Vec<String>)> {
        for process in &self.processes {
            kill_process(process.id, Signal::TERM)?;
        }
        let (mut told, mut problems) = (Vec::new(), Vec::new());
        for (place, mut process) in self.processes.drain(..).enumerate() {
            match timeout(STOPS_WITHIN, process.ended()).await {
                Ok(ended) => match ended? {
                    (status, Some(served)) if status.success() => told.push(served),
                    (status, _) => problems.push(format!(
                        "process {} ended with {status} when it was told to stop: see server-{place}.log",
                        process.id
                    )),
                },
                Err(_) => problems.push(format!(
                    "process {} did not stop within {STOPS_WITHIN:?}",
                    process.id
                )),
            }
        }
        Ok((told, problems))
    }

    /// Empties the logs of processes that go on writing them.
    pub(crate) fn empty_logs(&self) -> io::Result<()> {
        for place in 0..self.processes.len() {
            self.log(place)?.set_len(0)?;
        }
        Ok(())
    }

    fn log(&self, place: usize) -> io::Result<File> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.orders.folder.join(format!("server-{place}.log")))
    }

    fn spawn(&self, place: usize) -> Anything<Process> {
        let child = Command::new(std::env::current_exe()?)
            .args(["serve", "--store", &self.orders.store])
            .args(["--workers", &self.orders.workers.to_string()])
            .arg("--ledger")
            .arg(&self.orders.ledger)
            .args(self.orders.mix.then_some("--mix"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(self.log(place)?)
            .kill_on_drop(true)
            .spawn()?;
        let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Process {
            child,
            id: id.ok_or("the process has no id")?,
            wakes_at: None,
        })
    }
}

impl Process {
    async fn kill(&mut self) -> io::Result<()> {
        self.child.kill().await
    }

    /// How it ended, and what it told.
    async fn ended(&mut self) -> Anything<(ExitStatus, Option<Served>)> {
        let mut told = String::new();
        if let Some(output) = &mut self.child.stdout {
            BufReader::new(output).read_line(&mut told).await?;
        }
        // Closes its input, for whose end it listens until it ends.
        let status = self.child.wait().await?;
        Ok((status, serde_json::from_str(&told).ok()))
    }
}
