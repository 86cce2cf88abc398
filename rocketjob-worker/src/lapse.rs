//! Who has been silent for too long.

use std::{collections::HashMap, time::Duration};

use bson::oid::ObjectId;
use rocketjob_core::ServerDocument;
use tokio::time::Instant;

/// Watches the heartbeat counters of servers by this process's own monotonic clock: no wall clock
/// is asked, neither here nor there.
#[derive(Debug)]
pub(crate) struct Observer {
    /// How often it is meant to look. A longer gap is this process's own fault (it was paused, the
    /// store was away) and counts as one look, so that who has slept declares nobody dead for it.
    interval: Duration,
    last_look: Option<Instant>,
    seen: HashMap<ObjectId, Seen>,
}

#[derive(Debug)]
struct Seen {
    beats: u64,
    silent: Duration,
}

impl Observer {
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            interval,
            last_look: None,
            seen: HashMap::new(),
        }
    }

    /// Looks at all servers, and returns those that were silent for their lease. Servers of the
    /// original have no counter, and are left to their own.
    pub(crate) fn look(&mut self, servers: &[ServerDocument]) -> Vec<ServerDocument> {
        let now = Instant::now();
        let gap = self
            .last_look
            .map_or(Duration::ZERO, |last| now.duration_since(last))
            .min(self.interval * 2);
        self.last_look = Some(now);
        self.seen
            .retain(|id, _| servers.iter().any(|server| server.id == *id));
        let mut lapsed = Vec::new();
        for server in servers.iter().filter(|server| !server.is_original()) {
            let beats = server.beats();
            match self.seen.get_mut(&server.id) {
                Some(seen) if seen.beats == beats => {
                    seen.silent += gap;
                    if seen.silent >= server.lease() {
                        lapsed.push(server.clone());
                    }
                }
                // From now on: nobody knows for how long it has stood there.
                _ => {
                    let silent = Duration::ZERO;
                    self.seen.insert(server.id, Seen { beats, silent });
                }
            }
        }
        lapsed
    }
}

#[cfg(test)]
mod tests {
    use rocketjob_core::{Heartbeat, ServerState};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn server(id: u8, beats: u64) -> ServerDocument {
        ServerDocument {
            id: ObjectId::from_bytes([id; 12]),
            name: format!("host:{id}"),
            max_workers: 1,
            started_at: None,
            state: ServerState::Running,
            heartbeat: Some(Heartbeat {
                updated_at: "2026-01-01T00:00:00Z".parse().unwrap(),
                workers: 1,
                counter: beats,
            }),
            lease: Some(SECOND * 4),
            version: "1".into(),
            definitions: Vec::new(),
            filter: None,
            poll_interval: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_beat_for_the_lease_has_lapsed() {
        let mut observer = Observer::new(SECOND);
        for second in 0..4 {
            assert_eq!(observer.look(&[server(1, 7), server(2, second)]), []);
            tokio::time::advance(SECOND).await;
        }
        assert_eq!(observer.look(&[server(1, 7), server(2, 5)]), [server(1, 7)]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_seen_for_the_first_time_has_all_its_lease() {
        let mut observer = Observer::new(SECOND);
        observer.look(&[]);
        tokio::time::advance(SECOND).await;
        for _ in 0..4 {
            assert_eq!(observer.look(&[server(1, 0)]), []);
            tokio::time::advance(SECOND).await;
        }
        assert_eq!(observer.look(&[server(1, 0)]), [server(1, 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_slept_itself_declares_nobody_dead_for_it() {
        let mut observer = Observer::new(SECOND);
        observer.look(&[server(1, 7)]);
        tokio::time::advance(SECOND * 3600).await;
        assert_eq!(observer.look(&[server(1, 7)]), []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_of_the_original_is_left_alone() {
        let mut observer = Observer::new(SECOND);
        let original = ServerDocument {
            version: String::new(),
            ..server(1, 0)
        };
        for _ in 0..100 {
            assert_eq!(observer.look(std::slice::from_ref(&original)), []);
            tokio::time::advance(SECOND).await;
        }
    }
}
