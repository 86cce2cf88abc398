//! One sequence of operations, done on the store and on the model.

use std::collections::{BTreeMap, BTreeSet};

use bson::{Bson, Document, doc, oid::ObjectId};
use rocketjob_core::{
    Change, Claim, Filter, Guard, Insertion, JobDocument, Outcome, Patch, Query, Refusal, Settled,
    Settlement, Sort, State, Store, Transition, date, later, name, sources,
};

use super::{
    super::{HOUR, before, failure},
    comparison::{Compared, OwnLimits, answers, meaning, running_slots, same},
    operation::{Conditions, KINDS, Mark, NewJob, Operation, Write},
    reference::{Answer, Claiming, Reference},
};
use crate::{Claimer, Harness, Wanted, claim_of, ids, job, operator, operator::Original};

const ALL: usize = 10_000;

/// Does all `operations`, and says where the store differs from the model.
pub(super) async fn check<H: Harness>(
    harness: &H,
    handles: &[Store; 2],
    operations: &[Operation],
) -> Result<(), String> {
    clear(&handles[0]).await;
    let mut case = Case {
        harness,
        model: Reference {
            now: handles[0].now(),
            jobs: Vec::new(),
        },
        inserted: Vec::new(),
        claims: Vec::new(),
        servers: (0..3)
            .map(|number| Claimer::new(&handles[number % 2], KINDS).with_workers(2))
            .collect(),
        store: handles[0].clone(),
    };
    for (number, operation) in operations.iter().enumerate() {
        case.store = handles[number % 2].clone();
        case.operate(operation)
            .await
            .map_err(|difference| format!("operation {number}, {operation:?}: {difference}"))?;
    }
    case.compare_documents().await
}

/// Removes what the case before left; running jobs go by an update only.
async fn clear(store: &Store) {
    let query = Query {
        limit: ALL,
        ..Query::new(Filter::all())
    };
    for job in store.find(&query).await.unwrap() {
        let patch = Patch {
            id: job.id(),
            guard: Guard::default(),
            change: Change::delete(),
        };
        store.update(patch).await.unwrap().unwrap();
    }
}

struct Case<'h, H> {
    harness: &'h H,
    model: Reference,
    /// All jobs so far, as they were inserted.
    inserted: Vec<JobDocument>,
    /// All claims so far, with the jobs as they were claimed.
    claims: Vec<(JobDocument, Claim)>,
    servers: Vec<Claimer>,
    store: Store,
}

impl<H: Harness> Case<'_, H> {
    async fn operate(&mut self, operation: &Operation) -> Compared {
        match operation {
            Operation::Insert(jobs) => self.insert(jobs).await,
            Operation::InsertAgain { job } => match pick(&self.inserted, *job).cloned() {
                Some(again) => self.insert_built(vec![again]).await,
                None => Ok(()),
            },
            Operation::Claim {
                server,
                count,
                kinds,
                conditions,
            } => self.claim(*server, *count, kinds, conditions).await,
            Operation::Settle(writes) => self.settle(writes).await,
            Operation::Operate { job, transition } => self.transition(*job, *transition).await,
            Operation::Step { job, step } => {
                let guard = Guard::default().matching(Filter::eq("step", *step));
                let change = Change::new().increment("step", 1).unset("seen.by");
                self.update(*job, guard, change).await
            }
            Operation::Remove { job, state } => {
                self.update(*job, Guard::states([*state]), Change::delete())
                    .await
            }
            Operation::Original { job, act } => self.original(*job, *act).await,
            Operation::Promote => {
                let promoted = self.store.promote(ALL).await.unwrap();
                same("promoted", &promoted, &self.model.promote())
            }
            Operation::Release { hold, count } => {
                let released = self.store.release(hold, *count).await.unwrap();
                same("released", &released, &self.model.release(hold, *count))
            }
            Operation::Delete { state, kind } => {
                let filter = Filter::state(*state).and(Filter::kinds([*kind]));
                let deleted = self.store.delete(&filter).await.unwrap();
                same("deleted", &deleted, &self.model.delete(&filter))
            }
            Operation::Look {
                step,
                descending,
                limit,
            } => {
                let query = Query {
                    sort: Sort::Priority,
                    descending: *descending,
                    limit: *limit,
                    ..Query::new(Filter::gte("step", *step))
                };
                let found = self.store.find(&query).await.unwrap();
                same("found", &ids(&found), &self.model.find(&query))
            }
            Operation::ClaimsOf { server } => {
                let server = self.servers[*server].server;
                let claims = self.store.claims_of(server, None, ALL).await.unwrap();
                same("claims", &ids(&claims), &self.model.claims_of(server))
            }
        }
    }

    async fn insert(&mut self, jobs: &[NewJob]) -> Compared {
        let built: Vec<JobDocument> = jobs.iter().map(|job| self.build(job)).collect();
        self.inserted.extend(built.iter().cloned());
        self.insert_built(built).await
    }

    async fn insert_built(&mut self, jobs: Vec<JobDocument>) -> Compared {
        let insertions = self.store.insert(jobs.clone()).await.unwrap();
        same("insertions", &insertions.len(), &jobs.len())?;
        for (job, insertion) in jobs.iter().zip(insertions) {
            let refusal = match insertion {
                Insertion::Inserted => None,
                Insertion::Existing(id) => Some(Refusal::Existing(id)),
            };
            answers(refusal, &self.model.insert(job))?;
        }
        Ok(())
    }

    fn build(&self, new: &NewJob) -> JobDocument {
        let now = self.model.now;
        let plain = job(new.kind)
            .priority(new.priority)
            .set("step", new.step)
            .set("limit", new.limit)
            .set(name::UNIQUE_KEY, new.unique)
            .set(name::UNFINISHED_KEY, new.unfinished)
            .keep();
        let marked = match new.mark {
            Mark::Ready => plain,
            Mark::Early => plain.set(name::RUN_AT, date(later(now, HOUR))),
            Mark::Scheduled => plain.scheduled(later(now, HOUR)),
            Mark::Due => plain.scheduled(before(now, HOUR)),
            Mark::Held => plain.held("held"),
            Mark::Unmarked => plain.unmarked(),
            Mark::UnmarkedScheduled => plain.unmarked().set(name::RUN_AT, date(later(now, HOUR))),
        };
        let document: Document = marked
            .document(&self.store)
            .into_iter()
            .filter(|(_, value)| *value != Bson::Null)
            .collect();
        JobDocument::new(document).expect("the factory makes valid jobs")
    }

    async fn claim(
        &mut self,
        server: usize,
        count: usize,
        kinds: &[&str],
        conditions: &Conditions,
    ) -> Compared {
        let kinds: Vec<String> = kinds.iter().map(|kind| (*kind).to_owned()).collect();
        let limits = OwnLimits;
        let step = match conditions {
            Conditions::Step(step) => Some(Filter::eq("step", *step)),
            _ => None,
        };
        let mut wanted = Wanted {
            filter: step.as_ref(),
            ..Wanted::count(count)
        };
        match conditions {
            Conditions::Limits => wanted.limits = &limits,
            Conditions::Skip(skip) => wanted.skip = *skip,
            Conditions::None | Conditions::Step(_) => {}
        }
        let claimer = &mut self.servers[server];
        claimer.kinds.clone_from(&kinds);
        let claimed = claimer.claim_wanted(&wanted).await.jobs;
        let expected = self.model.claim(&Claiming {
            token: claimer.last_token().to_string(),
            workers: &claimer.workers,
            count,
            kinds: &kinds,
            filter: wanted.filter,
            skip: wanted.skip,
            observes_limits: matches!(conditions, Conditions::Limits),
        });
        same("claimed", &ids(&claimed), &expected)?;
        for job in claimed {
            let stored = self.model.get(job.id()).map(JobDocument::into_document);
            let told = Some(meaning(job.as_document()));
            same("claimed job", &told, &stored.as_ref().map(meaning))?;
            let claim = claim_of(&job);
            self.claims.push((job, claim));
        }
        Ok(())
    }

    async fn settle(&mut self, writes: &[(usize, Write)]) -> Compared {
        let patches: Vec<Patch> = writes
            .iter()
            .filter_map(|(claim, write)| {
                let (job, claim) = pick(&self.claims, *claim)?;
                Some(self.patch(job, claim.clone(), *write))
            })
            .collect();
        let settled = self.store.settle(patches.clone()).await.unwrap();
        same("settled", &settled.len(), &patches.len())?;
        let deletions = patches.iter().filter(|patch| patch.change.delete).count();
        for (patch, settled) in patches.iter().zip(settled) {
            let refusal = match settled {
                Settled::Accepted => None,
                Settled::Refused(refusal) => Some(refusal),
            };
            let answer = self.model.settle(patch);
            // Among several deletions a store need not know which of the jobs were gone before.
            let gone = matches!(answer, Answer::Refused(Refusal::NotFound));
            let may_be_told_either_way = gone && patch.change.delete && deletions > 1;
            if !(may_be_told_either_way && refusal.is_none()) {
                answers(refusal, &answer)?;
            }
        }
        Ok(())
    }

    fn patch(&self, job: &JobDocument, claim: Claim, write: Write) -> Patch {
        let now = self.model.now;
        let retry = |run_at| Outcome::Retry {
            failure: failure(),
            run_at,
        };
        let outcome = match write {
            Write::Complete => Outcome::Complete,
            Write::Fail => Outcome::Fail(failure()),
            Write::RetryNow => retry(now),
            Write::RetryLater => retry(later(now, HOUR)),
            Write::Abort => Outcome::Abort(failure()),
            Write::HandBack => Outcome::HandBack,
            Write::Expire => Outcome::Expire,
            Write::CompleteAndDelete | Write::Save(_) | Write::TakeKey(_) => {
                return Patch {
                    id: job.id(),
                    guard: Guard::claimed(claim),
                    change: match write {
                        Write::Save(step) => Change::new()
                            .set("step", step)
                            .set("seen", doc! { "by": &job.id().to_hex() }),
                        Write::TakeKey(key) => Change::new().set(name::UNIQUE_KEY, key),
                        _ => Change::delete(),
                    },
                };
            }
        };
        let saved = Change::new().increment("performed", 1);
        Settlement::new(job, now, outcome, false, saved)
            .render(claim)
            .patch
    }

    async fn transition(&mut self, number: usize, transition: Transition) -> Compared {
        let Some(id) = pick(&self.inserted, number).map(JobDocument::id) else {
            return Ok(());
        };
        // The change is made for the job as the operator saw it, which may have moved on.
        let seen = self.model.get(id);
        let seen = seen.unwrap_or_else(|| self.inserted[number % self.inserted.len()].clone());
        let guard = Guard::states(sources(transition, true));
        let change = operator::change(transition, &seen, self.model.now);
        self.update(number, guard, change).await
    }

    async fn update(&mut self, number: usize, guard: Guard, change: Change) -> Compared {
        let Some(id) = pick(&self.inserted, number).map(JobDocument::id) else {
            return Ok(());
        };
        let patch = Patch { id, guard, change };
        let before = self.model.get(id);
        let updated = self.store.update(patch.clone()).await.unwrap();
        let expected = self.model.update(&patch);
        answers(updated.as_ref().err().copied(), &expected)?;
        if let Ok(told) = updated {
            let image = self.model.get(id).or(before);
            let image = image.map(JobDocument::into_document);
            let told = Some(meaning(told.as_document()));
            same("updated job", &told, &image.as_ref().map(meaning))?;
        }
        Ok(())
    }

    async fn original(&mut self, number: usize, act: Original) -> Compared {
        let Some(job) =
            pick(&self.inserted, number).and_then(|inserted| self.model.get(inserted.id()))
        else {
            return Ok(());
        };
        let allowed = match act {
            Original::Abort => !job.state().is_end(),
            Original::Pause => matches!(job.state(), State::Queued | State::Running),
            Original::Requeue => job.state() == State::Running,
            // What the original starts may not collide with a place of ours: a store may refuse it.
            Original::Start => job.state() == State::Queued && job.get(name::SLOTS).is_none(),
        };
        if allowed {
            let set = act.writes(self.model.now);
            self.harness.write_raw(job.id(), set.clone(), &[]).await;
            let change = Change {
                set,
                ..Change::new()
            };
            self.model.write(job.id(), &change);
        }
        Ok(())
    }

    async fn compare_documents(&self) -> Compared {
        let mut slots = BTreeSet::new();
        let mut stored = BTreeMap::new();
        for id in self.inserted.iter().map(JobDocument::id) {
            if let Some(document) = self.harness.raw(id).await {
                for slot in running_slots(&document) {
                    if !slots.insert(slot.clone()) {
                        return Err(format!("the place {slot} is taken twice"));
                    }
                }
                stored.insert(id, meaning(&document));
            }
        }
        let expected: BTreeMap<ObjectId, _> = self
            .model
            .jobs
            .iter()
            .filter_map(|document| {
                Some((document.get_object_id(name::ID).ok()?, meaning(document)))
            })
            .collect();
        for (id, document) in &expected {
            same("stored", &stored.get(id), &Some(document))?;
        }
        same("stored jobs", &stored.len(), &expected.len())?;
        let all = Query {
            limit: ALL,
            ..Query::new(Filter::all())
        };
        let found = ids(&self.store.find(&all).await.unwrap());
        same("all jobs", &found, &expected.into_keys().collect())
    }
}

fn pick<T>(items: &[T], number: usize) -> Option<&T> {
    items.get(number % items.len().max(1))
}
