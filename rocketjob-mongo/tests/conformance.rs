//! Every promise of the storage traits, on MongoDB.

#![expect(clippy::unwrap_used, reason = "tests panic: that is how they fail")]

use bson::{Document, doc, oid::ObjectId};
use mongodb::Collection;
use rocketjob_core::Store;
use rocketjob_mongo::MongoStore;
use rocketjob_testing::{
    Harness, Loss,
    mongod::{TestDatabase, database},
};

struct Mongo {
    database: TestDatabase,
    store: MongoStore,
}

impl Mongo {
    fn jobs(&self) -> Collection<Document> {
        self.store.database().collection("rocket_job.jobs")
    }
}

impl Harness for Mongo {
    async fn start(test: &'static str) -> Self {
        let database = database(test).await;
        let store = MongoStore::connect(database.url()).await.unwrap();
        Self { database, store }
    }

    fn store(&self) -> Store {
        Store::new(self.store.clone())
    }

    async fn second(&self) -> Store {
        Store::new(MongoStore::connect(self.database.url()).await.unwrap())
    }

    async fn put_raw(&self, document: Document) {
        self.jobs().insert_one(document).await.unwrap();
    }

    async fn write_raw(&self, id: ObjectId, set: Document, unset: &[&str]) {
        let unset: Document = unset
            .iter()
            .map(|field| ((*field).to_owned(), "".into()))
            .collect();
        let mut change = Document::new();
        if !set.is_empty() {
            change.insert("$set", set);
        }
        if !unset.is_empty() {
            change.insert("$unset", unset);
        }
        self.jobs()
            .update_one(doc! { "_id": id }, change)
            .await
            .unwrap();
    }

    async fn raw(&self, id: ObjectId) -> Option<Document> {
        self.jobs().find_one(doc! { "_id": id }).await.unwrap()
    }

    async fn lose_events(&self, loss: Loss) {
        let database = self.store.database();
        let events = database.collection::<Document>("rocket_job.events");
        match loss {
            Loss::Emptied => {
                events.delete_many(doc! {}).await.unwrap();
            }
            Loss::Dropped => events.drop().await.unwrap(),
            Loss::Recreated => {
                events.drop().await.unwrap();
                // Who listens may be faster.
                let _ = database.create_collection("rocket_job.events").await;
            }
        }
    }

    async fn finish(self) {
        self.database.drop().await;
    }
}

rocketjob_testing::conformance!(Mongo);
