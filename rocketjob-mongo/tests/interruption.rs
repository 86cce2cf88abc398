//! Answers that are lost: the server fails commands before or after it has made them.

#![expect(clippy::unwrap_used, reason = "tests panic: that is how they fail")]

use bson::{Document, doc};
use rocketjob_core::{
    Change, Guard, Insertion, JobDocument, Patch, Refusal, Settled, State, Store, date, name,
};
use rocketjob_mongo::MongoStore;
use rocketjob_testing::{
    Claimer, claim_of, insert_all, job,
    mongod::{Mongod, Options},
};

/// The primary goes away with this code, in the server's words.
const SHUTDOWN: i32 = 91;

struct Server {
    mongod: Mongod,
    mongo: MongoStore,
    store: Store,
}

impl Server {
    async fn start() -> Self {
        let options = Options::replica_set("rs")
            .with_argument("--setParameter")
            .with_argument("enableTestCommands=1");
        let mongod = Mongod::start(options).await;
        let mongo = MongoStore::connect(&mongod.url("jobs")).await.unwrap();
        let store = Store::new(mongo.clone());
        Self {
            mongod,
            mongo,
            store,
        }
    }

    /// The next command of this name is lost before the server makes it.
    async fn lose(&self, command: &str) {
        self.fail(doc! { "failCommands": [command], "closeConnection": true })
            .await;
    }

    /// The next command of this name is made, but its answer says that the primary is going away.
    async fn interrupt(&self, command: &str) {
        let concern = doc! { "code": SHUTDOWN, "errmsg": "going away" };
        self.fail(doc! { "failCommands": [command], "writeConcernError": concern })
            .await;
    }

    async fn fail(&self, data: Document) {
        let fail = doc! {
            "configureFailPoint": "failCommand",
            "mode": { "times": 1 },
            "data": data,
        };
        let admin = self.mongo.client().database("admin");
        admin.run_command(fail).await.unwrap();
    }

    async fn claim(&self, count: usize) -> Vec<JobDocument> {
        Claimer::new(&self.store, ["Kind"])
            .with_workers(3)
            .claim(count)
            .await
            .jobs
    }
}

fn completed(store: &Store) -> Change {
    Change::new()
        .set(name::STATE, State::Completed.as_str())
        .set(name::COMPLETED_AT, date(store.now()))
}

fn settled(jobs: &[JobDocument], change: &Change) -> Vec<Patch> {
    let patch = |job: &JobDocument| Patch {
        id: job.id(),
        guard: Guard::claimed(claim_of(job)),
        change: change.clone(),
    };
    jobs.iter().map(patch).collect()
}

#[tokio::test]
async fn a_claim_whose_command_or_answer_is_lost_is_made_once() {
    let server = Server::start().await;
    let ids = insert_all(&server.store, (0..20).map(|_| job("Kind"))).await;
    server.lose("update").await;
    let first = server.claim(10).await;
    server.interrupt("update").await;
    let second = server.claim(10).await;
    let claimed: Vec<_> = first.iter().chain(&second).map(JobDocument::id).collect();
    assert_eq!(claimed, ids);
    for job in first.iter().chain(&second) {
        let stored = server.store.get(job.id()).await.unwrap().unwrap();
        assert_eq!(&stored, job, "what is handed out is what is stored");
    }
}

#[tokio::test]
async fn a_settlement_whose_command_or_answer_is_lost_is_accepted() {
    let server = Server::start().await;
    insert_all(&server.store, (0..20).map(|_| job("Kind"))).await;
    for (verb, change) in [
        ("update", completed(&server.store)),
        ("delete", Change::delete()),
    ] {
        let jobs = server.claim(5).await;
        server.lose(verb).await;
        let outcome = server.store.settle(settled(&jobs, &change)).await.unwrap();
        assert_eq!(outcome, [Settled::Accepted; 5], "{verb} lost");
        let jobs = server.claim(5).await;
        server.interrupt(verb).await;
        let outcome = server.store.settle(settled(&jobs, &change)).await.unwrap();
        assert_eq!(outcome, [Settled::Accepted; 5], "answer to {verb} lost");
    }
}

#[tokio::test]
async fn a_lost_claim_is_told_also_after_an_interruption() {
    let server = Server::start().await;
    insert_all(&server.store, (0..3).map(|_| job("Kind"))).await;
    let jobs = server.claim(3).await;
    let [aborted, requeued, kept] = jobs.as_slice() else {
        panic!("{jobs:?}");
    };
    let abort = Patch {
        id: aborted.id(),
        guard: Guard::states([State::Running]),
        change: Change::new().set(name::STATE, State::Aborted.as_str()),
    };
    server.store.update(abort).await.unwrap().unwrap();
    let requeue = Change::new()
        .set(name::STATE, State::Queued.as_str())
        .set(name::READY, true);
    let requeue = settled(std::slice::from_ref(requeued), &requeue);
    server.store.settle(requeue).await.unwrap();
    assert_eq!(server.claim(1).await.len(), 1, "another server has it now");
    server.interrupt("update").await;
    let late = settled(&jobs, &completed(&server.store));
    assert_eq!(
        server.store.settle(late).await.unwrap(),
        [
            Settled::Refused(Refusal::State(State::Aborted)),
            Settled::Refused(Refusal::ClaimLost),
            Settled::Accepted,
        ]
    );
    let stored = server.store.get(kept.id()).await.unwrap().unwrap();
    assert_eq!(stored.state(), State::Completed);
}

#[tokio::test]
async fn an_insert_whose_command_is_lost_is_made_once() {
    let server = Server::start().await;
    let new = job("Kind").build(&server.store);
    server.lose("insert").await;
    let outcome = server.store.insert(vec![new.clone()]).await.unwrap();
    assert_eq!(outcome, [Insertion::Inserted]);
    let again = server.store.insert(vec![new.clone()]).await.unwrap();
    assert_eq!(again, [Insertion::Existing(new.id())]);
}

#[tokio::test]
async fn a_server_that_goes_away_is_not_available_and_comes_back() {
    let mut server = Server::start().await;
    job("Kind").insert(&server.store).await;
    server.mongod.kill();
    let problem = server.store.get(server.store.next_id()).await.unwrap_err();
    assert!(problem.is_transient(), "{problem:?}");
    server.mongod.restart().await;
    assert_eq!(server.claim(1).await.len(), 1, "the job outlived it");
}
