//! What is done to jobs: to some by their ids, or to all that meet a condition.

use std::ops::ControlFlow;

use bson::oid::ObjectId;
use rocketjob_core::{
    Act, Ended, Error, Filter, Kinds, Query, ReadFrom, Steered, Store, Transition, steer_all,
    steer_one,
};
use serde_json::{Value, json};

use crate::{
    arguments::Selection,
    failure::Failure,
    interrupt::Interrupt,
    output::Output,
    view::{COLUMNS, job_json, row},
};

/// How many jobs a dry run shows.
const SAMPLE: usize = 5;

/// One thing that is done to jobs.
pub(super) struct Steering<'a> {
    pub(super) store: &'a Store,
    pub(super) kinds: &'a Kinds,
    pub(super) act: &'a Act,
    pub(super) selection: &'a Selection,
    pub(super) output: &'a Output,
}

impl Steering<'_> {
    /// To the jobs with these ids.
    pub(super) async fn each(&self, ids: &[ObjectId]) -> Result<(), Failure> {
        if self.destroys() && !self.selection.yes {
            let question = format!("{} {}?", self.verb(), count(ids.len() as u64));
            self.output.confirm(&question)?;
        }
        let mut jobs = Vec::new();
        let mut problems = Vec::new();
        for id in ids {
            match steer_one(self.store, self.kinds, *id, self.act).await {
                Ok(job) => jobs.push(job),
                Err(error @ (Error::Unavailable { .. } | Error::Storage(_))) => {
                    self.report(jobs.len() as u64, &problems, false)?;
                    return Err(error.into());
                }
                Err(error) => problems.push((*id, error)),
            }
        }
        self.report(jobs.len() as u64, &problems, false)?;
        match problems.into_iter().next() {
            None => Ok(()),
            Some((_, error)) if ids.len() == 1 => Err(error.into()),
            Some(_) if jobs.is_empty() => Err(Failure::other("none of the jobs allowed it")),
            Some(_) => Err(Failure::other("not all of the jobs allowed it")),
        }
    }

    /// To all that meet the condition.
    pub(super) async fn all(&self) -> Result<(), Failure> {
        let filter = match &self.selection.condition {
            Some(condition) => Filter::parse(condition, self.store.now())?,
            None => Filter::all(),
        };
        if self.selection.dry_run {
            return self.dry_run(filter).await;
        }
        let mut total = None;
        if self.destroys() && !self.selection.yes {
            let applicable = self.act.applicable(filter.clone());
            let number = self.store.count(&applicable, ReadFrom::Primary).await?;
            if number == 0 {
                return Err(self.nothing());
            }
            let question = format!("{} {}?", self.verb(), count(number));
            self.output.confirm(&question)?;
            total = Some(number);
        }
        let interrupt = Interrupt::listen();
        let bar = self.output.progress(total, self.verb());
        let progress = |steered: &Steered| {
            bar.set_position(steered.done + steered.refused);
            if interrupt.is_asked() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let (steered, ended) = steer_all(self.store, self.kinds, filter, self.act, progress).await;
        bar.finish_and_clear();
        self.conclude(&steered, ended)
    }

    fn conclude(&self, steered: &Steered, ended: Ended) -> Result<(), Failure> {
        let done = steered.done;
        let is_interrupted = matches!(ended, Ended::Interrupted);
        if matches!(ended, Ended::Completely) && done == 0 && steered.refused == 0 {
            return Err(self.nothing());
        }
        self.report_steered(steered, is_interrupted)?;
        match ended {
            Ended::Completely if steered.refused == 0 => Ok(()),
            Ended::Completely => Err(Failure::other(format!(
                "{} did not allow it",
                count(steered.refused)
            ))),
            Ended::Interrupted => Err(Failure::interrupted(format!(
                "interrupted: {} done, the others are as they were; the same command goes on",
                count(done)
            ))),
            Ended::Failed(error) => Err(error.into()),
        }
    }

    /// How many there are, and the first of them.
    async fn dry_run(&self, filter: Filter) -> Result<(), Failure> {
        let applicable = self.act.applicable(filter);
        let number = self.store.count(&applicable, ReadFrom::Primary).await?;
        if number == 0 {
            return Err(self.nothing());
        }
        let query = Query {
            limit: SAMPLE,
            ..Query::new(applicable)
        };
        let sample = self.store.find(&query).await?;
        if self.output.is_json() {
            let sample: Vec<_> = sample.iter().map(job_json).collect();
            let shown = json!({ "dry_run": true, "count": number, "sample": sample });
            return self.output.document(&shown);
        }
        let line = format!(
            "{} {}: a dry run, nothing was done",
            self.verb(),
            count(number)
        );
        self.output.line(&line)?;
        let now = self.store.now();
        let rows: Vec<_> = sample.iter().map(|job| row(job, now)).collect();
        self.output.line(&self.output.table(&COLUMNS, &rows))?;
        if number > SAMPLE as u64 {
            self.output
                .line(&format!("… and {} more", number - SAMPLE as u64))?;
        }
        Ok(())
    }

    fn report_steered(&self, steered: &Steered, is_interrupted: bool) -> Result<(), Failure> {
        if self.output.is_json() {
            let shown = outcome(
                steered.done,
                steered.refused,
                &steered.refusals,
                is_interrupted,
            );
            return self.output.document(&shown);
        }
        self.say(steered.done, &steered.refusals)
    }

    fn report(
        &self,
        done: u64,
        problems: &[(ObjectId, Error)],
        is_interrupted: bool,
    ) -> Result<(), Failure> {
        if self.output.is_json() {
            let shown = outcome(done, problems.len() as u64, problems, is_interrupted);
            return self.output.document(&shown);
        }
        self.say(done, problems)
    }

    fn say(&self, done: u64, problems: &[(ObjectId, Error)]) -> Result<(), Failure> {
        for (id, error) in problems {
            let text = error.chain();
            let text = if text.contains(&id.to_hex()) {
                text
            } else {
                format!("job {id}: {text}")
            };
            self.output.note(&text);
        }
        if done > 0 {
            self.output
                .line(&format!("{}: {}", self.done(), count(done)))?;
        }
        Ok(())
    }

    fn nothing(&self) -> Failure {
        Failure::nothing(match &self.selection.condition {
            Some(condition) => format!(
                "there is no job that meets `{condition}` and that one can {}",
                self.verb().to_lowercase()
            ),
            None => format!(
                "there is no job that one can {}",
                self.verb().to_lowercase()
            ),
        })
    }

    /// Whether it cannot be taken back.
    fn destroys(&self) -> bool {
        matches!(
            self.act,
            Act::Delete | Act::Transition(Transition::Abort, _)
        )
    }

    fn verb(&self) -> &'static str {
        match self.act {
            Act::Transition(Transition::Retry, _) => "Retry",
            Act::Transition(Transition::Abort, _) => "Abort",
            Act::Transition(Transition::Fail, _) => "Fail",
            Act::Transition(Transition::Pause, _) => "Pause",
            Act::Transition(Transition::Resume, _) => "Resume",
            Act::Transition(_, _) => "Steer",
            Act::RunNow => "Start now",
            Act::Delete => "Delete",
            Act::Edit(_) => "Change",
        }
    }

    fn done(&self) -> &'static str {
        match self.act {
            Act::Transition(Transition::Retry, _) => "retried",
            Act::Transition(Transition::Abort, _) => "aborted",
            Act::Transition(Transition::Fail, _) => "failed",
            Act::Transition(Transition::Pause, _) => "paused",
            Act::Transition(Transition::Resume, _) => "resumed",
            Act::Transition(_, _) => "steered",
            Act::RunNow => "started now",
            Act::Delete => "deleted",
            Act::Edit(_) => "changed",
        }
    }
}

fn outcome(done: u64, refused: u64, problems: &[(ObjectId, Error)], is_interrupted: bool) -> Value {
    let problems: Vec<_> = problems
        .iter()
        .map(|(id, error)| json!({ "id": id.to_hex(), "problem": error.chain() }))
        .collect();
    json!({
        "done": done,
        "refused": refused,
        "interrupted": is_interrupted,
        "problems": problems,
    })
}

fn count(number: u64) -> String {
    match number {
        1 => "1 job".to_owned(),
        _ => format!("{number} jobs"),
    }
}
