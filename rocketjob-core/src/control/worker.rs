//! What single workers can be asked for.

use std::time::Duration;

use bson::{Document, doc, oid::ObjectId};

use super::{
    WORKER,
    parameter::{
        self, KILL, SERVER_ID, STOP, THREAD_DUMP, WAIT_TIMEOUT, WORKER_ID, action_of, in_seconds,
        unknown,
    },
};
use crate::{
    action::{Action, ActionError},
    encoding::integer,
    error::Result,
    event::Event,
    store::Store,
};

const ACTIONS: [&str; 3] = [KILL, STOP, THREAD_DUMP];

/// What a worker can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerAction {
    /// Ends after the job that it performs; another takes its place.
    Stop,
    /// As [`Stop`](Self::Stop), but a job that is not finished after `wait` is cancelled and handed
    /// back.
    Kill {
        /// How long the job may take to finish.
        wait: Duration,
    },
    /// Its server writes to its log what it does.
    ThreadDump,
}

impl WorkerAction {
    /// For how long a worker that is killed may go on, unless said otherwise: three seconds.
    pub const DEFAULT_WAIT: Duration = Duration::from_secs(3);

    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => STOP,
            Self::Kill { .. } => KILL,
            Self::ThreadDump => THREAD_DUMP,
        }
    }
}

/// A message to one worker of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerCommand {
    /// What is asked for.
    pub action: WorkerAction,
    /// The server.
    pub server: ObjectId,
    /// The worker's number, with which its name ends.
    pub worker: u32,
}

impl WorkerCommand {
    /// The event that carries it.
    pub fn to_event(&self, store: &Store) -> Event {
        Event::new(store, WORKER, self.action.as_str(), self.parameters())
    }

    /// What the event asks for.
    ///
    /// # Errors
    /// [`ActionError`] when it is not for a worker, or cannot be understood.
    pub fn from_event(event: &Event) -> Result<Self, ActionError> {
        let action = match action_of(event, WORKER)? {
            STOP => WorkerAction::Stop,
            KILL => {
                let wait = parameter::seconds(&event.parameters, WAIT_TIMEOUT)?;
                let wait = wait.unwrap_or(WorkerAction::DEFAULT_WAIT);
                WorkerAction::Kill { wait }
            }
            THREAD_DUMP => WorkerAction::ThreadDump,
            other => return Err(unknown(other, &ACTIONS)),
        };
        let missing = |key: &str| ActionError::Bad(format!("`{key}` is missing"));
        let server = parameter::id(&event.parameters, SERVER_ID)?;
        let worker = parameter::number(&event.parameters, WORKER_ID)?;
        Ok(Self {
            action,
            server: server.ok_or_else(|| missing(SERVER_ID))?,
            worker: worker.ok_or_else(|| missing(WORKER_ID))?,
        })
    }

    fn parameters(&self) -> Document {
        // The original compares the id as it is, and no text of it.
        let worker = integer(i64::from(self.worker));
        let mut parameters = doc! { SERVER_ID: self.server, WORKER_ID: worker };
        if let WorkerAction::Kill { wait } = self.action {
            parameters.insert(WAIT_TIMEOUT, in_seconds(wait));
        }
        parameters
    }
}

impl Action for WorkerCommand {
    fn from_event(event: &Event) -> Result<Self, ActionError> {
        Self::from_event(event)
    }

    fn to_parts(&self) -> Result<(String, Document)> {
        Ok((self.action.as_str().into(), self.parameters()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryStore;

    #[test]
    fn a_command_has_the_form_of_the_original_and_comes_back() {
        let store = Store::new(MemoryStore::new());
        let server = ObjectId::new();
        let actions = [
            WorkerAction::Stop,
            WorkerAction::Kill {
                wait: Duration::from_secs(3),
            },
            WorkerAction::ThreadDump,
        ];
        for action in actions {
            let command = WorkerCommand {
                action,
                server,
                worker: 7,
            };
            let event = command.to_event(&store);
            assert_eq!(event.name, "RocketJob::Subscribers::Worker");
            assert_eq!(event.parameters.get("server_id"), Some(&server.into()));
            assert_eq!(event.parameters.get("worker_id"), Some(&7_i32.into()));
            assert_eq!(WorkerCommand::from_event(&event), Ok(command));
        }
    }

    #[test]
    fn both_ids_are_needed() {
        let store = Store::new(MemoryStore::new());
        let server = ObjectId::new();
        let whole = doc! { "server_id": server.to_hex(), "worker_id": 2.0 };
        let read =
            |parameters| WorkerCommand::from_event(&Event::new(&store, WORKER, "stop", parameters));
        let command = WorkerCommand {
            action: WorkerAction::Stop,
            server,
            worker: 2,
        };
        assert_eq!(read(whole.clone()), Ok(command));
        for key in ["server_id", "worker_id"] {
            let mut part = whole.clone();
            part.remove(key);
            let Err(ActionError::Bad(text)) = read(part) else {
                panic!("{key} is missing");
            };
            assert_eq!(text, format!("`{key}` is missing"));
        }
    }
}
