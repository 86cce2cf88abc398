//! Jobs as they are shown.

use std::fmt::Write;

use bson::Bson;
use jiff::Timestamp;
use rocketjob_core::{JobDocument, name};
use serde_json::{Map, Value, json};

use crate::table::Column;

/// A value of a document as JSON; what JSON lacks as MongoDB's extended JSON.
fn value_json(value: &Bson) -> Value {
    match value {
        Bson::ObjectId(id) => id.to_hex().into(),
        Bson::DateTime(date) => match rocketjob_core::timestamp(*date) {
            Some(time) => time.to_string().into(),
            None => value.clone().into_relaxed_extjson(),
        },
        Bson::Array(items) => items.iter().map(value_json).collect(),
        Bson::Document(document) => document
            .iter()
            .map(|(key, value)| (key.clone(), value_json(value)))
            .collect::<Map<_, _>>()
            .into(),
        other => other.clone().into_relaxed_extjson(),
    }
}

fn time(time: Option<Timestamp>) -> Value {
    time.map_or(Value::Null, |time| time.to_string().into())
}

/// A job in the stable form: each member is always there, `null` where there is nothing.
pub(crate) fn job_json(job: &JobDocument) -> Value {
    let fields: Map<String, Value> = job
        .as_document()
        .iter()
        .filter(|(key, _)| !name::is_envelope(key))
        .map(|(key, value)| (key.clone(), value_json(value)))
        .collect();
    let exception = job.exception().map(|failure| {
        json!({
            "class": failure.class_name,
            "message": failure.message,
            "worker": failure.worker_name,
            "backtrace": failure.backtrace,
        })
    });
    json!({
        "id": job.id().to_hex(),
        "kind": job.kind(),
        "state": job.state().as_str(),
        "priority": job.priority(),
        "description": job.description(),
        "created_at": time(job.created_at()),
        "run_at": time(job.run_at()),
        "expires_at": time(job.expires_at()),
        "started_at": time(job.started_at()),
        "completed_at": time(job.completed_at()),
        "percent_complete": job.percent_complete(),
        "failure_count": job.failure_count(),
        "lost_claims": job.lost_claims(),
        "keep_completed": !job.destroy_on_complete(),
        "log_level": job.log_level().map(rocketjob_core::LogLevel::as_str),
        "throttle_group": job.throttle_group(),
        "hold": job.hold(),
        "worker": job.worker_name(),
        "exception": exception,
        "fields": fields,
    })
}

/// The columns of a list of jobs.
pub(crate) const COLUMNS: [Column; 7] = [
    Column::whole("ID"),
    Column::whole("KIND"),
    Column::whole("STATE"),
    Column::spare("PRIO"),
    Column::spare("CREATED"),
    Column::rest("DESCRIPTION"),
    Column::rest("FAILURE"),
];

/// The row of a job in a list, at the store's time `now`.
pub(crate) fn row(job: &JobDocument, now: Timestamp) -> Vec<String> {
    let state = if job.is_scheduled(now) {
        let due = job.run_at().map(|run_at| length(now, run_at));
        format!("scheduled in {}", due.unwrap_or_default())
    } else {
        job.state().to_string()
    };
    let failure = job.exception().map(|failure| failure.to_string());
    vec![
        job.id().to_hex(),
        job.kind().to_owned(),
        state,
        job.priority().to_string(),
        ago(job.created_at(), now),
        first_line(job.description().unwrap_or_default()),
        first_line(&failure.unwrap_or_default()),
    ]
}

/// A job with everything that is known of it, a line each.
pub(crate) fn lines(job: &JobDocument, now: Timestamp) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(text, "{label:<18}{value}");
    };
    for (field, value) in job.as_document() {
        match (field.as_str(), value) {
            (_, Bson::Null) | (name::EXCEPTION, _) => {}
            (name::ID, _) => line("id", &job.id().to_hex()),
            (name::KIND, _) => line("kind", job.kind()),
            (field, Bson::DateTime(date)) => {
                let time = rocketjob_core::timestamp(*date);
                let shown = time.map_or_else(|| date.to_string(), |time| time.to_string());
                line(field, &format!("{shown} ({})", relative(time, now)));
            }
            (field, value) => line(field, &plain(value)),
        }
    }
    if let Some(failure) = job.exception() {
        line("failure", &failure.class_name);
        for part in failure
            .message
            .lines()
            .chain(failure.backtrace.iter().map(String::as_str))
        {
            line("", part);
        }
    }
    text.trim_end().to_owned()
}

fn plain(value: &Bson) -> String {
    match value_json(value) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn first_line(text: &str) -> String {
    const LONGEST: usize = 60;
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= LONGEST {
        return line.to_owned();
    }
    let start: String = line.chars().take(LONGEST - 1).collect();
    format!("{start}…")
}

fn relative(time: Option<Timestamp>, now: Timestamp) -> String {
    match time {
        Some(time) if time > now => format!("in {}", length(now, time)),
        time => ago(time, now),
    }
}

/// How long ago something was.
pub(crate) fn ago(time: Option<Timestamp>, now: Timestamp) -> String {
    time.map_or_else(String::new, |time| format!("{} ago", length(time, now)))
}

/// How long it is from one moment to another, in one unit.
pub(crate) fn length(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.as_second().saturating_sub(from.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}
