//! `JobStore::next_claim`.

use bson::{Bson, doc};
use rocketjob_core::{ClaimToken, State, Store, name};

use crate::{Claimer, Harness, JobBuilder, claim_of, insert_all, job};

fn running(token: impl Into<Bson>) -> JobBuilder {
    job("A")
        .state(State::Running)
        .set(name::WORKER_NAME, "x:1")
        .set(name::CLAIM, token)
}

/// The tokens that are met on the way from claim to claim.
async fn tokens(store: &Store) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut last = String::new();
    while let Some(job) = store.next_claim(&last).await.unwrap() {
        let token = claim_of(&job).token;
        assert!(token > last, "{token} does not come behind {last}");
        last.clone_from(&token);
        tokens.push(token);
    }
    tokens
}

/// From server to server, however many claims each has.
pub async fn goes_from_server_to_server(harness: &impl Harness) {
    let store = harness.store();
    assert_eq!(store.next_claim("").await.unwrap(), None);
    insert_all(&store, (0..60).map(|_| job("A"))).await;
    let claimers = [(); 3].map(|()| Claimer::new(&store, ["A"]));
    for claimer in claimers.iter().chain(&claimers).rev() {
        assert_eq!(claimer.claim(10).await.jobs.len(), 10);
    }
    let mut seen = Vec::new();
    let mut after = String::new();
    while let Some(job) = store.next_claim(&after).await.unwrap() {
        let server = ClaimToken::server_of(&claim_of(&job).token).unwrap();
        assert!(!seen.contains(&server), "{after} is not behind {server}");
        seen.push(server);
        after = ClaimToken::end(server);
    }
    let mut expected = claimers.map(|claimer| claimer.server);
    expected.sort_unstable();
    assert_eq!(seen, expected);
}

/// From claim to claim, in the order of text, over all jobs of the same claim.
pub async fn goes_from_claim_to_claim_of_one_server(harness: &impl Harness) {
    let store = harness.store();
    let prefix = ClaimToken::prefix(store.next_id());
    let numbers = ["9", "10", "2", "10"];
    let expected = ["10", "2", "9"].map(|number| format!("{prefix}{number}"));
    let claims = numbers.map(|number| running(format!("{prefix}{number}")));
    insert_all(&store, claims).await;
    assert_eq!(tokens(&store).await, expected);
    let last = store.next_claim(&expected[1]).await.unwrap().unwrap();
    assert_eq!(claim_of(&last).token, expected[2]);
}

/// A claim counts only while the job runs: the token stays behind.
pub async fn finds_running_jobs_only(harness: &impl Harness) {
    let store = harness.store();
    let number = |state: State| format!("{:02}", 10 + state as usize);
    let claimed = State::ALL.map(|state| running(number(state)).set(name::STATE, state.as_str()));
    let inserted = insert_all(&store, claimed).await;
    insert_all(&store, [job("A")]).await;
    assert_eq!(tokens(&store).await, [number(State::Running)]);
    let position = State::ALL.iter().position(|s| *s == State::Running);
    let ended = doc! { name::STATE: State::Aborted.as_str() };
    harness
        .write_raw(inserted[position.unwrap()], ended, &[])
        .await;
    assert_eq!(tokens(&store).await, [""; 0]);
}

/// Whatever stands in a token, also of other programs; what is no text is none.
pub async fn sees_tokens_that_are_not_ours(harness: &impl Harness) {
    let store = harness.store();
    let server = store.next_id();
    let ours = ClaimToken {
        server,
        sequence: 7,
    };
    let mut expected = [
        "!".to_owned(),
        ours.to_string(),
        format!("{}:x", server.to_hex()),
        format!("{}::and more text than any of our tokens", server.to_hex()),
        "zebra".to_owned(),
        "zebra:1".to_owned(),
        "Ünlike:1".to_owned(),
    ];
    insert_all(&store, expected.clone().map(running)).await;
    for odd in [Bson::Int32(5), Bson::Null, doc! { "a": "b" }.into()] {
        harness.put_raw(running(odd).document(&store)).await;
    }
    expected.sort_unstable();
    assert_eq!(tokens(&store).await, expected);
}

/// Documents that cannot be read hide no claim behind them.
pub async fn gets_past_any_number_of_undecodable_documents(harness: &impl Harness) {
    let store = harness.store();
    for number in 0..150 {
        let undecodable = running("a:1").set(name::PRIORITY, "high").set("n", number);
        harness.put_raw(undecodable.document(&store)).await;
    }
    running("a:1").insert(&store).await;
    running("b:1").insert(&store).await;
    assert_eq!(tokens(&store).await, ["a:1", "b:1"]);
}
