//! What servers can be asked for.

use std::{fmt, time::Duration};

use bson::{Document, doc, oid::ObjectId};

use super::{
    SERVER,
    parameter::{
        self, KILL, NAME, SERVER_ID, STOP, THREAD_DUMP, WAIT_TIMEOUT, action_of, in_seconds,
        unknown,
    },
};
use crate::{
    action::{Action, ActionError},
    error::Result,
    event::Event,
    server::ServerDocument,
    store::Store,
};

const PAUSE: &str = "pause";
const RESUME: &str = "resume";
const REFRESH: &str = "refresh";
const ACTIONS: [&str; 6] = [STOP, PAUSE, RESUME, KILL, REFRESH, THREAD_DUMP];

/// What a server can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerAction {
    /// Claims nothing more, lets its jobs finish, and ends.
    Stop,
    /// Claims nothing more until it is resumed.
    Pause,
    /// Claims again.
    Resume,
    /// As [`Stop`](Self::Stop), but what is not finished after `wait` is cancelled and handed back.
    Kill {
        /// How long jobs may take to finish.
        wait: Duration,
    },
    /// Gives a sign of life and looks at its own document at once.
    Refresh,
    /// Writes to its log what each of its workers does.
    ThreadDump,
}

impl ServerAction {
    /// For how long a server that is killed waits, unless said otherwise: five seconds.
    pub const DEFAULT_WAIT: Duration = Duration::from_secs(5);

    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => STOP,
            Self::Pause => PAUSE,
            Self::Resume => RESUME,
            Self::Kill { .. } => KILL,
            Self::Refresh => REFRESH,
            Self::ThreadDump => THREAD_DUMP,
        }
    }
}

/// Which servers are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Each of them.
    All,
    /// The one with this id.
    Server(ObjectId),
    /// The one with this name. Where servers are selected, as by
    /// [`pause_servers`](super::pause_servers), also all in whose names this is a part, when there
    /// is none of just this name.
    Named(String),
}

impl Target {
    /// Whether this server is meant.
    pub fn is(&self, id: ObjectId, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Server(server) => *server == id,
            Self::Named(text) => text == name,
        }
    }

    /// The servers among `servers` that are meant, in the same order.
    pub fn select<'s>(&self, servers: &'s [ServerDocument]) -> Vec<&'s ServerDocument> {
        let exact = servers
            .iter()
            .filter(|server| self.is(server.id, &server.name));
        let exact: Vec<_> = exact.collect();
        match self {
            Self::Named(text) if exact.is_empty() && !text.is_empty() => {
                let part = servers
                    .iter()
                    .filter(|server| server.name.contains(text.as_str()));
                part.collect()
            }
            _ => exact,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all servers"),
            Self::Server(id) => write!(f, "the server {id}"),
            Self::Named(name) => write!(f, "the server `{name}`"),
        }
    }
}

/// A message to servers.
///
/// ```
/// use rocketjob_core::{MemoryStore, Store, control::{ServerAction, ServerCommand, Target}};
///
/// let store = Store::new(MemoryStore::new());
/// let pause = ServerCommand {
///     action: ServerAction::Pause,
///     target: Target::Named("app1:4711".into()),
/// };
/// let event = pause.to_event(&store);
/// assert_eq!(event.name, "RocketJob::Subscribers::Server");
/// assert_eq!(ServerCommand::from_event(&event), Ok(pause));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerCommand {
    /// What is asked for.
    pub action: ServerAction,
    /// Of whom.
    pub target: Target,
}

impl ServerCommand {
    /// The event that carries it.
    pub fn to_event(&self, store: &Store) -> Event {
        Event::new(store, SERVER, self.action.as_str(), self.parameters())
    }

    /// What the event asks for.
    ///
    /// # Errors
    /// [`ActionError`] when it is not for servers, or cannot be understood.
    pub fn from_event(event: &Event) -> Result<Self, ActionError> {
        let action = match action_of(event, SERVER)? {
            STOP => ServerAction::Stop,
            PAUSE => ServerAction::Pause,
            RESUME => ServerAction::Resume,
            KILL => {
                let wait = parameter::seconds(&event.parameters, WAIT_TIMEOUT)?;
                let wait = wait.unwrap_or(ServerAction::DEFAULT_WAIT);
                ServerAction::Kill { wait }
            }
            REFRESH => ServerAction::Refresh,
            THREAD_DUMP => ServerAction::ThreadDump,
            other => return Err(unknown(other, &ACTIONS)),
        };
        let id = parameter::id(&event.parameters, SERVER_ID)?;
        let name = parameter::text(&event.parameters, NAME)?;
        let target = match (id, name) {
            (Some(id), _) => Target::Server(id),
            (None, Some(name)) => Target::Named(name),
            (None, None) => Target::All,
        };
        Ok(Self { action, target })
    }

    fn parameters(&self) -> Document {
        let mut parameters = match &self.target {
            Target::All => doc! {},
            Target::Server(id) => doc! { SERVER_ID: id },
            Target::Named(name) => doc! { NAME: name },
        };
        if let ServerAction::Kill { wait } = self.action {
            parameters.insert(WAIT_TIMEOUT, in_seconds(wait));
        }
        parameters
    }
}

impl Action for ServerCommand {
    fn from_event(event: &Event) -> Result<Self, ActionError> {
        Self::from_event(event)
    }

    fn to_parts(&self) -> Result<(String, Document)> {
        Ok((self.action.as_str().into(), self.parameters()))
    }
}

#[cfg(test)]
mod tests;
