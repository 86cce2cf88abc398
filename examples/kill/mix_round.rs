//! A round of the mix: waits until all has ended, ends the chain that goes on for ever, and looks at
//! what is left.

use std::{
    cell::Cell,
    fmt::Write,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use rocketjob::{
    Filter, JobDocument, Limit, Query, ReadFrom, later, name, prelude::*, rate_limit_key,
    throttle_key,
};
use tokio::time::sleep;

use crate::{
    Anything,
    mix::{
        check::Made,
        limit, note,
        plan::{KEYS, Kind, RATE, RETURN_RUNNING, SCHEDULE, THROTTLE_BY_RUNNING, THROTTLE_RUNNING},
        told::Answer,
    },
    mix_create::{ask_for, create, prepare},
    serve::patiently,
};

/// How many documents are read in one call.
const PAGE: usize = 1000;
/// How long nothing may be noted in the ledger.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long a round may take after its last job was created.
const ENDS_WITHIN: Duration = Duration::from_mins(15);
/// How long limits may take to be as if they had never been used.
const FREE_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// How often it is tried whether all places can be taken at the same time.
const PLACE_TRIES: usize = 3;

/// The kinds whose places are tried, and how many there are (of one key).
const THROTTLED: [(Kind, usize); 3] = [
    (Kind::Return, RETURN_RUNNING),
    (Kind::Throttle, THROTTLE_RUNNING),
    (Kind::ThrottleBy, THROTTLE_BY_RUNNING),
];

const ACTIVE: [State; 2] = [State::Queued, State::Running];

/// Creates the jobs of a round, and waits until they have ended. An error tells what is stuck.
pub(crate) async fn work(
    store: &Store,
    arrival: Duration,
    seed: u64,
    ledger: &Path,
    done: &Cell<f64>,
) -> Anything<Made> {
    let made = create(store, arrival, seed, done).await?;
    done.set(1.0);
    let others = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Cron);
    let others = of_kinds(others);
    ended(store, &others, ledger, async || Ok(())).await?;
    let cron = of_kinds([Kind::Cron]);
    ended(store, &cron, ledger, async || end_schedule(store).await).await?;
    Ok(made)
}

fn of_kinds(kinds: impl IntoIterator<Item = Kind>) -> Filter {
    Filter::kinds(kinds.into_iter().map(Kind::as_str))
}

/// The waiting instance goes, and with it the chain. What has begun, or is to be tried again, has its
/// next instance already and no schedule any more: it stays.
async fn end_schedule(store: &Store) -> Anything<()> {
    let waiting = of_kinds([Kind::Cron])
        .and(Filter::state(State::Queued))
        .and(Filter::eq("cron_schedule", SCHEDULE));
    patiently(async || store.delete(&waiting).await).await?;
    Ok(())
}

/// Waits until no job that meets `filter` is active; does `each` before each look.
async fn ended(
    store: &Store,
    filter: &Filter,
    ledger: &Path,
    each: impl AsyncFn() -> Anything<()>,
) -> Anything<()> {
    let active = filter.clone().and(Filter::states(ACTIVE));
    let (began, mut since, mut length) = (Instant::now(), Instant::now(), 0);
    loop {
        each().await?;
        // Twice: between an instance that has ended and its successor there is none for a moment.
        let mut count = 0;
        for _ in 0..2 {
            count += patiently(async || store.count(&active, ReadFrom::Primary).await).await?;
            count += u64::try_from(successors(store, filter).await?)?;
        }
        if count == 0 {
            return Ok(());
        }
        let noted = fs::metadata(ledger).map_or(0, |ledger| ledger.len());
        if noted > length {
            (length, since) = (noted, Instant::now());
        }
        if since.elapsed() > PATIENCE || began.elapsed() > ENDS_WITHIN {
            let scene = scene(store, &active).await?;
            return Err(format!("jobs do not end: {count} are active\n{scene}").into());
        }
        sleep(LOOK).await;
    }
}

/// How many jobs have successors that have not been created yet.
async fn successors(store: &Store, filter: &Filter) -> Anything<usize> {
    let filter = filter.clone().and(Filter::exists(name::SUCCESSORS));
    let query = Query {
        limit: 1,
        ..Query::new(filter)
    };
    Ok(patiently(async || store.find(&query).await).await?.len())
}

/// What is there when it does not go on.
async fn scene(store: &Store, active: &Filter) -> Anything<String> {
    let mut scene = String::new();
    let query = Query {
        limit: 20,
        ..Query::new(active.clone())
    };
    for job in patiently(async || store.find(&query).await).await? {
        writeln!(scene, "  {}", job.as_document())?;
    }
    for server in patiently(async || store.servers().await).await? {
        writeln!(
            scene,
            "  {} ({}, {} beats)",
            server.name,
            server.id,
            server.beats()
        )?;
    }
    Ok(scene)
}

/// All jobs of the mix.
pub(crate) async fn documents(store: &Store) -> Anything<Vec<JobDocument>> {
    let mut documents: Vec<JobDocument> = Vec::new();
    loop {
        let after = documents.last().map(|last| Filter::gt(name::ID, last.id()));
        let all = of_kinds(Kind::ALL);
        let filter = match after {
            Some(after) => all.and(after),
            None => all,
        };
        let page = store
            .find(&Query {
                limit: PAGE,
                ..Query::new(filter)
            })
            .await?;
        if page.is_empty() {
            return Ok(documents);
        }
        documents.extend(page);
    }
}

/// What is left over of keys and limits: each key can be taken, and each limit is as good as new.
pub(crate) async fn left_over(store: &Store) -> Anything<Vec<String>> {
    let mut left = held_keys(store).await?;
    let began = Instant::now();
    loop {
        let limits = used_limits(store).await?;
        if limits.is_empty() {
            return Ok(left);
        }
        if began.elapsed() > FREE_WITHIN {
            left.extend(limits);
            return Ok(left);
        }
        sleep(LOOK).await;
    }
}

/// Tries all places of the throttled kinds: so many jobs must be able to run at the same time. Theirs
/// are numbers below zero, which work long enough to meet.
pub(crate) async fn lost_places(store: &Store, ledger: &Path) -> Anything<Vec<String>> {
    let mut lost = Vec::new();
    for try_again in (0..PLACE_TRIES).rev() {
        lost = Vec::new();
        fs::File::options().write(true).open(ledger)?.set_len(0)?;
        let probes = probes(store)?;
        patiently(async || store.insert(probes.clone()).await).await?;
        ended(store, &of_kinds(Kind::ALL), ledger, async || Ok(())).await?;
        let (notes, _) = note::read(ledger)?;
        for (kind, most) in THROTTLED {
            let met = limit::most_at_once(kind, &notes);
            if met < most {
                let kind = kind.as_str();
                lost.push(format!(
                    "{met} of {kind} ran at the same time, and {most} should: places are lost"
                ));
            }
        }
        if lost.is_empty() || try_again == 0 {
            break;
        }
    }
    Ok(lost)
}

fn probes(store: &Store) -> Anything<Vec<JobDocument>> {
    let mut probes = Vec::new();
    for (kind, most) in THROTTLED {
        for number in 1..=i64::try_from(most)? {
            // For those that are told apart by a key each has its own, or all have the same.
            let key = if kind == Kind::Return { -number } else { 0 };
            probes.push(prepare(store, (kind, -number, key))?);
        }
    }
    Ok(probes)
}

/// Tries each key: a job of an earlier round that still held it would be in the way.
async fn held_keys(store: &Store) -> Anything<Vec<String>> {
    let mut held = Vec::new();
    let never = later(store.now(), Duration::from_hours(24));
    for kind in Kind::UNIQUE.into_iter().chain([Kind::Cron]) {
        let keys = if kind == Kind::Singleton || kind == Kind::Cron {
            1
        } else {
            KEYS
        };
        for key in 0..keys {
            let told = ask_for(store, (kind, -1, key), Some(never)).await?;
            match told.answer {
                Answer::Inserted(id) => remove(store, kind, id).await?,
                other => held.push(format!(
                    "the key {key} of {} is still held: {other:?}",
                    kind.as_str()
                )),
            }
        }
    }
    Ok(held)
}

async fn remove(store: &Store, kind: Kind, id: bson::oid::ObjectId) -> Anything<()> {
    let filter = of_kinds([kind]).and(Filter::eq(name::ID, id));
    patiently(async || store.delete(&filter).await).await?;
    Ok(())
}

/// Limits for which jobs are said to wait, or whose starts are used up.
async fn used_limits(store: &Store) -> Anything<Vec<String>> {
    let mut keys = Vec::new();
    for kind in Kind::ALL {
        let key = throttle_key(kind.as_str());
        match kind.running() {
            Some((_, true)) => keys.extend((0..KEYS).map(|value| format!("{key}:{value}"))),
            Some((_, false)) => keys.push(key),
            None => {}
        }
    }
    let rate = rate_limit_key(Kind::Rate.as_str());
    keys.push(Limit::while_none_runs(Kind::First.as_str()).key);
    keys.push(rate.clone());
    let mut used = Vec::new();
    for key in keys {
        let Some(limit) = patiently(async || store.limit(&key).await).await? else {
            continue;
        };
        let has_starts = key != rate || limit.free(store.now()) == RATE;
        if limit.next.is_some() || !has_starts {
            used.push(format!(
                "the limit `{key}` is still in use: {}",
                limit.to_document()
            ));
        }
    }
    Ok(used)
}
