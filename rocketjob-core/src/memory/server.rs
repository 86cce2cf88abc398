//! [`ServerStore`] in memory.

use async_trait::async_trait;
use bson::oid::ObjectId;

use super::MemoryStore;
use crate::{
    error::{Error, Result},
    server::{Heartbeat, ServerDocument, ServerState},
    storage::ServerStore,
};

#[async_trait]
impl ServerStore for MemoryStore {
    async fn insert_server(&self, server: &ServerDocument) -> Result<()> {
        let mut data = self.data();
        let taken = data
            .servers
            .values()
            .any(|other| other.name == server.name && other.id != server.id);
        if taken {
            return Err(Error::ServerNameTaken {
                name: server.name.clone(),
            });
        }
        data.servers
            .entry(server.id)
            .or_insert_with(|| server.clone());
        Ok(())
    }

    async fn heartbeat(&self, id: ObjectId, workers: u32) -> Result<Option<ServerDocument>> {
        let updated_at = self.time();
        let mut data = self.data();
        let server = data.servers.get_mut(&id).map(|server| {
            let before = server.heartbeat.map_or(0, |heartbeat| heartbeat.counter);
            server.heartbeat = Some(Heartbeat {
                updated_at,
                workers,
                counter: before + 1,
            });
            server.clone()
        });
        Ok(server)
    }

    async fn set_server_state(
        &self,
        id: ObjectId,
        from: &[ServerState],
        to: ServerState,
    ) -> Result<bool> {
        let mut data = self.data();
        let server = data
            .servers
            .get_mut(&id)
            .filter(|server| from.contains(&server.state));
        Ok(server.map(|server| server.state = to).is_some())
    }

    async fn set_max_workers(&self, id: ObjectId, max_workers: u32) -> Result<bool> {
        let mut data = self.data();
        let server = data.servers.get_mut(&id);
        Ok(server
            .map(|server| server.max_workers = max_workers)
            .is_some())
    }

    async fn servers(&self) -> Result<Vec<ServerDocument>> {
        Ok(self.data().servers.values().cloned().collect())
    }

    async fn remove_server(&self, id: ObjectId) -> Result<bool> {
        Ok(self.data().servers.remove(&id).is_some())
    }

    async fn declare_dead(&self, id: ObjectId, counter: u64) -> Result<bool> {
        let mut data = self.data();
        let stands = data
            .servers
            .get(&id)
            .is_some_and(|server| server.beats() == counter);
        if stands {
            data.servers.remove(&id);
        }
        Ok(stands)
    }
}
