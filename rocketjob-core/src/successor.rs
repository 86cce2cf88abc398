//! Successors: jobs that exist because another one was settled.
//!
//! They are stored in the settled document, ids and all, in the same write; then one step of the store
//! creates them and removes them from it. A crash in between leaves them there, and any server goes on.
//! So a chain neither breaks nor forks: whoever comes late, even after a successor has come and gone,
//! finds that they are not in the document any more.
//!
//! On MongoDB that step is two writes: the successors are created first, and then forgotten. A successor
//! that goes when it completes leaves no id that exists; so it begins only when its predecessor has
//! forgotten it ([`name::FOLLOWS`]), and the server creates none when the look at the predecessor is
//! older than a tenth of a second. What this leaves is a successor that is created by two servers in
//! the same tenth of a second, of which one is done before the other one creates it.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use bson::{Bson, oid::ObjectId};
use jiff::Timestamp;

use crate::{
    change::{Change, Guard, Patch},
    clock::later,
    document::JobDocument,
    error::Result,
    filter::{Filter, Query},
    name,
    state::State,
    storage::Storage,
};

/// The id of a successor of the job `of` that is made at the store's time `now`, behind `earlier`
/// others: the same for whoever makes it.
pub fn successor_id(of: ObjectId, now: Timestamp, earlier: usize) -> ObjectId {
    let mut hasher = DefaultHasher::new();
    (of.bytes(), now.as_millisecond(), earlier).hash(&mut hasher);
    let seconds = u32::try_from(now.as_second()).unwrap_or(u32::MAX);
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&seconds.to_be_bytes());
    bytes[4..].copy_from_slice(&hasher.finish().to_be_bytes());
    ObjectId::from_bytes(bytes)
}

/// Creates the successors of the settled job `id`, and removes what then has no purpose: their
/// copies, and the document of a completed job that is not kept.
pub async fn create_successors(store: &dyn Storage, id: ObjectId) -> Result<()> {
    create_others(store, id, None).await
}

/// As [`create_successors`], but for the successor `existing`, which is there: to insert it again
/// would create it again when that takes so long that it is gone by then.
pub(crate) async fn create_others(
    store: &dyn Storage,
    id: ObjectId,
    existing: Option<ObjectId>,
) -> Result<()> {
    let Some(job) = store.get(id).await? else {
        return Ok(());
    };
    let Some(Bson::Array(successors)) = job.get(name::SUCCESSORS).cloned() else {
        return Ok(());
    };
    let mut documents = Vec::with_capacity(successors.len());
    for successor in &successors {
        match successor {
            Bson::Document(document) => documents.push(JobDocument::new(document.clone())?),
            other => tracing::error!(%id, ?other, "a successor is no document: it is dropped"),
        }
    }
    documents.retain(|document| Some(document.id()) != existing);
    let unchanged = Filter::eq(name::SUCCESSORS, Bson::Array(successors));
    let ended = job.state() == State::Completed && job.destroy_on_complete();
    let change = if ended {
        Change::delete()
    } else {
        Change::new().unset(name::SUCCESSORS)
    };
    // Refused when another server was faster, which is as good.
    let guard = Guard::states([job.state()]).matching(unchanged);
    let patch = Patch { id, guard, change };
    let _ = store.update_and_insert(patch, documents).await?;
    Ok(())
}

/// Creates successors whose creation was interrupted, of at most `limit` jobs, and says of how many.
///
/// Those that have waited for less than `age` are left to who is about to create them: two who do it
/// at the same time are one too many when one of them is stopped on the way.
pub async fn recover_successors(store: &dyn Storage, limit: usize, age: Duration) -> Result<usize> {
    let query = Query {
        limit,
        ..Query::new(Filter::exists(name::SUCCESSORS))
    };
    let mut pending = store.find(&query).await?;
    let now = store.now();
    pending.retain(|job| {
        let since = job.completed_at().or(job.started_at());
        // Of a time that is to come, the clock was set back since.
        since.is_none_or(|since| since > now || later(since, age) <= now)
    });
    for job in &pending {
        create_successors(store, job.id()).await?;
    }
    Ok(pending.len())
}
