//! Looking for what is in a job's way.

use std::time::Duration;

use bson::{Bson, oid::ObjectId};
use jiff::Timestamp;

use super::{
    Explanation,
    reason::{Ahead, Busy, Passed, Passing, Reason, ServerStanding, headline},
};
use crate::{
    claim::ClaimToken,
    definition::PublishedDefinition,
    document::JobDocument,
    error::{Error, Result},
    job_set::{COUNTED, JobSet},
    limit::Limit,
    name,
    server::{ServerDocument, ServerState},
    state::State,
    storage::Storage,
    version::version_of,
};

/// How many jobs in workers' hands are told.
const TOLD: usize = 10;
/// How many claims of one server are looked at.
const CLAIMS: usize = 1_000;
/// How many servers without documents are looked at for places in limits.
const STRAYS: usize = 100;
/// Within which time servers make due jobs ready, and adopt those of the original.
const TICK: Duration = Duration::from_secs(1);

pub(super) async fn explain(store: &dyn Storage, id: ObjectId) -> Result<Explanation> {
    let now = store.now();
    let told = |job: Option<&JobDocument>, reason| Explanation {
        id,
        kind: job.map(|job| job.kind().to_owned()),
        state: job.map(JobDocument::state),
        asked_at: now,
        reason,
    };
    match store.get(id).await {
        Ok(None) => Ok(told(None, Reason::NoSuchJob)),
        Err(Error::Undecodable { kind, reason, .. }) => Ok(Explanation {
            // Text of any value: that of a string has quotes.
            kind: Some(kind.trim_matches('"').to_owned()),
            ..told(None, Reason::Undecodable { problem: reason })
        }),
        Err(error) => Err(error),
        Ok(Some(job)) => {
            let look = Look {
                store,
                job: &job,
                servers: store.servers().await?,
                now,
            };
            let reason = look.reason().await?;
            Ok(told(Some(&job), reason))
        }
    }
}

/// What is known while a reason is looked for.
struct Look<'l> {
    store: &'l dyn Storage,
    job: &'l JobDocument,
    servers: Vec<ServerDocument>,
    now: Timestamp,
}

impl Look<'_> {
    async fn reason(&self) -> Result<Reason> {
        match self.job.state() {
            State::Queued => self.queued().await,
            State::Running => Ok(self.running()),
            _ => Ok(self.ended()),
        }
    }

    fn ended(&self) -> Reason {
        let at = self.job.completed_at();
        match self.job.state() {
            State::Completed => Reason::Completed { at },
            State::Aborted => Reason::Aborted { at },
            State::Paused => Reason::Paused { since: at },
            _ => {
                let failure = self.job.exception();
                Reason::Failed {
                    at,
                    failures: self.job.failure_count(),
                    message: failure.as_ref().and_then(headline),
                    class_name: failure.map(|failure| failure.class_name),
                }
            }
        }
    }

    fn running(&self) -> Reason {
        let worker_name = self.job.worker_name();
        let claimed_by = self.job.token().and_then(ClaimToken::server_of);
        let holds = |server: &&ServerDocument| {
            let named = worker_name.is_some_and(|worker| server.has_worker(worker));
            named || (!server.is_original() && claimed_by == Some(server.id))
        };
        let server = self.servers.iter().find(holds);
        Reason::Running {
            worker_name: worker_name.map(ToOwned::to_owned),
            since: self.job.started_at(),
            server: server.map(|server| self.standing(server)),
        }
    }

    async fn queued(&self) -> Result<Reason> {
        let job = self.job;
        if let Some(at) = job.expires_at().filter(|_| job.is_expired(self.now)) {
            return Ok(Reason::Expired { at });
        }
        if let Some(run_at) = job.run_at().filter(|run_at| *run_at > self.now) {
            let remaining = run_at.duration_since(self.now);
            let remaining = Duration::try_from(remaining).unwrap_or_default();
            return Ok(Reason::Scheduled { run_at, remaining });
        }
        let hold = job.hold().filter(|_| !job.is_ready());
        if let Some(hold) = hold.filter(|hold| *hold != name::HOLD_SCHEDULED) {
            return self.held(hold).await;
        }
        let takers = match self.takers() {
            Ok(takers) => takers,
            Err(reason) => return Ok(reason),
        };
        if !job.is_ready() {
            return Ok(Reason::NotYetReady {
                because: hold.map_or(Passing::Unmarked, |_| Passing::Due),
                within: TICK,
            });
        }
        self.in_the_queue(&takers).await
    }

    async fn held(&self, hold: &str) -> Result<Reason> {
        if let Some(limit) = hold.strip_prefix(&Limit::hold("")) {
            if let Some(reason) = self.held_for_version(limit) {
                return Ok(reason);
            }
            let now = self.store.now();
            let stored = self.store.limit(limit).await?;
            let next = stored.and_then(|stored| {
                // A rate whose next look is being written.
                let next_start = || stored.next_free(now).unwrap_or(now);
                stored.next.or_else(|| stored.is_rate().then(next_start))
            });
            if let Some(next) = next {
                let limit = limit.to_owned();
                return Ok(Reason::HeldForTime { limit, next });
            }
            let holders = self.holders(limit).await?;
            return Ok(Reason::HeldForLimit {
                limit: limit.to_owned(),
                holders,
            });
        }
        if hold != name::HOLD_SUSPECT {
            return Ok(Reason::Held {
                hold: hold.to_owned(),
            });
        }
        // Suspects are made ready by servers.
        if let Err(reason) = self.takers() {
            return Ok(reason);
        }
        let waiting = JobSet::Held(hold.to_owned());
        Ok(Reason::HeldAsSuspect {
            lost_claims: self.job.lost_claims(),
            waiting: self.count(&waiting).await?,
        })
    }

    fn held_for_version(&self, limit: &str) -> Option<Reason> {
        let (kind, version) = (self.job.kind(), version_of(self.job.as_document()));
        if limit != Limit::version(kind, version).key {
            return None;
        }
        let knows = |server: &&ServerDocument| {
            let mut definitions = server.definitions.iter();
            !server.is_lapsed(self.now)
                && definitions
                    .any(|known| known.version >= version && known.names().any(|name| name == kind))
        };
        let servers: Vec<_> = self.servers.iter().filter(knows).collect();
        Some(Reason::HeldForVersion {
            version,
            servers: self.standings(&servers),
        })
    }

    /// The servers that would take the job now, or why there are none.
    fn takers(&self) -> Result<Vec<&ServerDocument>, Reason> {
        let (live, lapsed): (Vec<_>, Vec<_>) = self
            .servers
            .iter()
            .partition(|server| !server.is_lapsed(self.now));
        if live.is_empty() {
            return Err(Reason::NoServer {
                lapsed: self.standings(&lapsed),
            });
        }
        let performs = |server: &&&ServerDocument| server.performs(self.job.kind());
        let knowing: Vec<_> = live.iter().filter(performs).copied().collect();
        if knowing.is_empty() {
            let away: Vec<_> = lapsed.iter().filter(performs).copied().collect();
            if !away.is_empty() {
                return Err(Reason::ServersAway {
                    servers: self.standings(&away),
                });
            }
            return Err(Reason::UnknownKind {
                originals: live.iter().filter(|server| server.is_original()).count(),
                servers: self.standings(&live),
            });
        }
        let accepting: Vec<_> = knowing
            .iter()
            .filter(|server| server.accepts(self.job))
            .copied()
            .collect();
        if accepting.is_empty() {
            let passed = |server: &&ServerDocument| {
                let filter = server.filter.clone()?;
                let name = server.name.clone();
                Some(Passed { name, filter })
            };
            return Err(Reason::FilteredOut {
                servers: knowing.iter().filter_map(passed).collect(),
            });
        }
        let working: Vec<_> = accepting
            .iter()
            .filter(|server| server.state == ServerState::Running)
            .copied()
            .collect();
        if working.is_empty() {
            return Err(Reason::ServersAway {
                servers: self.standings(&accepting),
            });
        }
        Ok(working)
    }

    /// The reason why a job waits that is ready, and that `takers` take.
    async fn in_the_queue(&self, takers: &[&ServerDocument]) -> Result<Reason> {
        let mut kinds: Vec<&str> = takers
            .iter()
            .flat_map(|server| &server.definitions)
            .flat_map(PublishedDefinition::names)
            .collect();
        kinds.sort_unstable();
        kinds.dedup();
        let ahead = JobSet::ahead_of(kinds, self.job.priority(), self.job.id());
        let ahead = self.count(&ahead).await?;
        let (mut workers, mut idle, mut busy) = (0, 0, Vec::new());
        for server in takers {
            let beat = server.heartbeat.map(|heartbeat| heartbeat.workers);
            let size = beat.unwrap_or(server.max_workers) as usize;
            let claims = self.store.claims_of(server.id, None, CLAIMS).await?;
            workers += size;
            idle += size.saturating_sub(claims.len());
            busy.extend(claims.iter().map(|claim| self.busy(claim)));
        }
        if idle == 0 {
            return Ok(Reason::WorkersBusy {
                workers,
                busy: longest(busy),
                ahead,
            });
        }
        if ahead.count >= idle as u64 {
            return Ok(Reason::Behind { ahead, idle });
        }
        let soonest = takers.iter().map(|server| server.poll_interval()).min();
        Ok(Reason::NothingInTheWay {
            // Servers look up to a quarter later than they say.
            within: soonest.unwrap_or_default().mul_f64(1.25),
            servers: takers.iter().map(|server| server.name.clone()).collect(),
        })
    }

    /// Who has the places of `limit`, the longest first.
    async fn holders(&self, limit: &str) -> Result<Vec<Busy>> {
        let prefix = Limit::slot_prefix(limit);
        let has_place = |job: &&JobDocument| {
            let slots = job.get(name::SLOTS).and_then(Bson::as_array);
            let mut slots = slots.into_iter().flatten().filter_map(Bson::as_str);
            slots.any(|slot| {
                // A key may have colons in it, and be the beginning of another.
                slot.strip_prefix(&prefix)
                    .is_some_and(|number| number.parse::<u32>().is_ok())
            })
        };
        let mut holders = Vec::new();
        let mut after = String::new();
        // From server to server: also those that are dead, and hold places until they are found.
        for _ in 0..self.servers.len() + STRAYS {
            let Some(first) = self.store.next_claim(&after).await? else {
                break;
            };
            let Some(token) = first.token() else { break };
            let claims = if let Some(server) = ClaimToken::server_of(token) {
                after = ClaimToken::end(server);
                self.store.claims_of(server, None, CLAIMS).await?
            } else {
                token.clone_into(&mut after);
                vec![first]
            };
            let having = claims.iter().filter(has_place);
            holders.extend(having.map(|claim| self.busy(claim)));
        }
        Ok(longest(holders))
    }

    async fn count(&self, set: &JobSet) -> Result<Ahead> {
        let count = self.store.count_set(set, COUNTED).await?;
        Ok(Ahead {
            count,
            or_more: count == COUNTED,
        })
    }

    fn busy(&self, job: &JobDocument) -> Busy {
        let since = job.started_at().unwrap_or(self.now);
        Busy {
            id: job.id(),
            kind: job.kind().to_owned(),
            worker_name: job.worker_name().unwrap_or_default().to_owned(),
            since: Duration::try_from(self.now.duration_since(since)).unwrap_or_default(),
        }
    }

    fn standing(&self, server: &ServerDocument) -> ServerStanding {
        ServerStanding::of(server, self.now)
    }

    fn standings(&self, servers: &[&ServerDocument]) -> Vec<ServerStanding> {
        servers.iter().map(|server| self.standing(server)).collect()
    }
}

/// The first few, the longest first.
fn longest(mut busy: Vec<Busy>) -> Vec<Busy> {
    busy.sort_by_key(|busy| std::cmp::Reverse(busy.since));
    busy.truncate(TOLD);
    busy
}
