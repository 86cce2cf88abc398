//! What the log of processes can be asked for.

use bson::{Document, doc};

use super::{
    LOGGER,
    parameter::{self, CLASS_NAME, HOST_NAME, LEVEL, PID, THREAD_DUMP, action_of, unknown},
};
use crate::{
    action::{Action, ActionError},
    definition::LogLevel,
    encoding::integer,
    error::Result,
    event::Event,
    store::Store,
};

const SET: &str = "set";
const ACTIONS: [&str; 2] = [SET, THREAD_DUMP];

/// A message to the log of all processes, or of those on one host, or of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogAction {
    /// From now on what has this level, or a more serious one, is written.
    Set {
        /// The level.
        level: LogLevel,
        /// Of this module and those in it, such as `app::mail`; of all without one.
        module: Option<String>,
        /// On this host only.
        host: Option<String>,
        /// In the process with this id only.
        pid: Option<u32>,
    },
    /// What each thread does is written.
    ThreadDump {
        /// On this host only.
        host: Option<String>,
        /// In the process with this id only.
        pid: Option<u32>,
    },
}

impl LogAction {
    /// The name.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Set { .. } => SET,
            Self::ThreadDump { .. } => THREAD_DUMP,
        }
    }

    /// Whether the process `pid` on `host` is meant.
    pub fn is_for(&self, host: &str, pid: u32) -> bool {
        let (Self::Set {
            host: on, pid: of, ..
        }
        | Self::ThreadDump { host: on, pid: of }) = self;
        on.as_ref().is_none_or(|on| on == host) && of.is_none_or(|of| of == pid)
    }

    /// The event that carries it.
    pub fn to_event(&self, store: &Store) -> Event {
        Event::new(store, LOGGER, self.as_str(), self.parameters())
    }

    /// What the event asks for.
    ///
    /// # Errors
    /// [`ActionError`] when it is not for the log, or cannot be understood.
    pub fn from_event(event: &Event) -> Result<Self, ActionError> {
        let action = action_of(event, LOGGER)?;
        let parameters = &event.parameters;
        let host = parameter::text(parameters, HOST_NAME)?;
        let pid = parameter::number(parameters, PID)?;
        match action {
            SET => Ok(Self::Set {
                level: level(parameters)?,
                module: parameter::text(parameters, CLASS_NAME)?,
                host,
                pid,
            }),
            THREAD_DUMP => Ok(Self::ThreadDump { host, pid }),
            other => Err(unknown(other, &ACTIONS)),
        }
    }

    fn parameters(&self) -> Document {
        let mut parameters = doc! {};
        let (Self::Set { host, pid, .. } | Self::ThreadDump { host, pid }) = self;
        if let Self::Set { level, module, .. } = self {
            parameters.insert(LEVEL, level.as_str());
            parameters.extend(
                module
                    .iter()
                    .map(|module| (CLASS_NAME.to_owned(), module.into())),
            );
        }
        parameters.extend(host.iter().map(|host| (HOST_NAME.to_owned(), host.into())));
        parameters.extend(
            pid.iter()
                .map(|pid| (PID.to_owned(), integer(i64::from(*pid)))),
        );
        parameters
    }
}

/// The level; `info` when none is given, as in the original.
fn level(parameters: &Document) -> Result<LogLevel, ActionError> {
    let Some(text) = parameter::text(parameters, LEVEL)? else {
        return Ok(LogLevel::Info);
    };
    LogLevel::from_name(&text.to_lowercase()).ok_or_else(|| {
        let known = LogLevel::ALL.map(LogLevel::as_str).join("`, `");
        ActionError::Bad(format!("there is no level `{text}`: there are `{known}`"))
    })
}

impl Action for LogAction {
    fn from_event(event: &Event) -> Result<Self, ActionError> {
        Self::from_event(event)
    }

    fn to_parts(&self) -> Result<(String, Document)> {
        Ok((self.as_str().into(), self.parameters()))
    }
}

#[cfg(test)]
mod tests {
    use bson::Bson;

    use super::*;
    use crate::memory::MemoryStore;

    #[test]
    fn a_message_has_the_form_of_the_original_and_comes_back() {
        let store = Store::new(MemoryStore::new());
        let set = LogAction::Set {
            level: LogLevel::Debug,
            module: Some("app::mail".into()),
            host: Some("app1".into()),
            pid: Some(4711),
        };
        let event = set.to_event(&store);
        assert_eq!(event.name, "RocketJob::Subscribers::Logger");
        let parameters = doc! {
            "level": "debug", "class_name": "app::mail", "host_name": "app1", "pid": 4711_i32,
        };
        assert_eq!(event.parameters, parameters);
        assert_eq!(LogAction::from_event(&event), Ok(set));
        let dump = LogAction::ThreadDump {
            host: None,
            pid: None,
        };
        let event = dump.to_event(&store);
        assert_eq!(event.parameters, doc! {});
        assert_eq!(LogAction::from_event(&event), Ok(dump));
    }

    #[test]
    fn levels_are_read_as_the_original_writes_them() {
        let store = Store::new(MemoryStore::new());
        let read = |level: Bson| {
            let parameters = doc! { "level": level, "host_name": Bson::Null };
            LogAction::from_event(&Event::new(&store, LOGGER, "set", parameters))
        };
        let set = |level| {
            Ok(LogAction::Set {
                level,
                module: None,
                host: None,
                pid: None,
            })
        };
        assert_eq!(read(Bson::Symbol("trace".into())), set(LogLevel::Trace));
        assert_eq!(read("WARN".into()), set(LogLevel::Warn));
        assert_eq!(read(Bson::Null), set(LogLevel::Info));
        assert!(matches!(read("loud".into()), Err(ActionError::Bad(_))));
    }

    #[test]
    fn a_message_is_for_those_who_meet_all_that_it_says() {
        let dump = |host: Option<&str>, pid| LogAction::ThreadDump {
            host: host.map(Into::into),
            pid,
        };
        assert!(dump(None, None).is_for("a", 1));
        assert!(dump(Some("a"), Some(1)).is_for("a", 1));
        assert!(!dump(Some("b"), Some(1)).is_for("a", 1));
        assert!(!dump(Some("a"), Some(2)).is_for("a", 1));
    }
}
