//! Recovery: what happens to the jobs of a server that is dead.
//!
//! A claim whose server has no document is nobody's: whoever finds it hands it back. The claims are
//! read before the servers, and a server registers before it claims, so that no live server's claim
//! is ever taken for such a one, whatever the clocks say.
//!
//! A job that kills its server must not be performed for ever, and must not draw others with it. The
//! first loss of a job proves nothing: a server has many jobs in hand when it dies. From then on the
//! job is a *suspect*: a server performs only one suspect at a time, and notes in the document that
//! it begins. Only a suspect that had begun is counted as lost again. Thousands of suspects may wait
//! after a crash: they are held, so that they are in nobody's way, and servers make a few ready at a
//! time ([`release_suspects`]).

use jiff::Timestamp;

use crate::{
    change::{Change, Guard, Patch, Settled},
    claim::{Claim, ClaimToken},
    definition::{Definition, LostClaim},
    document::JobDocument,
    error::Result,
    failure::{JobFailure, LOST_CLAIM},
    name,
    registry::Registry,
    server::ServerDocument,
    settlement::{Outcome, Settlement},
    state::Transition,
    storage::Storage,
};

/// How many claims are read and written at a time.
const PAGE: usize = 1000;
/// How many suspects become ready at a time.
const SUSPECTS: usize = 20;

/// Whether servers have died with the job before.
pub fn is_suspect(job: &JobDocument) -> bool {
    job.lost_claims() > 0
}

/// Whether it must be known of the job after a crash that `perform` had begun: then
/// [`mark_begun`] is written before it begins.
pub fn is_marked(job: &JobDocument, definition: &Definition) -> bool {
    is_suspect(job)
        || definition.on_lost_claim == LostClaim::Fail
        || definition.max_lost_claims <= 1
}

/// Makes the next suspects ready, and says how many. For a server that has none in hand.
///
/// # Errors
/// Those of the store.
pub async fn release_suspects(store: &dyn Storage) -> Result<u64> {
    store.release(name::HOLD_SUSPECT, SUSPECTS).await
}

/// The write that notes that `perform` begins under `claim`.
pub fn mark_begun(job: &JobDocument, claim: Claim) -> Patch {
    Patch {
        id: job.id(),
        change: Change::new().set(name::BEGUN_CLAIM, &claim.token),
        guard: Guard::claimed(claim),
    }
}

/// What one recovery has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Jobs that wait again.
    pub requeued: usize,
    /// Jobs that were failed, since too many servers died with them.
    pub failed: usize,
    /// Jobs of kinds that are not in the registry: they are left to a server that performs them.
    pub unknown: usize,
}

/// Ends the claims of all servers that have no document, for the kinds in `registry`.
///
/// Any number of servers may do so at the same time: each claim is ended once.
pub async fn recover(store: &dyn Storage, registry: &Registry) -> Result<Recovered> {
    let mut holders = Vec::new();
    let mut after = String::new();
    while let Some(job) = store.next_claim(&after).await? {
        let Some(token) = job.token() else { break };
        match ClaimToken::server_of(token) {
            Some(server) => {
                holders.push(server);
                after = ClaimToken::end(server);
            }
            // Whoever wrote it, it is not ours to judge.
            None => token.clone_into(&mut after),
        }
    }
    let mut recovered = Recovered::default();
    if holders.is_empty() {
        return Ok(recovered);
    }
    // Only now: a claim that was seen belongs to a server that was registered before.
    let servers = store.servers().await?;
    for holder in holders {
        if servers.iter().any(|server| server.id == holder) {
            continue;
        }
        let mut after = None;
        loop {
            let page = store.claims_of(holder, after, PAGE).await?;
            // Documents that cannot be read make a page shorter, and it may not be the last.
            let Some(last) = page.last() else { break };
            after = Some(last.id());
            end_claims(store, registry, &servers, &page, &mut recovered).await?;
        }
    }
    Ok(recovered)
}

async fn end_claims(
    store: &dyn Storage,
    registry: &Registry,
    servers: &[ServerDocument],
    jobs: &[JobDocument],
    recovered: &mut Recovered,
) -> Result<()> {
    let now = store.now();
    let (mut patches, mut transitions) = (Vec::new(), Vec::new());
    for job in jobs {
        let Some(claim) = job.claim() else { continue };
        if is_taken_over(&claim, servers) {
            continue;
        }
        let Some(definition) = registry.definition(job.kind()) else {
            recovered.unknown += 1;
            continue;
        };
        let settling = lost(job, definition, claim, now);
        tracing::warn!(
            id = %job.id(),
            kind = job.kind(),
            worker = job.worker_name(),
            lost_claims = job.lost_claims(),
            transition = %settling.transition,
            "the claim's server is dead"
        );
        patches.push(settling.patch);
        transitions.push(settling.transition);
    }
    if patches.is_empty() {
        return Ok(());
    }
    let settled = store.settle(patches).await?;
    for (transition, settled) in transitions.into_iter().zip(settled) {
        match settled {
            Settled::Accepted if transition == Transition::Fail => recovered.failed += 1,
            Settled::Accepted => recovered.requeued += 1,
            // Another server was faster, or an operator.
            Settled::Refused(_) => {}
        }
    }
    Ok(())
}

/// Whether a server of the original has the job now: it changes the worker's name and leaves our
/// token standing. It is compared up to the colon: `host:1` is not `host:12`.
fn is_taken_over(claim: &Claim, servers: &[ServerDocument]) -> bool {
    servers
        .iter()
        .filter(|server| server.is_original())
        .any(|server| server.has_worker(&claim.worker_name))
}

/// The write that ends a claim whose server is dead, at the store's time `now`.
pub(crate) fn lost(
    job: &JobDocument,
    definition: &'static Definition,
    claim: Claim,
    now: Timestamp,
) -> crate::settlement::Settling {
    if is_marked(job, definition) && !job.is_begun() {
        return Settlement::hand_back(job, claim, now);
    }
    let count = job.lost_claims() + 1;
    let change = Change::new().set(name::LOST_CLAIMS, crate::encoding::integer(count));
    let too_often = count >= i64::from(definition.max_lost_claims);
    if definition.on_lost_claim == LostClaim::RunAgain && !too_often {
        return Settlement::new(job, now, Outcome::HandBack, true, change).render(claim);
    }
    let message = match definition.on_lost_claim {
        LostClaim::Fail => "the server died while it performed the job, and the kind is not performed again by itself".to_owned(),
        LostClaim::RunAgain => format!("{count} servers died while they performed the job"),
    };
    let failure = JobFailure {
        class_name: LOST_CLAIM.into(),
        ..JobFailure::message(message)
    };
    let fail = |change| Settlement::new(job, now, Outcome::Fail(failure.clone()), true, change);
    // Concerns are asked, so that what follows on a failure follows on this one.
    fail(change.clone())
        .into_patch(definition, claim.clone())
        .unwrap_or_else(|_| fail(change).render(claim))
}
