//! What only the store knows: how many jobs wait, for what, and for how long.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use rocketjob_core::{COUNTED, JobDocument, JobSet, Result, State, Storage, Store};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

/// The priorities that are counted together, with the name under which they appear.
const BANDS: [(&str, RangeInclusive<i64>); 4] = [
    ("1-25", i64::MIN + 1..=25),
    ("26-50", 26..=50),
    ("51-75", 51..=75),
    ("76-100", 76..=i64::MAX),
];
/// How many kinds, and how many reasons to hold jobs, are counted.
const MOST: usize = 100;
/// Among the heads of how many priorities of a band the oldest job is looked for.
const HEADS: usize = 10;
/// From one measurement to the next there is this many times as long as it took.
const PAUSE: u32 = 20;
/// For how long after the last question measuring goes on.
const ASKED: Duration = Duration::from_mins(2);

/// What was measured at one time.
#[derive(Debug)]
pub(crate) struct Depth {
    pub(crate) at: Instant,
    pub(crate) took: Duration,
    pub(crate) bands: Vec<Band>,
    /// Held jobs by reason.
    pub(crate) held: BTreeMap<String, u64>,
    pub(crate) states: Vec<(State, u64)>,
}

/// The ready jobs of one kind with priorities of one band.
#[derive(Debug)]
pub(crate) struct Band {
    pub(crate) kind: String,
    pub(crate) priorities: &'static str,
    pub(crate) ready: u64,
    /// For how long the oldest of them has been ready.
    pub(crate) oldest: Duration,
}

/// Measures again and again, as long as it is asked.
#[derive(Debug)]
pub(crate) struct Gauge {
    store: Store,
    interval: Duration,
    last: Mutex<Option<Arc<Depth>>>,
    asked_at: Mutex<Instant>,
    asked: Notify,
    pub(crate) failures: AtomicU64,
}

impl Gauge {
    pub(crate) fn new(store: Store, interval: Duration) -> Self {
        Self {
            store,
            interval,
            last: Mutex::default(),
            asked_at: Mutex::new(Instant::now()),
            asked: Notify::new(),
            failures: AtomicU64::new(0),
        }
    }

    /// What was measured last; nothing before the first time.
    pub(crate) fn last(&self) -> Option<Arc<Depth>> {
        *self.asked_at.lock() = Instant::now();
        self.asked.notify_one();
        self.last.lock().clone()
    }

    /// Measures until `stop`.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let began = Instant::now();
            match measure(&*self.store).await {
                Ok(depth) => *self.last.lock() = Some(Arc::new(depth)),
                Err(error) => {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(error = error.chain(), "cannot measure the queue now");
                }
            }
            let pause = self.interval.max(began.elapsed() * PAUSE);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            while self.asked_at.lock().elapsed() > ASKED {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = self.asked.notified() => {}
                }
            }
        }
    }
}

/// Measures once. Each query is bounded, and there are only so many.
async fn measure(store: &dyn Storage) -> Result<Depth> {
    let began = Instant::now();
    let mut bands = Vec::new();
    let mut after = String::new();
    for _ in 0..MOST {
        let Some(kind) = store.next_kind(&after).await? else {
            break;
        };
        for (name, priorities) in BANDS {
            let set = JobSet::ready([kind.as_str()], priorities.clone());
            let ready = store.count_set(&set, COUNTED).await?;
            let oldest = if ready > 0 {
                oldest(store, &kind, priorities).await?
            } else {
                Duration::ZERO
            };
            bands.push(Band {
                kind: kind.clone(),
                priorities: name,
                ready,
                oldest,
            });
        }
        after = kind;
    }
    let mut states = Vec::new();
    for state in State::ALL {
        let count = store.count_set(&JobSet::State(state), COUNTED).await?;
        states.push((state, count));
    }
    Ok(Depth {
        held: held(store).await?,
        at: Instant::now(),
        took: began.elapsed(),
        bands,
        states,
    })
}

/// For how long the oldest job of these priorities has been ready: within one priority it comes
/// first.
async fn oldest(
    store: &dyn Storage,
    kind: &str,
    priorities: RangeInclusive<i64>,
) -> Result<Duration> {
    let (mut first, last) = priorities.into_inner();
    let now = store.now();
    let mut oldest = Duration::ZERO;
    for _ in 0..HEADS {
        let head = store.first_ready(kind, first..=last, 1).await?;
        let Some(job) = head.first() else {
            break;
        };
        oldest = oldest.max(ready_for(job, now));
        first = job.priority().saturating_add(1);
        if first > last {
            break;
        }
    }
    Ok(oldest)
}

fn ready_for(job: &JobDocument, now: Timestamp) -> Duration {
    let since = job.run_at().max(job.created_at()).unwrap_or(now);
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

async fn held(store: &dyn Storage) -> Result<BTreeMap<String, u64>> {
    let mut held = BTreeMap::new();
    let mut after = String::new();
    for _ in 0..MOST {
        let Some(job) = store.next_held(&after).await? else {
            break;
        };
        let Some(hold) = job.hold().map(ToOwned::to_owned) else {
            break;
        };
        let count = store
            .count_set(&JobSet::Held(hold.clone()), COUNTED)
            .await?;
        held.insert(hold.clone(), count);
        after = hold;
    }
    Ok(held)
}
