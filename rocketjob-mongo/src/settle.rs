//! Settlements: the outcomes of many claims in one command.
//!
//! Claims with one token that end alike share a statement; never do two tokens, since then one
//! server's fence would open for another. When as many documents were met as were named, all is
//! well and nothing is read. Otherwise the documents tell what became of each.

use std::collections::{HashMap, HashSet};

use bson::{Document, RawDocumentBuf, doc, oid::ObjectId};
use futures_util::future::try_join_all;
use mongodb::options::Hint;
use rocketjob_core::{Change, Guard, Patch, Refusal, Result, Settled, State, name};

use crate::{
    command::{self, Durability, Verb, Written},
    error, filter,
    query::limited,
    steer::are_steered,
    store::MongoStore,
    update::operators,
};

/// Patches, by their number, that end alike.
struct Group<'p> {
    statement: RawDocumentBuf,
    patches: Vec<(usize, &'p Patch)>,
}

/// Patches with one token and one change.
struct Alike<'p> {
    token: &'p str,
    change: RawDocumentBuf,
    patches: Vec<(usize, &'p Patch)>,
}

impl MongoStore {
    pub(crate) async fn settle_patches(&self, patches: Vec<Patch>) -> Result<Vec<Settled>> {
        let mut settled = vec![Settled::Accepted; patches.len()];
        let mut put = |refused: Vec<(usize, Settled)>| {
            for (at, refused) in refused {
                if let Some(place) = settled.get_mut(at) {
                    *place = refused;
                }
            }
        };
        if patches.len() > 1 && are_steered(&patches) {
            return self.settle_steered(&patches).await;
        }
        let mut open: Vec<(usize, &Patch)> = patches.iter().enumerate().collect();
        if patches.iter().any(may_take_key) {
            // Whether a key is free depends on the patches before.
            for (at, patch) in open {
                put(self.settle_alone(at, patch).await?.into_iter().collect());
            }
            return Ok(settled);
        }
        // Two patches of one job must be made one after the other.
        while !open.is_empty() {
            let mut jobs = HashSet::new();
            let (wave, later): (Vec<_>, Vec<_>) = open
                .into_iter()
                .partition(|(_, patch)| jobs.insert(patch.id));
            put(self.settle_wave(wave).await?);
            open = later;
        }
        Ok(settled)
    }

    /// Settles patches of different jobs, and tells what became of those that were not accepted.
    async fn settle_wave(&self, wave: Vec<(usize, &Patch)>) -> Result<Vec<(usize, Settled)>> {
        let (single, grouped): (Vec<_>, Vec<_>) = wave
            .into_iter()
            .partition(|(_, patch)| is_told_alone(patch));
        let (deletions, updates): (Vec<_>, Vec<_>) = grouped
            .into_iter()
            .partition(|(_, patch)| patch.change.delete);
        let mut refused = Vec::new();
        for (verb, patches) in [(Verb::Update, updates), (Verb::Delete, deletions)] {
            let groups = groups(verb, patches)?;
            refused.extend(self.settle_groups(verb, &groups).await?);
        }
        let alone = single
            .into_iter()
            .map(|(at, patch)| self.settle_alone(at, patch));
        refused.extend(try_join_all(alone).await?.into_iter().flatten());
        Ok(refused)
    }

    async fn settle_groups(
        &self,
        verb: Verb,
        groups: &[Group<'_>],
    ) -> Result<Vec<(usize, Settled)>> {
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let statements: Vec<_> = groups.iter().map(|group| group.statement.clone()).collect();
        let written = self.write(verb, &statements, Durability::Majority).await?;
        let sent: usize = groups.iter().map(|group| group.patches.len()).sum();
        if !written.repeated && written.met == sent as u64 {
            return Ok(Vec::new());
        }
        let (duplicates, failed): (Vec<_>, Vec<_>) = written
            .failures
            .iter()
            .partition(|failure| failure.is_duplicate());
        let in_doubt: HashSet<_> = duplicates.iter().map(|failure| failure.statement).collect();
        let mut refused = Vec::new();
        let mut rest = Vec::new();
        for (number, group) in groups.iter().enumerate() {
            if in_doubt.contains(&number) {
                // The statement ended at the job that stands against a unique key: one by one.
                let alone = group
                    .patches
                    .iter()
                    .map(|(at, patch)| self.settle_alone(*at, patch));
                refused.extend(try_join_all(alone).await?.into_iter().flatten());
            } else {
                rest.extend(group.patches.iter().copied());
            }
        }
        let in_doubt = !duplicates.is_empty();
        refused.extend(self.told(&rest, &written, in_doubt).await?);
        match failed.first() {
            None => Ok(refused),
            Some(failure) => Err(failure.to_error()),
        }
    }

    /// Reads what became of `patches`.
    async fn told(
        &self,
        patches: &[(usize, &Patch)],
        written: &Written,
        in_doubt: bool,
    ) -> Result<Vec<(usize, Settled)>> {
        let ids = patches.iter().map(|(_, patch)| patch.id).collect();
        let found = self.settled_documents(ids).await?;
        // How many deletions met a document cannot be told once another try may have been made.
        // Otherwise, when none did, all that are missing were missing before.
        let deleted = written.repeated || in_doubt || written.met > 0;
        let told = patches.iter().map(|(at, patch)| {
            let settled = match found.get(&patch.id) {
                None if patch.change.delete && deleted => Settled::Accepted,
                None => Settled::Refused(Refusal::NotFound),
                Some(document) => judge(patch, document),
            };
            (*at, settled)
        });
        Ok(told
            .filter(|(_, settled)| *settled != Settled::Accepted)
            .collect())
    }

    pub(crate) async fn settled_documents(
        &self,
        ids: Vec<ObjectId>,
    ) -> Result<HashMap<ObjectId, Document>> {
        let mut options = limited(0);
        options.hint = Some(Hint::Keys(doc! { name::ID: 1 }));
        let fields = doc! {
            name::STATE: 1,
            name::CLAIM: 1,
            name::WORKER_NAME: 1,
            name::RETRIED_CLAIM: 1,
        };
        let found = self
            .read_fields(doc! { name::ID: { "$in": ids } }, options, fields)
            .await?;
        let keyed = found
            .into_iter()
            .filter_map(|document| Some((document.get_object_id(name::ID).ok()?, document)));
        Ok(keyed.collect())
    }

    /// Settles one patch in a command of its own, whose count tells about it alone.
    async fn settle_alone(&self, at: usize, patch: &Patch) -> Result<Option<(usize, Settled)>> {
        let group = Group::alone(at, patch)?;
        let verb = if patch.change.delete {
            Verb::Delete
        } else {
            Verb::Update
        };
        let written = self
            .write(verb, &[group.statement], Durability::Majority)
            .await?;
        if written.met == 1 {
            return Ok(None);
        }
        if let Some(failure) = written.failures.first() {
            let holder = match &failure.key {
                Some(key) if failure.is_duplicate() => self.holder(key).await?,
                _ => None,
            };
            let holder = holder.ok_or_else(|| failure.to_error())?;
            return Ok(Some((at, Settled::Refused(Refusal::Existing(holder)))));
        }
        let found = self.settled_documents(vec![patch.id]).await?;
        let settled = match found.get(&patch.id) {
            None if patch.change.delete && written.repeated => Settled::Accepted,
            None => Settled::Refused(Refusal::NotFound),
            Some(document) if patch.was_made(document) => Settled::Accepted,
            Some(document) if written.repeated => judge(patch, document),
            Some(document) => Settled::Refused(patch.guard.refusal(document)),
        };
        Ok((settled != Settled::Accepted).then_some((at, settled)))
    }
}

impl<'p> Group<'p> {
    fn alone(at: usize, patch: &'p Patch) -> Result<Self> {
        let condition = filter::guarded(patch.id, &patch.guard)?;
        let statement = if patch.change.delete {
            command::delete(condition)?
        } else {
            command::update(condition, &encoded(&patch.change)?)?
        };
        Ok(Self {
            statement,
            patches: vec![(at, patch)],
        })
    }
}

/// Whether the change may give the job a unique key that another job has: outcomes never do.
fn may_take_key(patch: &Patch) -> bool {
    let set = &patch.change.set;
    patch.guard.states != [State::Running]
        || set.contains_key(name::UNIQUE_KEY)
        || set.contains_key(name::UNFINISHED_KEY)
}

/// Whether the document afterwards would not tell that the patch was made: only the count does.
fn is_told_alone(patch: &Patch) -> bool {
    patch.guard.claim.is_none()
        || (patch.guard.matching.is_some() && !leaves_running(&patch.change))
}

fn leaves_running(change: &Change) -> bool {
    !change.delete && change.state().is_some_and(|state| state != State::Running)
}

/// Puts together what may stand in one statement, in the order of the patches.
fn groups(verb: Verb, patches: Vec<(usize, &Patch)>) -> Result<Vec<Group<'_>>> {
    let mut alike: HashMap<(&str, Vec<u8>), usize> = HashMap::new();
    let mut sets: Vec<Alike<'_>> = Vec::new();
    let mut groups = Vec::new();
    for (at, patch) in patches {
        match &patch.guard {
            Guard {
                claim: Some(claim),
                matching: None,
                ..
            } => {
                let change = match verb {
                    Verb::Update => encoded(&patch.change)?,
                    Verb::Delete => RawDocumentBuf::new(),
                };
                let token = claim.token.as_str();
                let key = (token, change.as_bytes().to_vec());
                let number = *alike.entry(key).or_insert(sets.len());
                match sets.get_mut(number) {
                    Some(set) => set.patches.push((at, patch)),
                    None => sets.push(Alike {
                        token,
                        change,
                        patches: vec![(at, patch)],
                    }),
                }
            }
            _ => groups.push(Group::alone(at, patch)?),
        }
    }
    for Alike {
        token,
        change,
        patches,
    } in sets
    {
        let condition = fence(token, &patches);
        let statement = match verb {
            Verb::Update => command::update(condition, &change)?,
            Verb::Delete => command::delete(condition)?,
        };
        groups.push(Group { statement, patches });
    }
    Ok(groups)
}

/// The jobs of `patches` as long as they are held under `token`.
fn fence(token: &str, patches: &[(usize, &Patch)]) -> Document {
    let claims = patches
        .iter()
        .filter_map(|(_, patch)| patch.guard.claim.as_ref());
    let mut workers: Vec<&str> = claims.map(|claim| claim.worker_name.as_str()).collect();
    workers.sort_unstable();
    workers.dedup();
    let ids: Vec<ObjectId> = patches.iter().map(|(_, patch)| patch.id).collect();
    doc! {
        name::ID: { "$in": ids },
        name::STATE: State::Running.as_str(),
        name::CLAIM: token,
        name::WORKER_NAME: { "$in": workers },
    }
}

pub(crate) fn encoded(change: &Change) -> Result<RawDocumentBuf> {
    RawDocumentBuf::try_from(operators(change)).map_err(error::unusable)
}

/// What a document says of a patch that was sent together with others.
fn judge(patch: &Patch, document: &Document) -> Settled {
    let saved = !patch.change.delete && !leaves_running(&patch.change);
    if patch.was_made(document) || (saved && patch.guard.holds(document)) {
        Settled::Accepted
    } else {
        Settled::Refused(patch.guard.refusal(document))
    }
}
