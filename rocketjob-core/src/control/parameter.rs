//! Parameters as the original and others write them.

use std::time::Duration;

use bson::{Bson, Document, oid::ObjectId};

use crate::{
    action::ActionError,
    encoding::{integer, whole_number},
    event::Event,
};

pub(super) const SERVER_ID: &str = "server_id";
pub(super) const NAME: &str = "name";
pub(super) const WORKER_ID: &str = "worker_id";
pub(super) const WAIT_TIMEOUT: &str = "wait_timeout";
pub(super) const LEVEL: &str = "level";
pub(super) const CLASS_NAME: &str = "class_name";
pub(super) const HOST_NAME: &str = "host_name";
pub(super) const PID: &str = "pid";

pub(super) const KILL: &str = "kill";
pub(super) const STOP: &str = "stop";
pub(super) const THREAD_DUMP: &str = "thread_dump";

/// Nobody means to wait for longer.
const LONGEST: Duration = Duration::from_hours(24);

/// What an event asks for, if it is addressed to `name`.
pub(super) fn action_of<'e>(event: &'e Event, name: &str) -> Result<&'e str, ActionError> {
    if event.name != name {
        let text = format!(
            "the event is addressed to `{}`, not to `{name}`",
            event.name
        );
        return Err(ActionError::Bad(text));
    }
    Ok(event.action.as_deref().unwrap_or_default())
}

pub(super) fn unknown(action: &str, known: &[&str]) -> ActionError {
    let known = known.join("`, `");
    ActionError::Unknown(format!(
        "there is no action `{action}`: there are `{known}`"
    ))
}

fn bad(key: &str, value: &Bson, wanted: &str) -> ActionError {
    ActionError::Bad(format!("`{key}` is {value}, which is not {wanted}"))
}

fn present<'d>(parameters: &'d Document, key: &str) -> Option<&'d Bson> {
    parameters
        .get(key)
        .filter(|value| !matches!(value, Bson::Null))
}

/// An id, or its text.
pub(super) fn id(parameters: &Document, key: &str) -> Result<Option<ObjectId>, ActionError> {
    let Some(value) = present(parameters, key) else {
        return Ok(None);
    };
    let id = match value {
        Bson::ObjectId(id) => Some(*id),
        Bson::String(text) | Bson::Symbol(text) => text.parse().ok(),
        _ => None,
    };
    id.map(Some).ok_or_else(|| bad(key, value, "an id"))
}

/// Text; an empty one is none.
pub(super) fn text(parameters: &Document, key: &str) -> Result<Option<String>, ActionError> {
    match present(parameters, key) {
        None => Ok(None),
        Some(Bson::String(text) | Bson::Symbol(text)) => {
            Ok((!text.is_empty()).then(|| text.clone()))
        }
        Some(other) => Err(bad(key, other, "text")),
    }
}

/// A whole number that is not negative, or its text.
pub(super) fn number(parameters: &Document, key: &str) -> Result<Option<u32>, ActionError> {
    let Some(value) = present(parameters, key) else {
        return Ok(None);
    };
    let number = match value {
        Bson::String(text) | Bson::Symbol(text) => text.parse().ok(),
        // One without a fraction.
        Bson::Double(number) => number.to_string().parse().ok(),
        other => whole_number(other).and_then(|number| u32::try_from(number).ok()),
    };
    number.map(Some).ok_or_else(|| bad(key, value, "a number"))
}

/// Seconds, with or without a fraction, or their text.
pub(super) fn seconds(parameters: &Document, key: &str) -> Result<Option<Duration>, ActionError> {
    let Some(value) = present(parameters, key) else {
        return Ok(None);
    };
    let seconds = match value {
        Bson::Double(seconds) => Some(*seconds),
        Bson::String(text) | Bson::Symbol(text) => text.parse().ok(),
        other => whole_number(other)
            .and_then(|seconds| u32::try_from(seconds).ok())
            .map(f64::from),
    };
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration
        .map(|duration| Some(duration.min(LONGEST)))
        .ok_or_else(|| bad(key, value, "a number of seconds"))
}

/// Seconds in the form in which [`seconds`] reads them.
pub(super) fn in_seconds(duration: Duration) -> Bson {
    if duration.subsec_nanos() == 0 {
        integer(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX))
    } else {
        Bson::Double(duration.as_secs_f64())
    }
}
