//! A replica set of three, whose primary is killed again and again.

use std::time::Duration;

use bson::doc;
use mongodb::Client;
use rocketjob_testing::mongod::Mongod;
use tokio::time::Instant;

use crate::Anything;

/// How long it works undisturbed between two deaths, and how long the dead one is away.
const REST: Duration = Duration::from_secs(12);
const AWAY: Duration = Duration::from_secs(8);

/// The members of the set, and what is to befall them.
pub(crate) struct Set {
    members: Vec<Mongod>,
    client: Client,
    /// The dead one, and when it comes back.
    dead: Option<(usize, Instant)>,
    next: Instant,
    pub(crate) killed: usize,
}

impl Set {
    pub(crate) async fn start() -> Anything<Self> {
        let members = Mongod::start_set("throttle", 3).await;
        let url = members.first().ok_or("a set has members")?.url("throttle");
        Ok(Self {
            client: Client::with_uri_str(&url).await?,
            members,
            dead: None,
            next: Instant::now() + AWAY,
            killed: 0,
        })
    }

    pub(crate) fn url(&self) -> String {
        self.members
            .first()
            .map(|member| member.url("throttle"))
            .unwrap_or_default()
    }

    /// Kills the primary or lets the dead one come back, if it is time, until `wanted` have died.
    pub(crate) async fn step(&mut self, wanted: usize) {
        let now = Instant::now();
        if let Some((member, back)) = self.dead {
            if now >= back {
                self.members[member].restart().await;
                self.dead = None;
                self.next = Instant::now() + REST;
            }
        } else if self.killed < wanted
            && now >= self.next
            && let Some(member) = self.primary().await
        {
            self.members[member].kill();
            self.killed += 1;
            self.dead = Some((member, Instant::now() + AWAY));
        }
    }

    /// Which member says that it is the primary.
    async fn primary(&self) -> Option<usize> {
        let admin = self.client.database("admin");
        let hello = admin.run_command(doc! { "hello": 1 }).await.ok()?;
        let (_, port) = hello.get_str("primary").ok()?.rsplit_once(':')?;
        let port: u16 = port.parse().ok()?;
        self.members.iter().position(|member| member.port() == port)
    }
}
