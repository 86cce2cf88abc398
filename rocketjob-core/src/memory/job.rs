//! [`JobStore`] in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bson::oid::ObjectId;
use jiff::Timestamp;

use super::{MemoryStore, claim, find, index};
use crate::{
    bell::{Bells, News},
    change::{Insertion, Patch, Refusal, Settled},
    claim::{ClaimRequest, Claimed},
    document::JobDocument,
    error::Result,
    filter::{Filter, Query, ReadFrom},
    opening::Openings,
    state::State,
    storage::JobStore,
};

#[async_trait]
impl JobStore for MemoryStore {
    fn now(&self) -> Timestamp {
        self.time()
    }

    fn next_id(&self) -> ObjectId {
        self.mint()
    }

    fn address(&self) -> String {
        "memory://".into()
    }

    async fn insert(&self, jobs: Vec<JobDocument>) -> Result<Vec<Insertion>> {
        let news = News::of_jobs(&jobs);
        let insertions = {
            let mut data = self.data();
            jobs.into_iter().map(|job| data.jobs.insert(job)).collect()
        };
        self.0.bell.ring(news);
        Ok(insertions)
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claimed> {
        let now = self.time();
        let mint = || self.mint();
        Ok(claim::claim(&mut self.data().jobs, request, now, &mint))
    }

    async fn settle(&self, patches: Vec<Patch>) -> Result<Vec<Settled>> {
        let settled = {
            let mut data = self.data();
            patches
                .iter()
                .map(|patch| data.jobs.settle(patch))
                .collect()
        };
        self.0.bell.ring(News::of_patches(&patches));
        Ok(settled)
    }

    async fn update(&self, patch: Patch) -> Result<Result<JobDocument, Refusal>> {
        let written = self.data().jobs.patch(&patch);
        match written {
            Err(refusal) => Ok(Err(refusal)),
            Ok(written) => {
                self.0.bell.ring(News::of_patch(&patch));
                JobDocument::new(written.after.unwrap_or(written.before)).map(Ok)
            }
        }
    }

    async fn update_and_insert(
        &self,
        patch: Patch,
        jobs: Vec<JobDocument>,
    ) -> Result<Result<Vec<Insertion>, Refusal>> {
        let news = [News::of_patch(&patch), News::of_jobs(&jobs)];
        let insertions: Vec<_> = {
            let mut data = self.data();
            if let Err(refusal) = data.jobs.patch(&patch) {
                return Ok(Err(refusal));
            }
            jobs.into_iter().map(|job| data.jobs.insert(job)).collect()
        };
        for news in news {
            self.0.bell.ring(news);
        }
        Ok(Ok(insertions))
    }

    async fn promote(&self, limit: usize) -> Result<u64> {
        let now = self.time();
        let promoted = self.data().jobs.promote(limit, now);
        if promoted > 0 {
            self.0.bell.ring(News::READY);
        }
        Ok(promoted)
    }

    async fn release(&self, hold: &str, count: usize) -> Result<u64> {
        let released = self.data().jobs.release(hold, count);
        if released > 0 {
            self.0.bell.ring(News::READY);
        }
        Ok(released)
    }

    async fn next_held(&self, after: &str) -> Result<Option<JobDocument>> {
        Ok(self.data().jobs.next_held(after))
    }

    async fn claims_of(
        &self,
        server: ObjectId,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<JobDocument>> {
        Ok(self.data().jobs.claims_of(server, after, limit))
    }

    async fn next_claim(&self, after: &str) -> Result<Option<JobDocument>> {
        Ok(self.data().jobs.next_claim(after))
    }

    async fn next_kind(&self, after: &str) -> Result<Option<String>> {
        let data = self.data();
        Ok(data
            .jobs
            .index
            .ready
            .next_group(after)
            .map(ToOwned::to_owned))
    }

    async fn get(&self, id: ObjectId) -> Result<Option<JobDocument>> {
        let document = self.raw(id);
        document.map(JobDocument::new).transpose()
    }

    async fn find(&self, query: &Query) -> Result<Vec<JobDocument>> {
        Ok(find::find(&self.data().jobs, query))
    }

    async fn count(&self, filter: &Filter, _read_from: ReadFrom) -> Result<u64> {
        Ok(self.data().jobs.matching(filter).count() as u64)
    }

    async fn count_by_state(
        &self,
        filter: &Filter,
        _read_from: ReadFrom,
    ) -> Result<BTreeMap<State, u64>> {
        let mut counts = BTreeMap::new();
        for (_, document) in self.data().jobs.matching(filter) {
            if let Some(state) = index::state(document) {
                *counts.entry(state).or_insert(0) += 1;
            }
        }
        Ok(counts)
    }

    async fn delete(&self, filter: &Filter) -> Result<u64> {
        Ok(self.data().jobs.delete(filter))
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        let now = self.time();
        Ok(self.data().jobs.next_due(now))
    }

    fn bells(&self) -> Bells {
        self.0.bell.rung()
    }

    async fn work_ready(&self, known: Bells) -> Bells {
        self.0.bell.wait(known).await
    }

    fn hears_others(&self) -> bool {
        // There is no other process.
        true
    }

    fn openings(&self) -> &Openings {
        &self.0.openings
    }
}
