//! What the workers of a server do at one moment.

use std::{fmt, time::Duration};

use bson::oid::ObjectId;

use crate::{
    crew::{Crew, worker_name},
    standing::Post,
    thread::Thread,
    worker::Performing,
};

/// What each worker of a server does.
///
/// The stacks of their threads are not in it: no safe code can read them. On Linux it has their ids,
/// with which a debugger can (`gdb --pid <process> --batch -ex 'thread apply all backtrace'`), and
/// whether they run or sleep.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dump {
    /// The server's name.
    pub server: String,
    /// The server.
    pub id: ObjectId,
    /// The process.
    pub pid: u32,
    /// Its workers by their numbers.
    pub workers: Vec<WorkerDump>,
}

/// What a worker does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerDump {
    /// The number.
    pub number: usize,
    /// The name that stands in the jobs that it performs.
    pub name: String,
    /// The job that it performs; without one it is idle.
    pub job: Option<JobDump>,
    /// Its thread, as far as the system tells.
    pub thread: Option<ThreadDump>,
}

/// A job in a worker's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobDump {
    /// The job.
    pub id: ObjectId,
    /// Its kind.
    pub kind: String,
    /// For how long it has been performed.
    pub duration: Duration,
    /// How far it says that it is, from 0 to 100.
    pub percent: u8,
    /// For how long it has been told to stop, if it was.
    pub stopping: Option<Duration>,
}

/// How a thread is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThreadDump {
    /// The system's id.
    pub id: i32,
    /// Whether it runs, in the system's word: `R` runs, `S` sleeps, `D` waits for a disk.
    pub state: char,
    /// Where in the kernel it sleeps, such as `futex_wait_queue`, if the system tells.
    pub waits_in: Option<String>,
}

impl Dump {
    pub(crate) fn of(post: &Post, crew: &Crew) -> Self {
        let server = post.now();
        let workers = crew
            .benches()
            .into_iter()
            .map(|(number, bench)| WorkerDump {
                number,
                name: worker_name(&server.name, number),
                job: bench.performing().as_ref().map(JobDump::of),
                thread: bench.thread().and_then(Thread::look),
            });
        Self {
            workers: workers.collect(),
            server: server.name,
            id: server.id,
            pid: std::process::id(),
        }
    }

    pub(crate) fn worker(&self, number: usize) -> Option<&WorkerDump> {
        self.workers.iter().find(|worker| worker.number == number)
    }

    /// Writes it to the log, a line for each worker.
    pub(crate) fn log(&self) {
        let busy = self
            .workers
            .iter()
            .filter(|worker| worker.job.is_some())
            .count();
        tracing::info!(
            server = self.server,
            workers = self.workers.len(),
            busy,
            "dump of all workers"
        );
        for worker in &self.workers {
            worker.log(&self.server);
        }
    }
}

impl WorkerDump {
    pub(crate) fn log(&self, server: &str) {
        tracing::info!(server, worker = self.name, "{self}");
    }
}

impl JobDump {
    fn of(performing: &Performing) -> Self {
        Self {
            id: performing.context.id(),
            kind: performing.context.kind().to_owned(),
            duration: performing.since.elapsed(),
            percent: performing.context.percent_complete(),
            stopping: performing.told.map(|told| told.elapsed()),
        }
    }
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server {} (process {})", self.server, self.pid)?;
        for worker in &self.workers {
            write!(f, "\n  {worker}")?;
        }
        Ok(())
    }
}

impl fmt::Display for WorkerDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {}: ", self.number)?;
        match &self.job {
            None => f.write_str("idle")?,
            Some(job) => {
                let JobDump {
                    id,
                    kind,
                    duration,
                    percent,
                    ..
                } = job;
                write!(f, "performs {kind} {id} for {duration:.1?} ({percent} %)")?;
                if let Some(stopping) = job.stopping {
                    write!(f, ", told to stop {stopping:.1?} ago")?;
                }
            }
        }
        if let Some(thread) = &self.thread {
            write!(f, "; thread {} {}", thread.id, thread.state)?;
            if let Some(waits_in) = &thread.waits_in {
                write!(f, " in {waits_in}")?;
            }
        }
        Ok(())
    }
}
