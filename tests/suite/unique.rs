//! Unique: of jobs that are alike, one at a time, whoever creates them.

use std::time::Duration;

use bson::doc;
use rocketjob::{
    Concern, Created, Edits, Error, JobDocument, Kinds, NewJobOptions, NoState, Registry,
    UniqueKey, UniqueScope, edit, enqueue, name, prelude::*,
};
use serde::{Deserialize, Serialize};

use crate::stores::on_every_store;

/// One at a time for a customer and a city; a second one is refused.
#[derive(RocketJob, Serialize, Deserialize, Debug, Clone)]
#[rocketjob(kind = "UniqueRefusing", keep_completed)]
#[unique(by = [customer, "address.city"])]
struct Refusing {
    #[field(user_editable)]
    customer: i64,
    #[field(user_editable)]
    note: Option<String>,
    address: Address,
}

#[derive(Serialize, Deserialize, Debug, Clone)]
struct Address {
    city: String,
}

fn refusing(customer: i64, city: &str) -> Refusing {
    let address = Address { city: city.into() };
    let note = None;
    Refusing {
        customer,
        note,
        address,
    }
}

impl Perform for Refusing {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

/// One at a time for a customer, until it has ended well; a second one is the first.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "UniqueKeeping", keep_completed)]
#[unique(by = [customer], states = [queued, running, paused, failed], on_conflict = return_existing)]
struct Keeping {
    customer: i64,
    number: i64,
}

impl Perform for Keeping {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

/// The last one for a customer counts.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "UniqueReplacing", keep_completed)]
#[unique(by = Replacing::alike, on_conflict = replace)]
#[retry]
struct Replacing {
    customer: Option<String>,
    number: i64,
    extra: Option<String>,
}

impl Replacing {
    /// Whatever the case of the letters; one without a customer is like no other.
    fn alike(&self) -> Option<String> {
        self.customer
            .as_ref()
            .map(|customer| customer.to_lowercase())
    }
}

fn replacing(customer: &str, number: i64) -> Replacing {
    let customer = (!customer.is_empty()).then(|| customer.to_owned());
    Replacing {
        customer,
        number,
        extra: None,
    }
}

impl Perform for Replacing {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Err("not today".into())
    }
}

/// Two keys that do not stand in each other's way.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "UniqueTwice", keep_completed)]
#[singleton]
#[unique(by = [day], states = [queued, running, paused, failed])]
struct Twice {
    day: i64,
}

impl Perform for Twice {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

/// Another concern with a key among active jobs.
#[derive(Debug)]
struct Rival;

impl Concern for Rival {
    type State = NoState;

    fn name(&self) -> &'static str {
        "rival"
    }

    fn unique_key(&self, _job: &JobDocument, _state: &NoState) -> Option<UniqueKey> {
        Some(UniqueKey {
            key: "rival".into(),
            scope: UniqueScope::Active,
            reason: "State There is a rival".into(),
        })
    }
}

#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "UniqueCrowded")]
#[unique(by = [day])]
#[concern(Rival)]
struct Crowded {
    day: i64,
}

impl Perform for Crowded {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

fn kinds<T: Perform>() -> Kinds {
    let mut registry = Registry::new();
    registry.register::<T>().unwrap();
    Kinds::compiled(registry)
}

/// The job that stands in the way.
fn existing(error: &Error) -> bson::oid::ObjectId {
    match error {
        Error::Existing { existing, .. } => *existing,
        other => panic!("{other}"),
    }
}

on_every_store! {
    async fn a_second_job_that_is_alike_is_refused(fixture: &Fixture) {
        let store = &fixture.store;
        let first = refusing(1, "Bern").create(store).await.unwrap();
        let key = first.document().get(name::UNIQUE_KEY).unwrap().as_str().unwrap();
        assert_eq!(key, "unique:UniqueRefusing:customer=1,address.city=\"Bern\"");
        let error = refusing(1, "Bern").create(store).await.unwrap_err();
        let text = format!(
            "Validation failed: State Another job with the same customer and address.city is already queued or running (job {})",
            first.id()
        );
        assert_eq!(error.to_string(), text);
        let other = refusing(1, "Basel").create_unique(store).await.unwrap();
        assert!(matches!(other, Created::Inserted(_)), "{other:?}");
        fixture.server::<Refusing>().start().await.unwrap().run_until_idle().await.unwrap();
        refusing(1, "Bern").create(store).await.unwrap();
    }

    async fn a_second_job_may_be_the_first(fixture: &Fixture) {
        let store = &fixture.store;
        let keeping = |number| Keeping { customer: 1, number };
        let mut first = keeping(1).create(store).await.unwrap();
        let second = keeping(2).create_unique(store).await.unwrap();
        assert!(matches!(&second, Created::Existing(job) if job.id() == first.id() && job.number == 1));
        first.fail("by hand").await.unwrap();
        let third = keeping(3).create(store).await.unwrap();
        assert_eq!((third.id(), third.number, third.state()), (first.id(), 1, State::Failed));
        first.abort().await.unwrap();
        let fourth = keeping(4).create_unique(store).await.unwrap();
        assert!(matches!(&fourth, Created::Inserted(job) if job.number == 4));
        assert_eq!(Keeping::query(store).count().await.unwrap(), 2);
    }

    async fn a_second_job_may_take_the_place_of_the_first(fixture: &Fixture) {
        let store = &fixture.store;
        let mut first = replacing("Ada", 1);
        first.extra = Some("of the first alone".into());
        let later = rocketjob::after(store, Duration::from_hours(1));
        let first = first.priority(3).run_at(later).create(store).await.unwrap();
        let second = replacing("ADA", 2).description("second").create_unique(store).await.unwrap();
        let Created::Replaced(second) = second else { panic!("{second:?}") };
        assert_eq!((second.id(), second.number), (first.id(), 2));
        let stored = store.get(first.id()).await.unwrap().unwrap();
        assert_eq!(&stored, second.document());
        assert!(stored.is_ready());
        assert_eq!((stored.priority(), stored.run_at(), stored.get("extra")), (50, None, None));
        assert_eq!(stored.description(), Some("second"));
        assert_eq!(Replacing::query(store).count().await.unwrap(), 1);

        // One that waits for its next attempt begins anew.
        let server = fixture.server::<Replacing>().start().await.unwrap();
        server.run_until_idle().await.unwrap();
        let failed = store.get(first.id()).await.unwrap().unwrap();
        assert_eq!((failed.state(), failed.failure_count()), (State::Queued, 1));
        let third = replacing("ada", 3).create(store).await.unwrap();
        assert_eq!(third.id(), first.id());
        let third = third.document();
        assert_eq!((third.failure_count(), third.exception(), third.run_at()), (0, None, None));
        assert_eq!((third.hold(), third.started_at()), (None, None));
        assert!(third.get("retry_history").is_none_or(|list| list.as_array().unwrap().is_empty()));

        // Those without a customer are like no other.
        let alone = replacing("", 1).create_unique(store).await.unwrap();
        assert!(matches!(replacing("", 1).create_unique(store).await.unwrap(), Created::Inserted(_)));
        assert!(alone.job().document().get(name::UNIQUE_KEY).is_none());
    }

    async fn the_place_of_a_job_that_runs_is_not_taken(fixture: &Fixture) {
        let store = &fixture.store;
        let first = replacing("Ada", 1).create(store).await.unwrap();
        let claimer = rocketjob_testing::Claimer::new(store, ["UniqueReplacing"]);
        assert_eq!(claimer.claim(1).await.jobs.len(), 1);
        let error = replacing("Ada", 2).create_unique(store).await.unwrap_err();
        assert_eq!(existing(&error), first.id());
        assert!(error.to_string().contains("Another job with the same key is already queued or running"), "{error}");
        assert_eq!(Replacing::query(store).count().await.unwrap(), 1);
    }

    async fn a_retry_or_resume_into_a_conflict_tells_the_other_job(fixture: &Fixture) {
        let store = &fixture.store;
        let mut first = refusing(1, "Bern").create(store).await.unwrap();
        first.fail("by hand").await.unwrap();
        let mut second = refusing(1, "Bern").create(store).await.unwrap();
        let error = first.retry().await.unwrap_err();
        assert_eq!(existing(&error), second.id());
        assert!(error.to_string().contains("same customer and address.city"), "{error}");
        second.pause().await.unwrap();
        first.retry().await.unwrap();
        assert_eq!(existing(&second.resume().await.unwrap_err()), first.id());
    }

    async fn an_edit_moves_the_key_in_the_same_write(fixture: &Fixture) {
        let store = &fixture.store;
        let kinds = kinds::<Refusing>();
        let mut first = refusing(1, "Bern").create(store).await.unwrap();
        let second = refusing(2, "Bern").create(store).await.unwrap();
        let set = |field: &str, text: &str| Edits::new().set(field, text);
        let error = edit(store, &kinds, second.id(), &set("customer", "1")).await.unwrap_err();
        assert_eq!(existing(&error), first.id());
        let unchanged = store.get(second.id()).await.unwrap().unwrap();
        assert_eq!(&unchanged, second.document());
        edit(store, &kinds, second.id(), &set("customer", "3")).await.unwrap();
        refusing(2, "Bern").create(store).await.unwrap();
        assert_eq!(existing(&refusing(3, "Bern").create(store).await.unwrap_err()), second.id());
        // The same through a handle.
        first.customer = 3;
        assert_eq!(existing(&first.save().await.unwrap_err()), second.id());
        first.customer = 4;
        first.save().await.unwrap();
        assert_eq!(existing(&refusing(4, "Bern").create(store).await.unwrap_err()), first.id());
        refusing(1, "Bern").create(store).await.unwrap();
    }

    /// Who does not have the kind cannot tell what its key is made of.
    async fn an_edit_from_outside_its_program_is_refused(fixture: &Fixture) {
        let store = &fixture.store;
        let server = fixture.server::<Refusing>().workers(1).start().await.unwrap();
        let mut job = refusing(1, "Bern").create(store).await.unwrap();
        rocketjob_testing::eventually("it is completed", async || {
            job.reload().await.unwrap();
            (job.state() == State::Completed).then_some(())
        }).await;
        let later = rocketjob::after(store, Duration::from_hours(1));
        let job = refusing(1, "Bern").run_at(later).create(store).await.unwrap();
        let kinds = Kinds::of(store, Registry::new()).await.unwrap();
        let error = edit(store, &kinds, job.id(), &Edits::new().set("note", "x")).await.unwrap_err();
        let reason = "`note` may be part of the job's unique key: edit it with the program that performs the kind";
        assert!(error.to_string().contains(reason), "{error}");
        edit(store, &kinds, job.id(), &Edits::new().set("priority", "7")).await.unwrap();
        server.stop().await.unwrap();
    }

    async fn a_singleton_may_be_unique_among_those_that_are_not_over(fixture: &Fixture) {
        let store = &fixture.store;
        let mut first = Twice { day: 1 }.create(store).await.unwrap();
        assert_eq!(existing(&Twice { day: 2 }.create(store).await.unwrap_err()), first.id());
        first.fail("by hand").await.unwrap();
        assert_eq!(existing(&Twice { day: 1 }.create(store).await.unwrap_err()), first.id());
        let second = Twice { day: 2 }.create(store).await.unwrap();
        assert_eq!(existing(&first.retry().await.unwrap_err()), second.id());
    }

    async fn two_concerns_do_not_share_the_place_of_a_key(fixture: &Fixture) {
        let error = Crowded { day: 1 }.create(&fixture.store).await.unwrap_err();
        let reason = "`rival` holds a unique key while the job is in the same states as concern `unique` does";
        assert!(error.to_string().contains(reason), "{error}");
    }

    async fn jobs_from_json_and_many_at_once_are_held_to_it_too(fixture: &Fixture) {
        let store = &fixture.store;
        let first = replacing("Ada", 1).create(store).await.unwrap();
        let fields = doc! { "customer": "Ada", "number": 2 };
        let options = NewJobOptions::default();
        let job = enqueue(store, &kinds::<Replacing>(), "UniqueReplacing", fields, &options).await.unwrap();
        assert_eq!((job.id(), job.get("number")), (first.id(), Some(&2.into())));
        let many = Replacing::create_many(store, (3..10).map(|n| replacing("Ada", n))).await.unwrap();
        assert!(many.iter().all(|job| job.as_ref().unwrap().id() == first.id()));
        let last = Replacing::find(store, first.id()).await.unwrap().unwrap();
        assert_eq!(last.number, 9);
    }

    async fn of_200_concurrent_creates_one_is_inserted(fixture: &Fixture) {
        let store = &fixture.store;
        let refused = (0..200).map(|_| refusing(1, "Bern").create(store));
        let refused = futures_util::future::join_all(refused).await;
        assert_eq!(refused.iter().filter(|outcome| outcome.is_ok()).count(), 1);

        let kept = (0..200).map(|number| Keeping { customer: 1, number }.create_unique(store));
        let kept = futures_util::future::join_all(kept).await;
        let kept: Vec<_> = kept.into_iter().map(Result::unwrap).collect();
        let inserted = kept.iter().filter(|created| matches!(created, Created::Inserted(_)));
        assert_eq!(inserted.count(), 1);
        let number = kept[0].job().number;
        assert!(kept.iter().all(|created| created.job().number == number));

        let replaced = (0..200).map(|number| replacing("Ada", number).create_unique(store));
        let replaced = futures_util::future::join_all(replaced).await;
        let replaced: Vec<_> = replaced.into_iter().map(Result::unwrap).collect();
        let inserted = replaced.iter().filter(|created| matches!(created, Created::Inserted(_)));
        assert_eq!(inserted.count(), 1);
        assert!(!replaced.iter().any(|created| matches!(created, Created::Existing(_))));
        assert_eq!(Refusing::query(store).count().await.unwrap(), 1);
        assert_eq!(Keeping::query(store).count().await.unwrap(), 1);
        assert_eq!(Replacing::query(store).count().await.unwrap(), 1);
    }
}
