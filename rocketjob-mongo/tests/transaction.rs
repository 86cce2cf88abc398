//! Jobs that are created together with the caller's own writes.

#![expect(clippy::unwrap_used, reason = "tests panic: that is how they fail")]

use bson::{Document, doc};
use mongodb::{ClientSession, Collection};
use rocketjob_core::{CreateJob, Definition, Error, Job, JobDocument, JobStore, NewJob, Store};
use rocketjob_mongo::{CreateJobIn, MongoStore};
use rocketjob_testing::{
    Claimer, job,
    mongod::{TestDatabase, database},
};
use serde::{Deserialize, Serialize};

/// Mails an order's confirmation.
#[derive(Debug, Serialize, Deserialize)]
struct MailJob {
    order: i32,
}

impl Job for MailJob {
    const DEFINITION: &'static Definition = &Definition::new("MailJob", "transaction::MailJob");
}

struct Shop {
    database: TestDatabase,
    store: MongoStore,
    orders: Collection<Document>,
}

impl Shop {
    async fn open(test: &str) -> Self {
        let database = database(test).await;
        let store = MongoStore::connect(database.url()).await.unwrap();
        let orders = store.database().collection("orders");
        store.database().create_collection("orders").await.unwrap();
        Self {
            database,
            store,
            orders,
        }
    }

    /// A transaction in which an order was written.
    async fn order(&self) -> ClientSession {
        let mut session = self.store.client().start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        let order = self.orders.insert_one(doc! { "_id": 1 });
        order.session(&mut session).await.unwrap();
        session
    }

    async fn orders(&self) -> u64 {
        self.orders.count_documents(doc! {}).await.unwrap()
    }

    async fn mails(&self) -> Vec<JobDocument> {
        let store = Store::new(self.store.clone());
        Claimer::new(&store, ["MailJob"]).claim(10).await.jobs
    }
}

#[tokio::test]
async fn a_job_appears_with_what_the_caller_wrote() {
    let shop = Shop::open("transaction::a_job_appears_with_what_the_caller_wrote").await;
    let mut session = shop.order().await;
    let urgent = MailJob { order: 1 }.priority(5);
    let first = urgent.create_in(&shop.store, &mut session).await.unwrap();
    let second = NewJob::from(MailJob { order: 1 });
    let second = second.create_in(&shop.store, &mut session).await.unwrap();
    assert!(shop.mails().await.is_empty(), "nothing is committed");
    assert_eq!(shop.store.get(first).await.unwrap(), None);
    session.commit_transaction().await.unwrap();
    assert_eq!(shop.orders().await, 1);
    let mails = shop.mails().await;
    assert_eq!(rocketjob_testing::ids(&mails), [first, second]);
    assert_eq!(mails.first().unwrap().priority(), 5);
    shop.database.drop().await;
}

#[tokio::test]
async fn an_aborted_transaction_leaves_nothing() {
    let shop = Shop::open("transaction::an_aborted_transaction_leaves_nothing").await;
    let mut session = shop.order().await;
    let mail = MailJob { order: 1 }.priority(5);
    let id = mail.create_in(&shop.store, &mut session).await.unwrap();
    session.abort_transaction().await.unwrap();
    assert_eq!(shop.store.get(id).await.unwrap(), None);
    assert!(shop.mails().await.is_empty());
    assert_eq!(shop.orders().await, 0);
    shop.database.drop().await;
}

#[tokio::test]
async fn a_unique_key_in_use_undoes_everything() {
    let shop = Shop::open("transaction::a_unique_key_in_use_undoes_everything").await;
    let store = Store::new(shop.store.clone());
    let holder = job("MailJob").unique("mail").insert(&store).await;
    let mut session = shop.order().await;
    let free = job("MailJob").build(&store);
    let rival = job("MailJob").unique("mail");
    let rival = rival
        .set("unique_reason", "one mail at a time")
        .build(&store);
    let jobs = vec![free, rival];
    let refused = shop.store.insert_in(&mut session, jobs).await.unwrap_err();
    let Error::Existing { reason, existing } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(
        (reason.as_str(), existing),
        ("one mail at a time", holder.id())
    );
    assert!(session.commit_transaction().await.is_err(), "it is aborted");
    assert_eq!(shop.orders().await, 0);
    assert_eq!(rocketjob_testing::ids(&shop.mails().await), [holder.id()]);
    shop.database.drop().await;
}

#[tokio::test]
async fn what_breaks_a_rule_is_not_sent() {
    let shop = Shop::open("transaction::what_breaks_a_rule_is_not_sent").await;
    let mut session = shop.order().await;
    let wrong = MailJob { order: 1 }.priority(101);
    let refused = wrong
        .create_in(&shop.store, &mut session)
        .await
        .unwrap_err();
    assert!(matches!(refused, Error::Invalid(_)), "{refused:?}");
    session.commit_transaction().await.unwrap();
    assert_eq!((shop.orders().await, shop.mails().await.len()), (1, 0));
    shop.database.drop().await;
}
