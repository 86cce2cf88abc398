//! Enqueue inside the caller's own transaction on MongoDB.

use bson::doc;
use rocketjob::{
    Error,
    mongo::{CreateJobIn, MongoStore},
    prelude::*,
};
use serde::{Deserialize, Serialize};

use crate::stores::{self, Kind};

#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[singleton]
struct Invoice {
    order: i64,
}

impl Perform for Invoice {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

#[test]
fn a_job_created_in_a_transaction_is_there_when_it_commits() {
    stores::run(Kind::Mongo, "transaction::commit", async |fixture| {
        let store = MongoStore::connect(&fixture.address).await.unwrap();
        let orders = store.database().collection("orders");
        let mut session = store.client().start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        orders
            .insert_one(doc! { "_id": 7 })
            .session(&mut session)
            .await
            .unwrap();
        let id = Invoice { order: 7 }
            .priority(5)
            .create_in(&store, &mut session)
            .await
            .unwrap();
        assert!(
            Invoice::find(&store, id).await.unwrap().is_none(),
            "nobody sees it before the commit"
        );
        session.commit_transaction().await.unwrap();

        let job = Invoice::find(&store, id).await.unwrap().unwrap();
        assert_eq!((job.order, job.document().priority()), (7, 5));
        assert_eq!(orders.count_documents(doc! {}).await.unwrap(), 1);
        fixture
            .server::<Invoice>()
            .start()
            .await
            .unwrap()
            .run_until_idle()
            .await
            .unwrap();
        assert!(
            Invoice::find(&store, id).await.unwrap().is_none(),
            "it was performed"
        );
    });
}

#[test]
fn nothing_is_there_when_it_aborts_or_the_job_is_refused() {
    stores::run(Kind::Mongo, "transaction::abort", async |fixture| {
        let store = MongoStore::connect(&fixture.address).await.unwrap();
        let orders = store.database().collection("orders");
        let mut session = store.client().start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        orders
            .insert_one(doc! { "_id": 7 })
            .session(&mut session)
            .await
            .unwrap();
        Invoice { order: 7 }
            .create_in(&store, &mut session)
            .await
            .unwrap();
        session.abort_transaction().await.unwrap();
        assert_eq!(Invoice::query(&store).count().await.unwrap(), 0);
        assert_eq!(orders.count_documents(doc! {}).await.unwrap(), 0);

        let active = Invoice { order: 1 }.create(&store).await.unwrap();
        session.start_transaction().await.unwrap();
        orders
            .insert_one(doc! { "_id": 8 })
            .session(&mut session)
            .await
            .unwrap();
        let error = Invoice { order: 8 }
            .create_in(&store, &mut session)
            .await
            .unwrap_err();
        assert!(
            matches!(error, Error::Existing { existing, .. } if existing == active.id()),
            "{error}"
        );
        drop(session);
        assert_eq!(orders.count_documents(doc! {}).await.unwrap(), 0);
    });
}
