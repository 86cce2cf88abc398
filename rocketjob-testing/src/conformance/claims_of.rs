//! `JobStore::claims_of`.

use bson::doc;
use rocketjob_core::{ClaimToken, State, name};

use crate::{Claimer, Harness, ids, insert_all, job};

/// Running jobs of that server, whatever the claim, and of no other.
pub async fn finds_the_claims_of_one_server(harness: &impl Harness) {
    let store = harness.store();
    let inserted = insert_all(&store, (0..6).map(|_| job("A"))).await;
    let [dead, alive] = [(); 2].map(|()| Claimer::new(&store, ["A"]));
    for claimer in [&dead, &alive, &dead] {
        assert_eq!(claimer.claim(2).await.jobs.len(), 2);
    }
    let claims = store.claims_of(dead.server, None, 10).await.unwrap();
    let expected = [0, 1, 4, 5].map(|number| inserted[number]);
    assert_eq!(ids(&claims), expected);
    assert_eq!(claims[0].worker_name(), Some(dead.workers[0].as_str()));
    let nobody = store.next_id();
    assert_eq!(store.claims_of(nobody, None, 10).await.unwrap(), []);
}

/// A claim counts only while the job runs: the token stays behind.
pub async fn finds_running_jobs_only(harness: &impl Harness) {
    let store = harness.store();
    insert_all(&store, State::ALL.map(|_| job("A").keep())).await;
    let claimer = Claimer::new(&store, ["A"]);
    let running = claimer.claim(10).await.jobs;
    for (job, state) in running.iter().zip(State::ALL) {
        let set = doc! { name::STATE: state.as_str() };
        harness.write_raw(job.id(), set, &[]).await;
    }
    let claims = store.claims_of(claimer.server, None, 10).await.unwrap();
    assert_eq!(ids(&claims), [running[5].id()]);
    assert_eq!(State::ALL[5], State::Running);
}

/// Page by page, in the order of the ids.
pub async fn goes_on_behind_the_last_page(harness: &impl Harness) {
    let store = harness.store();
    let jobs = (0..5).map(|number| job("A").priority(50 - number));
    let inserted = insert_all(&store, jobs).await;
    let claimer = Claimer::new(&store, ["A"]);
    claimer.claim(10).await;
    let page = async |after| ids(&store.claims_of(claimer.server, after, 2).await.unwrap());
    assert_eq!(page(None).await, inserted[..2]);
    assert_eq!(page(Some(inserted[1])).await, inserted[2..4]);
    assert_eq!(page(Some(inserted[3])).await, inserted[4..]);
    assert_eq!(page(Some(inserted[4])).await, []);
    let none = store.claims_of(claimer.server, None, 0).await.unwrap();
    assert_eq!(none, []);
}

/// A token that only begins with the text of the server's id is another's.
pub async fn tells_servers_apart_whose_ids_begin_alike(harness: &impl Harness) {
    let store = harness.store();
    let server = store.next_id();
    let running = |token: String| {
        job("A")
            .state(State::Running)
            .set(name::WORKER_NAME, "x:1")
            .set(name::CLAIM, token)
    };
    let prefix = ClaimToken::prefix(server);
    let own = running(format!("{prefix}1")).insert(&store).await;
    let longer = prefix.replace(':', "0:1");
    let shorter = format!("{}:1", &server.to_hex()[..23]);
    insert_all(&store, [longer, shorter].map(running)).await;
    let claims = store.claims_of(server, None, 10).await.unwrap();
    assert_eq!(ids(&claims), [own.id()]);
}
