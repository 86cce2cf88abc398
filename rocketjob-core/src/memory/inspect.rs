//! [`InspectStore`] in memory.

use std::ops::RangeInclusive;

use async_trait::async_trait;

use super::{
    MemoryStore,
    index::{self, Key, Place},
    jobs::Jobs,
};
use crate::{
    claim::SetAside,
    clock::{Clock as _, SystemClock},
    document::JobDocument,
    error::Result,
    inspection::Inspection,
    job_set::JobSet,
    state::State,
    storage::InspectStore,
};

#[async_trait]
impl InspectStore for MemoryStore {
    async fn inspect(&self) -> Result<Inspection> {
        Ok(Inspection {
            product: "memory".into(),
            topology: "this process".into(),
            durability: "none: everything goes with the process".into(),
            clock_offset: self.time().duration_since(SystemClock.now()),
            findings: Vec::new(),
        })
    }

    async fn count_set(&self, set: &JobSet, at_most: u64) -> Result<u64> {
        let most = usize::try_from(at_most).unwrap_or(usize::MAX);
        let data = self.data();
        let jobs = &data.jobs;
        let count = match set {
            JobSet::Ready {
                kinds,
                priorities,
                before,
            } => {
                let last = *priorities.end();
                let counts = |place: &&Place| {
                    let (priority, key) = *place;
                    let in_time = match (before, key) {
                        (Some(before), Key::Object(id)) if *priority == last => id < before,
                        _ => true,
                    };
                    priorities.contains(priority) && in_time && jobs.is_queued(key)
                };
                let ready = kinds.iter().flat_map(|kind| jobs.index.ready.iter(kind));
                ready.filter(counts).take(most).count()
            }
            JobSet::Held(hold) => jobs.index.held.iter(hold).take(most).count(),
            JobSet::State(state) => {
                let there = jobs.documents();
                let in_state = there.filter(|document| index::state(document) == Some(*state));
                in_state.take(most).count()
            }
        };
        Ok(count as u64)
    }

    async fn first_ready(
        &self,
        kind: &str,
        priorities: RangeInclusive<i64>,
        at_most: usize,
    ) -> Result<Vec<JobDocument>> {
        let data = self.data();
        let jobs = &data.jobs;
        let ready = jobs.index.ready.iter(kind);
        let first = ready.filter_map(|(priority, key)| {
            let counts = priorities.contains(priority) && jobs.is_queued(key);
            let document = counts.then(|| jobs.get(key)).flatten()?;
            JobDocument::new(document.clone()).ok()
        });
        Ok(first.take(at_most).collect())
    }

    async fn undecodable(&self, at_most: usize) -> Result<Vec<SetAside>> {
        let data = self.data();
        let aside = data.jobs.documents().filter_map(SetAside::of);
        Ok(aside.take(at_most).collect())
    }
}

impl Jobs {
    fn is_queued(&self, key: &Key) -> bool {
        self.get(key).and_then(index::state) == Some(State::Queued)
    }
}
