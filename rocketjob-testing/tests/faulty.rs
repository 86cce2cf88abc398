//! The fault-injecting store: as good as what it decorates, except where the script says otherwise.

use bson::{Document, oid::ObjectId};
use rocketjob_core::{Change, Filter, JobStore, MemoryStore, ServerStore, State, Store};
use rocketjob_testing::{Call, Claimer, Fault, Faulty, Harness, Loss, conformance, job};

struct Decorated(MemoryStore, Faulty);

impl Harness for Decorated {
    async fn start(_test: &'static str) -> Self {
        let inner = MemoryStore::new();
        let faulty = Faulty::new(&Store::new(inner.clone()));
        Self(inner, faulty)
    }

    fn store(&self) -> Store {
        Store::new(self.1.clone())
    }

    async fn second(&self) -> Store {
        Store::new(self.0.clone())
    }

    async fn put_raw(&self, document: Document) {
        self.0.insert_raw(document);
    }

    async fn write_raw(&self, id: ObjectId, set: Document, unset: &[&str]) {
        let unset = unset.iter().map(|field| (*field).to_owned()).collect();
        let change = Change {
            set,
            unset,
            ..Change::new()
        };
        assert!(self.0.change_raw(id, &change), "job {id} exists");
    }

    async fn raw(&self, id: ObjectId) -> Option<Document> {
        self.0.raw(id)
    }

    async fn lose_events(&self, _loss: Loss) {
        self.0.remove_events();
    }

    async fn finish(self) {
        assert_eq!(self.1.pending(), 0);
    }
}

conformance!(Decorated);

fn faulty() -> (Store, Faulty) {
    let store = Store::new(MemoryStore::new());
    let faulty = Faulty::new(&store);
    (store, faulty)
}

#[tokio::test]
async fn a_lost_request_never_reaches_the_store() {
    let (store, faulty) = faulty();
    let job = job("A").build(&store);
    faulty.fail_next(Call::Insert, Fault::Before);
    let error = faulty.insert(vec![job.clone()]).await.unwrap_err();
    assert!(error.is_transient());
    assert_eq!(store.get(job.id()).await.unwrap(), None);
    faulty.insert(vec![job.clone()]).await.unwrap();
    assert_eq!(store.get(job.id()).await.unwrap(), Some(job));
    assert_eq!(faulty.calls(Call::Insert), 2);
}

#[tokio::test]
async fn a_lost_answer_leaves_the_deed_done() {
    let (store, faulty) = faulty();
    let job = job("A").insert(&store).await;
    faulty.fail_next(Call::Claim, Fault::After);
    let request = tokio::spawn({
        let store = Store::new(faulty.clone());
        async move { Claimer::new(&store, ["A"]).claim(1).await.jobs.len() }
    });
    assert!(request.await.is_err(), "the claimer panics on an error");
    let stored = store.get(job.id()).await.unwrap().unwrap();
    assert_eq!(stored.state(), State::Running);
}

#[tokio::test]
async fn faults_come_in_the_order_of_the_script_and_only_where_it_says() {
    let (_, faulty) = faulty();
    faulty.fail_next(Call::Servers, Fault::Before);
    faulty.fail_next(Call::Servers, Fault::After);
    assert_eq!(faulty.promote(1).await.unwrap(), 0);
    assert_eq!(faulty.pending(), 2);
    let before = faulty.servers().await.unwrap_err();
    let after = faulty.servers().await.unwrap_err();
    assert!(before.chain().ends_with("the request was lost"));
    assert!(after.chain().ends_with("the answer was lost"));
    assert_eq!(faulty.servers().await.unwrap(), []);
}

#[tokio::test]
async fn an_outage_lasts_until_it_is_over() {
    let (_, faulty) = faulty();
    faulty.set_outage(true);
    for _ in 0..3 {
        assert!(faulty.promote(1).await.is_err());
    }
    faulty.set_outage(false);
    assert_eq!(faulty.promote(1).await.unwrap(), 0);
}

#[tokio::test]
async fn another_process_may_be_faster() {
    let (store, faulty) = faulty();
    let first = job("A").insert(&store).await.id();
    faulty.before_next(Call::Get, async move {
        job("B").insert(&store).await;
        store.delete(&Filter::eq("_id", first)).await.unwrap();
    });
    assert_eq!(faulty.next_kind("A").await.unwrap(), None, "not yet");
    assert_eq!(faulty.get(first).await.unwrap(), None);
    assert_eq!(faulty.next_kind("A").await.unwrap().as_deref(), Some("B"));
}
