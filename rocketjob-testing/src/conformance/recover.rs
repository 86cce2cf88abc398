//! Recovery: `rocketjob_core::recover` on the store.
//!
//! A [`Claimer`] that registers no server is a dead server.

use bson::{Document, oid::ObjectId};
use rocketjob_core::{
    ClaimToken, Definition, Job, JobContext, JobDocument, JobResult, LOST_CLAIM, LostClaim,
    Perform, Recovered, Registry, ServerDocument, ServerState, Settled, Settlement, State, Store,
    is_marked, is_suspect, later, mark_begun, name, recover, release_suspects,
};
use serde::{Deserialize, Serialize};

use super::HOUR;
use crate::{Call, Claimer, Faulty, FieldLimits, Harness, Wanted, claim_of, ids, insert_all, job};

/// Is performed again when its server dies.
#[derive(Debug, Serialize, Deserialize)]
struct Again {}

impl Job for Again {
    const DEFINITION: &'static Definition = &Definition::new("Again", "recover::Again");
}

impl Perform for Again {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

/// Is never performed twice.
#[derive(Debug, Serialize, Deserialize)]
struct Once {}

impl Job for Once {
    const DEFINITION: &'static Definition = &Definition {
        on_lost_claim: LostClaim::Fail,
        ..Definition::new("Once", "recover::Once")
    };
}

impl Perform for Once {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

/// May kill one server.
#[derive(Debug, Serialize, Deserialize)]
struct Fragile {}

impl Job for Fragile {
    const DEFINITION: &'static Definition = &Definition {
        max_lost_claims: 1,
        ..Definition::new("Fragile", "recover::Fragile")
    };
}

impl Perform for Fragile {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

const KINDS: [&str; 3] = ["Again", "Once", "Fragile"];

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.register::<Again>().unwrap();
    registry.register::<Once>().unwrap();
    registry.register::<Fragile>().unwrap();
    registry
}

async fn recovered(store: &Store) -> Recovered {
    recover(&**store, &registry()).await.unwrap()
}

fn requeued(count: usize) -> Recovered {
    Recovered {
        requeued: count,
        ..Recovered::default()
    }
}

fn failed(count: usize) -> Recovered {
    Recovered {
        failed: count,
        ..Recovered::default()
    }
}

/// A server with this incarnation and name; one without a version is the original's.
fn server(id: ObjectId, name: &str, version: &str) -> ServerDocument {
    ServerDocument {
        id,
        name: name.into(),
        max_workers: 10,
        started_at: None,
        state: ServerState::Running,
        heartbeat: None,
        lease: None,
        version: version.into(),
        definitions: Vec::new(),
        filter: None,
        poll_interval: None,
    }
}

/// Claims the next job as a server would that dies next; `begins` tells whether `perform` begins.
async fn claim_and_die(store: &Store, begins: bool) -> JobDocument {
    release_suspects(&**store).await.unwrap();
    let (job, claim) = Claimer::new(store, KINDS).claim_one().await;
    let registry = registry();
    let definition = registry.definition(job.kind()).unwrap();
    if begins && is_marked(&job, definition) {
        let settled = store.settle(vec![mark_begun(&job, claim)]).await.unwrap();
        assert_eq!(settled, [Settled::Accepted]);
    }
    job
}

async fn stored(store: &Store, id: ObjectId) -> JobDocument {
    store.get(id).await.unwrap().expect("the job is there")
}

fn assert_lost(job: &JobDocument) {
    assert_eq!(job.state(), State::Failed, "{job:?}");
    let exception = job.get(name::EXCEPTION).and_then(|e| e.as_document());
    let class = exception.and_then(|exception| exception.get_str("class_name").ok());
    assert_eq!(class, Some(LOST_CLAIM), "{job:?}");
    assert_eq!(job.get(name::FAILURE_COUNT), Some(&1.into()));
}

/// The jobs wait again, in their places, and the loss is counted.
pub async fn requeues_the_claims_of_a_server_without_a_document(harness: &impl Harness) {
    let store = harness.store();
    assert_eq!(recovered(&store).await, Recovered::default());
    let inserted = insert_all(&store, (0..4).map(|_| job("Again"))).await;
    let dead = [(); 2].map(|()| Claimer::new(&store, KINDS));
    for claimer in &dead {
        assert_eq!(claimer.claim(2).await.jobs.len(), 2);
    }
    assert_eq!(recovered(&store).await, requeued(4));
    for id in &inserted {
        let job = stored(&store, *id).await;
        assert_eq!(job.state(), State::Queued);
        assert_eq!((job.worker_name(), job.started_at()), (None, None));
        assert_eq!(job.lost_claims(), 1);
        assert_eq!(
            (job.is_ready(), job.hold()),
            (false, Some(name::HOLD_SUSPECT))
        );
        assert!(is_suspect(&job));
        assert_eq!(job.get(name::FAILURE_COUNT), Some(&0.into()));
    }
    assert_eq!(recovered(&store).await, Recovered::default());
    let again = Claimer::new(&store, KINDS);
    assert!(again.claim(10).await.jobs.is_empty());
    assert_eq!(release_suspects(&*store).await.unwrap(), 4);
    assert_eq!(ids(&again.claim(10).await.jobs), inserted);
}

/// A server that is registered has its jobs, whether it has given a sign of life or not.
pub async fn leaves_the_claims_of_a_live_server(harness: &impl Harness) {
    let store = harness.store();
    insert_all(&store, (0..3).map(|_| job("Again"))).await;
    // The live one between two dead ones.
    let [first, alive, last] = [(); 3].map(|()| Claimer::new(&store, KINDS));
    let document = server(alive.server, "host:1", "0.1.0");
    store.insert_server(&document).await.unwrap();
    let mut claimed = Vec::new();
    for claimer in [&first, &alive, &last] {
        claimed.push(claimer.claim_one().await.0);
    }
    assert_eq!(recovered(&store).await, requeued(2));
    assert_eq!(stored(&store, claimed[1].id()).await, claimed[1]);
    assert!(store.remove_server(alive.server).await.unwrap());
    assert_eq!(recovered(&store).await, requeued(1));
}

/// A server registers before it claims: one that arrives during a recovery loses nothing to it,
/// whichever step of it comes next.
pub async fn leaves_the_claims_of_servers_that_arrive_meanwhile(harness: &impl Harness) {
    let store = harness.store();
    let deadly = job("Again").insert(&store).await;
    for call in [Call::NextClaim, Call::Servers, Call::ClaimsOf] {
        claim_and_die(&store, false).await;
        job("Again").insert(&store).await;
        let faulty = Faulty::new(&store);
        faulty.before_next(call, arrive(harness.second().await));
        assert_eq!(
            recovered(&Store::new(faulty)).await,
            requeued(1),
            "{call:?}"
        );
        let recovered = stored(&store, deadly.id()).await;
        assert_eq!(recovered.state(), State::Queued, "{call:?}");
    }
    let servers = store.servers().await.unwrap();
    assert_eq!(servers.len(), 3, "each has its job");
    for server in servers {
        assert_eq!(store.claims_of(server.id, None, 10).await.unwrap().len(), 1);
    }
}

/// A server begins, and claims a job at once.
async fn arrive(store: Store) {
    let claimer = Claimer::new(&store, KINDS);
    let name = claimer.server.to_hex();
    let document = server(claimer.server, &name, "0.1.0");
    store.insert_server(&document).await.unwrap();
    claimer.claim_one().await;
}

/// A server of the original leaves our token standing and writes the name of its own worker. Its
/// jobs are its own as long as it is there; one whose name only begins alike is another.
pub async fn leaves_jobs_that_the_original_took_over(harness: &impl Harness) {
    let store = harness.store();
    let insert = async |name: &str, version: &str| {
        let server = server(store.next_id(), name, version);
        store.insert_server(&server).await.unwrap();
        server.id
    };
    let original = insert("box:1", "").await;
    // The process id of a dead server, used again.
    insert("box:3", "0.1.0").await;
    let names = ["box:1:7", "box:12:7", "box:1", "box:3:7", "xbox:1:7"];
    let inserted = insert_all(&store, names.map(|_| job("Again"))).await;
    let claimer = Claimer::new(&store, KINDS);
    assert_eq!(claimer.claim(10).await.jobs.len(), names.len());
    for (id, name) in inserted.iter().zip(names) {
        let set = bson::doc! { name::WORKER_NAME: name };
        harness.write_raw(*id, set, &[]).await;
    }
    let taken_over = stored(&store, inserted[0]).await;
    assert_eq!(recovered(&store).await, requeued(4));
    assert_eq!(stored(&store, inserted[0]).await, taken_over);
    assert!(store.remove_server(original).await.unwrap());
    assert_eq!(recovered(&store).await, requeued(1));
}

/// Only who knows a kind knows what follows on its loss.
pub async fn leaves_kinds_that_it_does_not_know(harness: &impl Harness) {
    let store = harness.store();
    insert_all(&store, [job("Unheard"), job("Again")]).await;
    let claimed = Claimer::new(&store, ["Unheard", "Again"]).claim(2).await;
    let expected = Recovered {
        unknown: 1,
        ..requeued(1)
    };
    assert_eq!(recovered(&store).await, expected);
    let unheard = stored(&store, claimed.jobs[0].id()).await;
    assert_eq!(unheard, claimed.jobs[0]);
}

/// Tokens of other programs, claims without a worker and documents that cannot be read are left as
/// they are, and do not hide what lies behind them.
pub async fn passes_by_claims_that_are_not_ours(harness: &impl Harness) {
    let store = harness.store();
    let claimer = Claimer::new(&store, KINDS);
    let running = |token: String| {
        let running = job("Again").state(State::Running);
        running
            .set(name::CLAIM, token)
            .set(name::WORKER_NAME, "x:1")
    };
    let first = ClaimToken {
        server: store.next_id(),
        sequence: 1,
    };
    let last = ClaimToken {
        server: store.next_id(),
        sequence: 1,
    };
    let foreign = [
        running("!".into()),
        running("!:1".into()).unset(name::WORKER_NAME),
        running(first.to_string()).unset(name::WORKER_NAME),
        running(format!("{}x", claimer.server.to_hex())),
        running(last.to_string()).set(name::PRIORITY, "high"),
        running("zebra:1".into()),
    ];
    let mut documents: Vec<Document> = Vec::new();
    for foreign in foreign {
        let document = foreign.document(&store);
        harness.put_raw(document.clone()).await;
        documents.push(document);
    }
    insert_all(&store, [job("Again")]).await;
    claimer.claim_one().await;
    running(last.to_string()).insert(&store).await;
    assert_eq!(recovered(&store).await, requeued(2));
    for document in documents {
        let id = document.get_object_id(name::ID).unwrap();
        assert_eq!(harness.raw(id).await, Some(document));
    }
}

/// A suspect that only waited in the dead server's hands has nothing to do with its death.
pub async fn hands_a_suspect_back_that_had_not_begun(harness: &impl Harness) {
    let store = harness.store();
    let suspect = job("Again").set(name::LOST_CLAIMS, 1).insert(&store).await;
    for _ in 0..3 {
        claim_and_die(&store, false).await;
        assert_eq!(recovered(&store).await, requeued(1));
        let job = stored(&store, suspect.id()).await;
        assert_eq!((job.state(), job.lost_claims()), (State::Queued, 1));
    }
}

/// Suspects are in nobody's way, and become ready a few at a time, in their order.
pub async fn holds_suspects_until_it_is_their_turn(harness: &impl Harness) {
    let store = harness.store();
    let inserted = insert_all(&store, (0..50).map(|_| job("Again"))).await;
    let dead = Claimer::new(&store, KINDS);
    assert_eq!(dead.claim(50).await.jobs.len(), 50);
    assert_eq!(recovered(&store).await, requeued(50));
    let fresh = job("Again").insert(&store).await;
    let claimed = Claimer::new(&store, KINDS).claim(50).await.jobs;
    assert_eq!(ids(&claimed), [fresh.id()]);
    assert_eq!(release_suspects(&*store).await.unwrap(), 20);
    let alive = Claimer::new(&store, KINDS);
    let suspects = alive.claim(50).await.jobs;
    assert_eq!(ids(&suspects), inserted[..20]);
    // Who hands one back, hands it back as what it is.
    let suspect = &suspects[0];
    let settling = Settlement::hand_back(suspect, claim_of(suspect), store.now());
    let settled = store.settle(vec![settling.patch]).await.unwrap();
    assert_eq!(settled, [Settled::Accepted]);
    let handed_back = stored(&store, suspect.id()).await;
    assert_eq!(handed_back.hold(), Some(name::HOLD_SUSPECT));
    for left in [20, 11, 0] {
        assert_eq!(release_suspects(&*store).await.unwrap(), left);
    }
    assert_eq!(alive.claim(50).await.jobs.len(), 31);
}

/// A suspect that had begun may have killed its server. That it began under an earlier claim says
/// nothing about this one.
pub async fn counts_a_suspect_that_had_begun(harness: &impl Harness) {
    let store = harness.store();
    let suspect = job("Again").set(name::LOST_CLAIMS, 1).insert(&store).await;
    claim_and_die(&store, true).await;
    assert!(stored(&store, suspect.id()).await.is_begun());
    assert_eq!(recovered(&store).await, requeued(1));
    assert_eq!(stored(&store, suspect.id()).await.lost_claims(), 2);
    claim_and_die(&store, false).await;
    assert!(!stored(&store, suspect.id()).await.is_begun());
    assert_eq!(recovered(&store).await, requeued(1));
    assert_eq!(stored(&store, suspect.id()).await.lost_claims(), 2);
}

/// A job that kills its servers is failed when its kind says so, and says how many died.
pub async fn fails_a_job_with_which_too_many_servers_died(harness: &impl Harness) {
    let store = harness.store();
    for (kind, deaths) in [("Again", 3), ("Fragile", 1)] {
        let deadly = job(kind).insert(&store).await;
        for death in 1..deaths {
            claim_and_die(&store, true).await;
            assert_eq!(recovered(&store).await, requeued(1), "{kind}");
            assert_eq!(stored(&store, deadly.id()).await.lost_claims(), death);
        }
        claim_and_die(&store, true).await;
        assert_eq!(recovered(&store).await, failed(1), "{kind}");
        let job = stored(&store, deadly.id()).await;
        assert_lost(&job);
        assert_eq!(job.lost_claims(), deaths);
        assert_eq!((job.worker_name(), job.is_ready()), (None, false));
    }
    let fragile = job("Fragile").insert(&store).await;
    claim_and_die(&store, false).await;
    assert_eq!(recovered(&store).await, requeued(1), "it had not begun");
    assert_eq!(stored(&store, fragile.id()).await.lost_claims(), 0);
}

/// A kind that must not be performed twice fails as soon as it may have begun, and waits again
/// where it had not.
pub async fn fails_what_must_not_be_performed_twice(harness: &impl Harness) {
    let store = harness.store();
    let once = job("Once").insert(&store).await;
    claim_and_die(&store, false).await;
    assert_eq!(recovered(&store).await, requeued(1));
    let job = stored(&store, once.id()).await;
    assert_eq!((job.state(), job.lost_claims()), (State::Queued, 0));
    claim_and_die(&store, true).await;
    assert_eq!(recovered(&store).await, failed(1));
    assert_lost(&stored(&store, once.id()).await);
}

/// A job whose time was moved meanwhile waits for it, and has not failed.
pub async fn tells_failed_jobs_from_those_that_wait(harness: &impl Harness) {
    let store = harness.store();
    let moved = job("Again").insert(&store).await;
    claim_and_die(&store, true).await;
    let run_at = rocketjob_core::date(later(store.now(), HOUR));
    let moves = bson::doc! { name::RUN_AT: run_at };
    harness.write_raw(moved.id(), moves, &[]).await;
    assert_eq!(recovered(&store).await, requeued(1));
    let job = stored(&store, moved.id()).await;
    assert_eq!(job.hold(), Some(name::HOLD_SCHEDULED));
}

/// Any number of servers may recover at the same time, also while the jobs are claimed again.
pub async fn ends_each_claim_once(harness: &impl Harness) {
    let handles = [harness.store(), harness.second().await];
    let alive = Claimer::new(&handles[0], KINDS);
    let document = server(alive.server, "host:1", "0.1.0");
    handles[0].insert_server(&document).await.unwrap();
    let kinds = (0..60).map(|number| job(KINDS[number % 2]));
    let inserted = insert_all(&handles[0], kinds).await;
    for _ in 0..60 {
        claim_and_die(&handles[0], true).await;
    }
    let tasks: Vec<_> = (0..4)
        .map(|number| {
            let store = handles[number % 2].clone();
            tokio::spawn(async move { recovered(&store).await })
        })
        .collect();
    let mut again = Vec::new();
    let mut done = Recovered::default();
    for task in tasks {
        release_suspects(&*handles[0]).await.unwrap();
        again.extend(ids(&alive.claim(5).await.jobs));
        let recovered = task.await.unwrap();
        done.requeued += recovered.requeued;
        done.failed += recovered.failed;
    }
    assert!(done.requeued >= 30 && done.failed >= 30, "{done:?}");
    for (number, id) in inserted.iter().enumerate() {
        let job = stored(&handles[1], *id).await;
        assert_eq!(job.lost_claims(), 1);
        match job.state() {
            State::Failed => {
                assert_eq!(number % 2, 1);
                assert_lost(&job);
            }
            State::Queued => assert!(number % 2 == 0 && !again.contains(id)),
            State::Running => {
                assert!(again.contains(id));
                let holder = ClaimToken::server_of(&claim_of(&job).token);
                assert_eq!(holder, Some(alive.server));
            }
            state => panic!("{state}"),
        }
    }
}

/// However many claims a server left behind, and whatever else lies among them.
pub async fn ends_more_claims_than_a_page_has(harness: &impl Harness) {
    let store = harness.store();
    let dead = Claimer::new(&store, KINDS);
    let running = |sequence| {
        let token = ClaimToken {
            server: dead.server,
            sequence,
        };
        let running = job("Again").state(State::Running);
        running
            .set(name::CLAIM, token.to_string())
            .set(name::WORKER_NAME, "x:1")
    };
    let undecodable = running(0).set(name::PRIORITY, "high").document(&store);
    harness.put_raw(undecodable).await;
    for page in 0..3 {
        insert_all(&store, (0..800).map(|number| running(page * 800 + number))).await;
    }
    assert_eq!(recovered(&store).await, requeued(2400));
    let left = store.next_claim("").await.unwrap();
    assert_eq!(left, None);
}

/// What a dead server's jobs held of limits is free for others.
pub async fn frees_the_places_of_limits(harness: &impl Harness) {
    let store = harness.store();
    let limits = FieldLimits::new("key", 2);
    let wanted = Wanted {
        limits: &limits,
        ..Wanted::count(10)
    };
    insert_all(&store, (0..2).map(|_| job("Again").set("key", "k"))).await;
    let dead = Claimer::new(&store, KINDS).claim_wanted(&wanted).await.jobs;
    assert_eq!(dead.len(), 2);
    let other = Claimer::new(&store, KINDS);
    assert_eq!(recovered(&store).await, requeued(2));
    assert_eq!(release_suspects(&*store).await.unwrap(), 2);
    let again = other.claim_wanted(&wanted).await.jobs;
    assert_eq!(ids(&again), ids(&dead));
}
