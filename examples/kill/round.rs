//! A round: jobs are created, servers that are tormented perform them, and when all are done it is
//! looked at what they have left.

use std::{
    cell::Cell,
    collections::BTreeSet,
    fmt::Write,
    time::{Duration, Instant},
};

use rocketjob::{JobDocument, ReadFrom, ServerDocument, ServerState, prelude::*};
use tokio::time::sleep;

use crate::{
    Anything,
    job::{self, KillJob},
    serve::patiently,
};

/// How many jobs are created in one call, and looked at.
const GROUP: usize = 1000;
/// How long nothing may complete.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long the servers may take to become quiet when nothing is done to them any more.
const QUIET_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// Creates half of the jobs at once, and the others little by little over `arrival`.
pub(crate) async fn create(store: &Store, jobs: i64, arrival: Duration) -> Anything<()> {
    let numbers: Vec<_> = (0..jobs).filter(|number| !job::follows(*number)).collect();
    let (first, others) = numbers.split_at(numbers.len() / 2);
    for numbers in first.chunks(GROUP) {
        insert(store, numbers, jobs).await?;
    }
    let seconds = usize::try_from(arrival.as_secs())?.max(1);
    for numbers in others.chunks(others.len().div_ceil(seconds).max(1)) {
        insert(store, numbers, jobs).await?;
        sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// Whoever is told that the store is away does not know whether it has the jobs: with the same ids
/// they can be inserted again.
async fn insert(store: &Store, numbers: &[i64], of: i64) -> Anything<()> {
    let documents = numbers
        .iter()
        .map(|number| KillJob::new(store, *number, of).prepare(&**store))
        .collect::<rocketjob::Result<Vec<_>>>()?;
    patiently(async || store.insert(documents.clone()).await).await?;
    Ok(())
}

/// Waits until all jobs are done; `done` tells how far it is. An error tells what is stuck.
pub(crate) async fn completion(store: &Store, jobs: i64, done: &Cell<f64>) -> Anything<()> {
    let (mut most, mut since) = (0, Instant::now());
    loop {
        let completed = KillJob::query(store).state(State::Completed).count().await;
        let completed = match completed {
            Err(error) if !error.is_transient() => return Err(error.into()),
            Err(_) => most,
            Ok(completed) => completed,
        };
        if completed >= jobs.unsigned_abs() {
            return Ok(());
        }
        if completed > most {
            (most, since) = (completed, Instant::now());
            #[expect(clippy::cast_precision_loss, reason = "a part of a few thousand")]
            done.set(completed as f64 / jobs as f64);
        }
        if since.elapsed() > PATIENCE {
            return Err(format!(
                "nothing completed for {PATIENCE:?}, {completed} of {jobs} are done\n{}",
                scene(store).await?
            )
            .into());
        }
        sleep(LOOK).await;
    }
}

/// Waits until exactly the processes `ids` have a server document each, and all run. Otherwise tells
/// what else there is.
pub(crate) async fn quiet(store: &Store, ids: &BTreeSet<i32>) -> Anything<Vec<String>> {
    let began = Instant::now();
    loop {
        let servers = patiently(async || store.servers().await).await?;
        let running = servers
            .iter()
            .filter(|server| server.state == ServerState::Running);
        let present: BTreeSet<_> = running.filter_map(process).collect();
        if present == *ids && servers.len() == ids.len() {
            return Ok(Vec::new());
        }
        if began.elapsed() > QUIET_WITHIN {
            let told = servers.iter().map(tell).collect::<Vec<_>>().join(", ");
            return Ok(vec![format!(
                "{QUIET_WITHIN:?} after the last fault the processes {ids:?} should have a server each, but there are: {told}"
            )]);
        }
        sleep(LOOK).await;
    }
}

/// The id of a server's process: the end of its name, before what is added to a name that is taken.
fn process(server: &ServerDocument) -> Option<i32> {
    let (_, end) = server.name.rsplit_once(':')?;
    end.split('-').next()?.parse().ok()
}

fn tell(server: &ServerDocument) -> String {
    format!(
        "{} ({}, {}, {} beats)",
        server.name,
        server.id,
        server.state.as_str(),
        server.beats()
    )
}

/// What is left over when all jobs are done and the servers are quiet.
pub(crate) async fn left_over(store: &Store) -> Anything<Vec<String>> {
    let mut left = Vec::new();
    if let Some(job) = store.next_claim("").await? {
        left.push(format!("job {} is still claimed", job.id()));
    }
    if let Some(job) = store.next_held("").await? {
        left.push(format!("job {} is still held", job.id()));
    }
    let running = rocketjob::Filter::state(State::Running);
    let running = store.count(&running, ReadFrom::Primary).await?;
    if running > 0 {
        left.push(format!("{running} jobs are still running"));
    }
    Ok(left)
}

/// All jobs.
pub(crate) async fn documents(store: &Store) -> Anything<Vec<JobDocument>> {
    let mut documents: Vec<JobDocument> = Vec::new();
    loop {
        let mut page = KillJob::query(store).limit(GROUP);
        if let Some(last) = documents.last() {
            page = page.after(last);
        }
        let page = page.documents().await?;
        if page.is_empty() {
            return Ok(documents);
        }
        documents.extend(page);
    }
}

/// What is there when it does not go on.
async fn scene(store: &Store) -> Anything<String> {
    let counts = patiently(async || KillJob::query(store).count_by_state().await).await?;
    let mut scene = format!("jobs: {counts:?}\nservers:\n");
    for server in patiently(async || store.servers().await).await? {
        writeln!(scene, "  {}", tell(&server))?;
    }
    for state in [State::Running, State::Queued, State::Failed] {
        let some = async || {
            KillJob::query(store)
                .state(state)
                .limit(5)
                .documents()
                .await
        };
        for job in patiently(some).await? {
            let job = job.as_document();
            writeln!(scene, "  {state}: {job}")?;
        }
    }
    Ok(scene)
}
