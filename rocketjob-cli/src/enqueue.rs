//! `enqueue`: a new job from JSON.

use std::io::Read;

use bson::{Bson, Document};
use jiff::Timestamp;
use rocketjob_core::{
    Kinds, LogLevel, NewJobOptions, Registry, Store, moment, prepare_job, timestamp,
};
use serde_json::json;

use crate::{arguments::EnqueueArguments, failure::Failure, output::Output, view::job_json};

/// Creates a job, or shows what it would be.
pub(crate) async fn enqueue(
    store: &Store,
    registry: Registry,
    arguments: &EnqueueArguments,
    output: &Output,
) -> Result<(), Failure> {
    let kinds = Kinds::of(store, registry).await?;
    if kinds.published(&arguments.kind).is_none() {
        let problem = kinds
            .expect(&arguments.kind)
            .map(drop)
            .map_err(|error| error.to_string());
        return Err(Failure::nothing(problem.err().unwrap_or_default()));
    }
    let fields = fields(&arguments.fields)?;
    let options = options(arguments, store.now())?;
    if arguments.dry_run {
        let job = prepare_job(store, &kinds, &arguments.kind, fields, &options)?;
        let shown = json!({ "dry_run": true, "job": job_json(&job) });
        return output.document(&shown);
    }
    let job = rocketjob_core::enqueue(store, &kinds, &arguments.kind, fields, &options).await?;
    if output.is_json() {
        return output.document(&json!({ "job": job_json(&job) }));
    }
    output.line(&job.id().to_hex())
}

fn fields(text: &str) -> Result<Document, Failure> {
    let mut input = String::new();
    let text = if text == "-" {
        std::io::stdin()
            .read_to_string(&mut input)
            .map_err(|error| Failure::usage(format!("the input cannot be read: {error}")))?;
        &input
    } else {
        text
    };
    let json: serde_json::Value = serde_json::from_str(text)
        .map_err(|error| Failure::usage(format!("the fields are no valid JSON: {error}")))?;
    match Bson::try_from(json) {
        Ok(Bson::Document(fields)) => Ok(fields),
        Ok(other) => Err(Failure::usage(format!(
            "the fields must be a JSON object such as {{\"name\": \"value\"}}, and not {other}"
        ))),
        Err(error) => Err(Failure::usage(format!("the fields make no sense: {error}"))),
    }
}

fn options(arguments: &EnqueueArguments, now: Timestamp) -> Result<NewJobOptions, Failure> {
    let time = |option: &str, text: &Option<String>| {
        match text {
        None => Ok(None),
        Some(text) => moment(text, now)
            .and_then(|moment| timestamp(moment.start()))
            .map(Some)
            .ok_or_else(|| {
                Failure::usage(format!(
                    "{option} takes a time such as `+2h`, `2026-01-31` or `2026-01-31T12:00`, and not `{text}`"
                ))
            }),
    }
    };
    let level = match &arguments.log_level {
        None => None,
        Some(text) => Some(LogLevel::from_name(text).ok_or_else(|| {
            let known = LogLevel::ALL.map(LogLevel::as_str).join(", ");
            Failure::usage(format!(
                "--log-level takes one of {known}, and not `{text}`"
            ))
        })?),
    };
    Ok(NewJobOptions {
        priority: arguments.priority,
        description: arguments.description.clone(),
        run_at: time("--run-at", &arguments.run_at)?,
        expires_at: time("--expires-at", &arguments.expires_at)?,
        log_level: level,
        keep_completed: arguments.keep_completed,
        throttle_group: arguments.throttle_group.clone(),
    })
}
