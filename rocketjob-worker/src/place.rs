//! Where the tasks and the workers of a server run.

use std::{future::Future, sync::Arc};

use rocketjob_core::{Error, Result};
use tokio::{runtime::Handle, task::JoinHandle};

use crate::worker::Worker;

/// Tasks on the I/O runtime and a thread for each worker; in a simulation, tasks for all.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    runtime: Handle,
    #[cfg(feature = "simulation")]
    process: Option<crate::simulation::Process>,
}

impl Place {
    /// In the runtime of the caller.
    pub(crate) fn current() -> Self {
        Self {
            runtime: Handle::current(),
            #[cfg(feature = "simulation")]
            process: None,
        }
    }

    /// In a simulated process, if there is one.
    #[cfg(feature = "simulation")]
    pub(crate) fn of(process: Option<crate::simulation::Process>) -> Self {
        Self {
            process,
            ..Self::current()
        }
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        #[cfg(feature = "simulation")]
        if let Some(process) = &self.process {
            return process.spawn(task);
        }
        self.runtime.spawn(task)
    }

    /// Starts a worker's thread.
    pub(crate) fn start(&self, name: &str, worker: Arc<Worker>) -> Result<Body> {
        #[cfg(feature = "simulation")]
        if let Some(process) = &self.process {
            return Ok(Body::Task(process.spawn(worker.run_as_task())));
        }
        let runtime = self.runtime.clone();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // Job code may use the I/O runtime: `tokio::spawn`, timers, the store's client.
                let _context = runtime.enter();
                worker.run();
            })
            .map(Body::Thread)
            .map_err(|error| {
                Error::configuration(format!("cannot start worker thread `{name}`: {error}"))
            })
    }
}

/// What a worker runs on.
#[derive(Debug)]
pub(crate) enum Body {
    Thread(std::thread::JoinHandle<()>),
    #[cfg(feature = "simulation")]
    Task(JoinHandle<()>),
}

impl Body {
    /// Whether it has ended, well or by a panic.
    pub(crate) fn is_finished(&self) -> bool {
        match self {
            Self::Thread(thread) => thread.is_finished(),
            #[cfg(feature = "simulation")]
            Self::Task(task) => task.is_finished(),
        }
    }
}
