//! `jobs`: listed, shown, steered.

mod act;
mod list;

use bson::oid::ObjectId;
use rocketjob_core::{Act, Edits, Error, JobFailure, Kinds, Registry, Store, Transition};
use serde_json::json;

use crate::{
    arguments::{JobsCommand, Selection, SetArguments},
    failure::Failure,
    output::Output,
    view::{job_json, lines},
};

/// Does what the command says.
pub(crate) async fn jobs(
    store: &Store,
    registry: Registry,
    command: &JobsCommand,
    output: &Output,
) -> Result<(), Failure> {
    let (ids, selection, act) = match command {
        JobsCommand::List(arguments) => return list::list(store, arguments, output).await,
        JobsCommand::Show { ids } => return show(store, ids, output).await,
        JobsCommand::Set(arguments) => {
            let (ids, edits) = changes(arguments)?;
            (ids, &arguments.selection, Act::Edit(edits))
        }
        JobsCommand::Fail { jobs, message } => {
            let failure = Some(JobFailure::message(message));
            let act = Act::Transition(Transition::Fail, failure);
            (jobs.ids.clone(), &jobs.selection, act)
        }
        JobsCommand::Retry(jobs) => plain(jobs, Act::Transition(Transition::Retry, None)),
        JobsCommand::Abort(jobs) => plain(jobs, Act::Transition(Transition::Abort, None)),
        JobsCommand::Pause(jobs) => plain(jobs, Act::Transition(Transition::Pause, None)),
        JobsCommand::Resume(jobs) => plain(jobs, Act::Transition(Transition::Resume, None)),
        JobsCommand::RunNow(jobs) => plain(jobs, Act::RunNow),
        JobsCommand::Delete(jobs) => plain(jobs, Act::Delete),
    };
    let kinds = Kinds::of(store, registry).await?;
    let steering = act::Steering {
        store,
        kinds: &kinds,
        act: &act,
        selection,
        output,
    };
    match (ids.is_empty(), selection.all) {
        (true, true) => steering.all().await,
        (false, false) => steering.each(&ids).await,
        (true, false) => Err(Failure::usage(
            "which jobs? Give their ids, or --all with or without --where",
        )),
        (false, true) => Err(Failure::usage("give ids or --all, and not both")),
    }
}

fn plain(jobs: &crate::arguments::ActArguments, act: Act) -> (Vec<ObjectId>, &Selection, Act) {
    (jobs.ids.clone(), &jobs.selection, act)
}

/// The ids and the changes among the words of `set`.
fn changes(arguments: &SetArguments) -> Result<(Vec<ObjectId>, Edits), Failure> {
    let mut ids = Vec::new();
    let mut edits = Edits::new();
    let changes = arguments.changes.iter().map(|word| (word, true));
    for (word, must_change) in arguments
        .words
        .iter()
        .map(|word| (word, false))
        .chain(changes)
    {
        match (word.split_once('='), ObjectId::parse_str(word)) {
            (Some((field, text)), _) if !field.is_empty() => edits = edits.set(field, text),
            (None, Ok(id)) if !must_change => ids.push(id),
            _ => {
                return Err(Failure::usage(format!(
                    "`{word}` is neither an id nor a change such as priority=5"
                )));
            }
        }
    }
    if edits == Edits::new() {
        return Err(Failure::usage(
            "what is to be changed? Give changes such as priority=5",
        ));
    }
    Ok((ids, edits))
}

async fn show(store: &Store, ids: &[ObjectId], output: &Output) -> Result<(), Failure> {
    let mut jobs = Vec::with_capacity(ids.len());
    for id in ids {
        let job = store.get(*id).await?;
        jobs.push(job.ok_or(Error::NotFound { id: *id })?);
    }
    if output.is_json() {
        let shown: Vec<_> = jobs.iter().map(job_json).collect();
        return output.document(&json!({ "jobs": shown }));
    }
    let now = store.now();
    let shown: Vec<_> = jobs.iter().map(|job| lines(job, now)).collect();
    output.line(&shown.join("\n\n"))
}
