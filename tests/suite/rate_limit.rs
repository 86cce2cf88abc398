//! `#[rate_limit]`.

use std::time::Duration;

use rocketjob::{prelude::*, rate_limit_key, set_limit};
use rocketjob_testing::eventually;
use serde::{Deserialize, Serialize};

use crate::{crowd::Crowd, stores::on_every_store};

const SECOND: Duration = Duration::from_secs(1);

fn work(job: &JobContext, key: &str) -> JobResult {
    let now = job.store().ok_or("it has a store")?.now();
    let crowd = job.shared::<Crowd>()?;
    crowd.enter(key, now);
    crowd.leave(key);
    Ok(())
}

/// Begins forty times a second at most.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rate_limit(40 per second)]
struct FortyPerSecond {}

impl Perform for FortyPerSecond {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        work(job, "all")
    }
}

/// Begins once an hour for each customer.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rate_limit(1 per "1h", by = customer)]
struct OncePerHour {
    customer: Option<String>,
}

impl Perform for OncePerHour {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        let customer = self.customer.as_deref();
        work(job, customer.unwrap_or("nobody"))
    }
}

on_every_store! {
    async fn no_window_has_more_starts_than_it_says(fixture: &Fixture) {
        let crowd = Crowd::default();
        FortyPerSecond::create_many(&fixture.store, (0..130).map(|_| FortyPerSecond {})).await.unwrap();
        let mut servers = Vec::new();
        for _ in 0..2 {
            // Nobody polls: who waits is let go on when it is time.
            let server = fixture.server::<FortyPerSecond>().poll_interval(SECOND * 3600);
            servers.push(server.shared(crowd.clone()).start().await.unwrap());
        }
        eventually("all jobs complete", async || (crowd.total() == 130).then_some(())).await;
        let most = crowd.most_begun_within(SECOND);
        assert!(most <= 40, "{most} began within a second");
        for server in servers {
            server.stop().await.unwrap();
        }
    }

    async fn each_value_of_a_field_has_starts_of_its_own(fixture: &Fixture) {
        let (store, crowd) = (&fixture.store, Crowd::default());
        for customer in [Some("a"), Some("b"), None, Some("a"), Some("b"), None] {
            let customer = customer.map(ToOwned::to_owned);
            OncePerHour { customer }.create(store).await.unwrap();
        }
        let server = fixture.server::<OncePerHour>().shared(crowd.clone()).start().await.unwrap();
        let waiting = async |key: &str, count: u64| {
            let hold = Filter::eq("hold", format!("limit:{key}"));
            eventually("so many wait", async || {
                let held = store.count(&hold, rocketjob::ReadFrom::Primary).await.unwrap();
                (held == count).then_some(())
            })
            .await;
        };
        let key = rate_limit_key("OncePerHour");
        for value in ["a", "b", ""] {
            waiting(&format!("{key}:{value}"), 1).await;
        }
        eventually("one of each begins", async || (crowd.total() == 3).then_some(())).await;
        let held = OncePerHour::query(store).state(State::Queued);
        let held = held.filter(Filter::eq("customer", "a")).list().await.unwrap();
        // Who holds a job notes it in the job first, and then with the limit.
        eventually("why tells that no more start now", async || {
            let why = rocketjob::why(&**store, held[0].id()).await.unwrap().to_string();
            why.contains("`rate:OncePerHour:a`, which lets no more jobs start now").then_some(())
        })
        .await;
        set_limit(store, &format!("{key}:a"), Some(2)).await.unwrap();
        eventually("another one begins", async || (crowd.total() == 4).then_some(())).await;
        waiting(&format!("{key}:b"), 1).await;
        server.stop().await.unwrap();
    }
}
