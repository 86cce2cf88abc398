//! Creates the jobs of a round of the mix: some second by second, some by several who want the same.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use jiff::Timestamp;
use rocketjob::{JobDocument, NewJob, Perform, prelude::*};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    Anything,
    mix::{
        check::Made,
        kinds::{
            MixAfter, MixCron, MixCronEnd, MixFirst, MixRate, MixReject, MixReplace, MixRestart,
            MixRetry, MixReturn, MixSingleton, MixThrottle, MixThrottleBy, MixWindow,
        },
        plan::{CHAINS, KEYS, Kind},
        told::{Told, ask},
    },
    serve::patiently,
};

/// How many create jobs of which one of a kind may be active, at the same time.
const CREATORS: u64 = 4;
/// How long they pause between two calls at most, in milliseconds.
const PAUSE: u64 = 120;

/// Creates jobs for as long as `arrival`; `done` tells how far it is.
pub(crate) async fn create(
    store: &Store,
    arrival: Duration,
    seed: u64,
    done: &Cell<f64>,
) -> Anything<Made> {
    let links = i64::try_from(arrival.as_secs())?.max(2);
    insert(store, chains(store, links)?).await?;
    let end = Instant::now() + arrival;
    let (next, told) = (Cell::new(0), RefCell::new(Vec::new()));
    let creator = |place: u64| {
        compete(
            store,
            fastrand::Rng::with_seed(seed.wrapping_add(place)),
            end,
            &next,
            &told,
        )
    };
    let creators = futures_util::future::try_join_all((0..CREATORS).map(creator));
    let (numbers, _) = tokio::try_join!(steadily(store, arrival, done), creators)?;
    let numbers = Kind::ALL
        .map(|kind| (kind, numbers * kind.per_second()))
        .into();
    Ok(Made {
        numbers,
        links,
        told: told.into_inner(),
    })
}

/// The first instances of the chains that end by themselves.
fn chains(store: &Store, links: i64) -> Anything<Vec<JobDocument>> {
    let mut first = Vec::new();
    for chain in 0..CHAINS {
        first.push(NewJob::from(MixRestart::new(chain, chain, links)).prepare(&**store)?);
        first.push(NewJob::from(MixCronEnd::new(chain, chain, links)).prepare(&**store)?);
    }
    Ok(first)
}

/// Creates so many jobs of each kind in each second, and says for how many seconds.
async fn steadily(store: &Store, arrival: Duration, done: &Cell<f64>) -> Anything<i64> {
    let began = Instant::now();
    let mut seconds = 0;
    while began.elapsed() < arrival {
        let mut jobs = Vec::new();
        for kind in Kind::ALL {
            let count = kind.per_second();
            for number in seconds * count..(seconds + 1) * count {
                jobs.push(prepare(store, (kind, number, number % KEYS))?);
            }
        }
        insert(store, jobs).await?;
        seconds += 1;
        done.set((began.elapsed().as_secs_f64() / arrival.as_secs_f64()).min(1.0));
        sleep_until(began + Duration::from_secs(seconds.unsigned_abs())).await;
    }
    Ok(seconds)
}

/// With the same ids jobs can be inserted again when nobody knows whether they were.
async fn insert(store: &Store, jobs: Vec<JobDocument>) -> Anything<()> {
    patiently(async || store.insert(jobs.clone()).await).await?;
    Ok(())
}

/// The document of a job that has its key for itself.
pub(crate) fn prepare(
    store: &Store,
    (kind, number, key): (Kind, i64, i64),
) -> Anything<JobDocument> {
    fn document<T: Perform>(store: &Store, job: T) -> rocketjob::Result<JobDocument> {
        NewJob::from(job).prepare(&**store)
    }
    Ok(match kind {
        Kind::Return => document(store, MixReturn::new(number, key, 1))?,
        Kind::Retry => document(store, MixRetry::new(number, key, 1))?,
        Kind::Throttle => document(store, MixThrottle::new(number, key, 1))?,
        Kind::ThrottleBy => document(store, MixThrottleBy::new(number, key, 1))?,
        Kind::Rate => document(store, MixRate::new(number, key, 1))?,
        Kind::First => document(store, MixFirst::new(number, key, 1))?,
        Kind::After => document(store, MixAfter::new(number, key, 1))?,
        Kind::Window => document(store, MixWindow::new(number, key, 1))?,
        other => return Err(format!("{other:?} is not created steadily").into()),
    })
}

/// One of those who create jobs with a key, until `end`.
async fn compete(
    store: &Store,
    mut random: fastrand::Rng,
    end: Instant,
    next: &Cell<i64>,
    told: &RefCell<Vec<Told>>,
) -> Anything<()> {
    // All begin the schedule, as programs do that are started at the same time; nobody does later. In
    // the moment between an instance that has begun and the insertion of the next one, a chain can be
    // begun anew, and the next one of the old chain is refused then.
    let begun = ask_for(store, (Kind::Cron, -1, 0), None).await?;
    told.borrow_mut().push(begun);
    while Instant::now() < end {
        let kind = Kind::UNIQUE[random.usize(..Kind::UNIQUE.len())];
        let key = if kind == Kind::Singleton {
            0
        } else {
            random.i64(0..KEYS)
        };
        let number = next.replace(next.get() + 1);
        let answer = ask_for(store, (kind, number, key), None).await?;
        told.borrow_mut().push(answer);
        sleep(Duration::from_millis(random.u64(..PAUSE))).await;
    }
    Ok(())
}

/// Creates a job with a key, to be performed at once or at `run_at`.
pub(crate) async fn ask_for(
    store: &Store,
    what: (Kind, i64, i64),
    run_at: Option<Timestamp>,
) -> Anything<Told> {
    let (kind, number, key) = what;
    Ok(match kind {
        Kind::Reject => ask(store, what, timed(MixReject::new(number, key, 1), run_at)).await?,
        Kind::Return => ask(store, what, timed(MixReturn::new(number, key, 1), run_at)).await?,
        Kind::Replace => ask(store, what, timed(MixReplace::new(number, key, 1), run_at)).await?,
        Kind::Singleton => {
            ask(
                store,
                what,
                timed(MixSingleton::new(number, key, 1), run_at),
            )
            .await?
        }
        Kind::Cron => ask(store, what, timed(MixCron::new(0, 0, 1), run_at)).await?,
        other => return Err(format!("{other:?} has no key").into()),
    })
}

fn timed<T: Perform>(job: T, run_at: Option<Timestamp>) -> NewJob<T> {
    let job = NewJob::from(job);
    match run_at {
        Some(run_at) => job.run_at(run_at),
        None => job,
    }
}
