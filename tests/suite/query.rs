//! Looking for jobs and changing them through typed handles.

use std::time::Duration;

use rocketjob::{Error, Filter, ReadFrom, Sort, after, name, prelude::*};
use serde::{Deserialize, Serialize};
use validator::Validate;

use crate::stores::on_every_store;

/// An order to be packed.
#[derive(RocketJob, Serialize, Deserialize, Validate, Debug)]
#[rocketjob(keep_completed)]
struct PackOrder {
    #[validate(range(min = 1))]
    order: i64,
    country: Option<String>,
    #[field(default = vec!["standard".to_owned()])]
    tags: Vec<String>,
}

impl Perform for PackOrder {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

fn pack(order: i64, country: &str) -> PackOrder {
    PackOrder {
        order,
        country: Some(country.into()),
        tags: vec!["standard".into()],
    }
}

on_every_store! {
    async fn jobs_are_found_by_their_own_fields_and_by_the_envelope(fixture: &Fixture) {
        let store = &fixture.store;
        pack(1, "CH").priority(10).create(store).await.unwrap();
        pack(2, "FR").create(store).await.unwrap();
        let mut third = pack(3, "CH").run_at(after(store, Duration::from_hours(1))).create(store).await.unwrap();
        let mut fourth = pack(4, "CH").create(store).await.unwrap();
        fourth.fail("by hand").await.unwrap();

        let orders = async |query: rocketjob::JobQuery<PackOrder>| {
            query.list().await.unwrap().iter().map(|job| job.order).collect::<Vec<_>>()
        };
        assert_eq!(orders(PackOrder::query(store)).await, [1, 2, 3, 4]);
        assert_eq!(orders(PackOrder::query(store).descending().limit(2)).await, [4, 3]);
        assert_eq!(orders(PackOrder::query(store).state(State::Failed)).await, [4]);
        assert_eq!(orders(PackOrder::query(store).priority(10)).await, [1]);
        assert_eq!(orders(PackOrder::query(store).field("country", "CH")).await, [1, 3, 4]);
        assert_eq!(orders(PackOrder::query(store).filter(Filter::gte("order", 3))).await, [3, 4]);
        assert_eq!(orders(PackOrder::query(store).scheduled()).await, [3]);
        assert_eq!(orders(PackOrder::query(store).queued_now()).await, [1, 2]);
        assert_eq!(orders(PackOrder::query(store).sort(Sort::Priority)).await, [1, 2, 3, 4]);
        let first = PackOrder::query(store).first().await.unwrap().unwrap();
        assert_eq!(orders(PackOrder::query(store).after(first.document())).await, [2, 3, 4]);
        let nearest = PackOrder::query(store).read_from(ReadFrom::Nearest);
        assert_eq!(nearest.count().await.unwrap(), 4);

        let counts = PackOrder::query(store).count_by_state().await.unwrap();
        assert_eq!((counts.get(State::Queued), counts.queued_now, counts.scheduled), (3, 2, 1));
        assert_eq!(counts.get(State::Failed), 1);
        third.run_now().await.unwrap();
        assert_eq!(PackOrder::query(store).scheduled().count().await.unwrap(), 0);

        let found = PackOrder::find(store, third.id()).await.unwrap().unwrap();
        assert_eq!(found.order, 3);
        assert_eq!(PackOrder::query(store).state(State::Failed).delete_all().await.unwrap(), 1);
        assert!(PackOrder::find(store, fourth.id()).await.unwrap().is_none());
    }

    async fn two_writers_of_different_fields_do_not_undo_each_other(fixture: &Fixture) {
        let mut one = pack(1, "CH").create(&fixture.store).await.unwrap();
        let mut other = PackOrder::find(&fixture.store, one.id()).await.unwrap().unwrap();
        one.country = None;
        one.save().await.unwrap();
        other.order = 7;
        other.set_priority(3);
        other.save().await.unwrap();
        one.reload().await.unwrap();
        assert_eq!((one.order, one.country.clone(), one.document().priority()), (7, None, 3));
    }

    async fn a_broken_rule_is_refused_before_anything_is_written(fixture: &Fixture) {
        let error = pack(0, "CH").create(&fixture.store).await.unwrap_err();
        assert!(matches!(&error, Error::Invalid(problems) if problems.problems()[0].field == "order"), "{error}");
        assert_eq!(error.to_string(), "Validation failed: `order` breaks the rule `range` (min 1): 0");
        let error = pack(1, "CH").priority(101).create(&fixture.store).await.unwrap_err();
        assert_eq!(error.to_string(), "Validation failed: `priority` must lie between 1 and 100, and is 101");
        let jobs = [pack(1, "CH"), pack(-1, "CH")];
        assert!(matches!(PackOrder::create_many(&fixture.store, jobs).await, Err(Error::Invalid(_))));
        assert_eq!(PackOrder::query(&fixture.store).count().await.unwrap(), 0);
        let mut job = pack(1, "CH").create(&fixture.store).await.unwrap();
        job.order = -1;
        assert!(matches!(job.save().await, Err(Error::Invalid(_))));
        job.reload().await.unwrap();
        assert_eq!(job.order, 1);
        assert!(matches!(pack(0, "CH").perform_now().await, Err(Error::Invalid(_))));
    }

    async fn many_jobs_are_created_in_their_order(fixture: &Fixture) {
        let jobs = (1..=2500).map(|order| pack(order, "CH").description(format!("order {order}")));
        let store = fixture.store.clone();
        let created = tokio::spawn(async move { PackOrder::create_many(&store, jobs).await });
        let created: Vec<_> = created.await.unwrap().unwrap();
        let orders = created.iter().map(|created| created.as_ref().unwrap().order);
        assert!(orders.eq(1..=2500), "a handle for each, in order");
        let all = PackOrder::query(&fixture.store).limit(2500).list().await.unwrap();
        assert!(all.iter().map(|job| job.order).eq(1..=2500), "first in, first out");
        assert_eq!(all[41].document().description(), Some("order 42"));
    }

    async fn an_old_document_for_a_new_struct_gets_the_default(fixture: &Fixture) {
        let job = pack(1, "CH").create(&fixture.store).await.unwrap();
        let change = rocketjob::Change::new().unset("tags").set("left_over_from_before", 1);
        let patch = rocketjob::Patch { id: job.id(), guard: rocketjob::Guard::default(), change };
        fixture.store.update(patch).await.unwrap().unwrap();
        let mut old = PackOrder::find(&fixture.store, job.id()).await.unwrap().unwrap();
        assert_eq!(old.tags, ["standard"]);
        old.order = 2;
        old.save().await.unwrap();
        let stored = fixture.store.get(job.id()).await.unwrap().unwrap();
        assert!(stored.get("left_over_from_before").is_some(), "what this version does not know stays");
    }

    async fn a_field_of_the_wrong_type_is_named(fixture: &Fixture) {
        let job = pack(1, "CH").create(&fixture.store).await.unwrap();
        let change = rocketjob::Change::new().set("order", "one");
        let patch = rocketjob::Patch { id: job.id(), guard: rocketjob::Guard::default(), change };
        fixture.store.update(patch).await.unwrap().unwrap();
        let error = PackOrder::find(&fixture.store, job.id()).await.unwrap_err();
        assert!(matches!(error, Error::Undecodable { .. }));
        let text = error.to_string();
        assert!(text.contains(&job.id().to_hex()) && text.contains("`PackOrder`") && text.contains("order"), "{text}");
        let documents = PackOrder::query(&fixture.store).documents().await.unwrap();
        assert_eq!(documents[0].get(name::KIND).unwrap().as_str(), Some("PackOrder"));
    }
}
