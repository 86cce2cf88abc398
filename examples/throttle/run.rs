//! A run: jobs are created, processes perform them, some are killed, and the ledger is looked at.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use clap::{Args, ValueEnum};
use rocketjob::{ReadFrom, prelude::*};
use tokio::time::{Instant, sleep};

use crate::{
    Anything,
    failover::Set,
    figures,
    job::{KeyedJob, PER_SECOND, RUNNING, RUNNING_PER_KEY, RatedJob, ThrottledJob},
    ledger::{self, Entry},
    place::{Kind, Place},
};

/// How many keys there are.
const KEYS: usize = 50;
const SECOND: i64 = 1_000_000;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// Seven run at a time.
    Running,
    /// Two run at a time for each of fifty keys.
    Keys,
    /// Two hundred start in any second.
    Rate,
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// What is limited.
    what: What,
    /// Where jobs are kept.
    #[arg(long)]
    store: Kind,
    /// How many jobs.
    #[arg(long, default_value_t = 5000)]
    jobs: usize,
    /// How long each takes, in milliseconds.
    #[arg(long, default_value_t = 100)]
    millis: u64,
    /// How many server processes.
    #[arg(long, default_value_t = 4)]
    servers: usize,
    /// How many workers each has.
    #[arg(long, default_value_t = 10)]
    workers: usize,
    /// How many of the servers are killed and started again, one after the other.
    #[arg(long, default_value_t = 0)]
    kill: usize,
    /// How often the primary is killed and started again: then `mongod` is a set of three.
    #[arg(long, default_value_t = 0)]
    failovers: usize,
    /// After how many seconds it is given up.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
}

/// What was seen.
#[derive(Debug)]
pub(crate) struct Report {
    what: What,
    jobs: usize,
    killed: usize,
    failovers: usize,
    begun: usize,
    left: u64,
    most: usize,
    may: usize,
    /// The mean of those at work, or the part of the rate that was used.
    used: f64,
    wanted: f64,
    seconds: f64,
}

impl Report {
    /// Whether the limit was never exceeded, was used, and left nothing behind.
    pub(crate) fn holds(&self) -> bool {
        let is_used = self.killed + self.failovers > 0 || self.used >= self.wanted;
        self.most <= self.may && is_used && self.left == 0 && self.begun >= self.jobs
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} jobs, begun {} times in {:.1} s; servers killed: {}; primaries killed: {}; left in the store: {}",
            self.jobs, self.begun, self.seconds, self.killed, self.failovers, self.left
        )?;
        writeln!(
            f,
            "at most {} at once, and {} were allowed",
            self.most, self.may
        )?;
        let of = match self.what {
            What::Rate => "of the rate was used",
            What::Running | What::Keys => "at work in the mean",
        };
        writeln!(
            f,
            "{:.3} {of}; wanted are {:.3} where nobody is killed",
            self.used, self.wanted
        )?;
        f.write_str(if self.holds() {
            "all holds"
        } else {
            "NOT ALL HOLDS"
        })
    }
}

/// The server processes; none outlives it.
struct Fleet {
    url: String,
    ledger: PathBuf,
    workers: usize,
    children: Vec<Child>,
}

impl Fleet {
    fn spawn(&self) -> Anything<Child> {
        let child = Command::new(std::env::current_exe()?)
            .args(["serve", "--url", &self.url, "--ledger"])
            .arg(&self.ledger)
            .args(["--workers", &self.workers.to_string()])
            .stdout(Stdio::null())
            .spawn()?;
        Ok(child)
    }

    /// Kills the server in this place, starts another one there, and says who died and when.
    fn replace(&mut self, place: usize) -> Anything<(u32, i64)> {
        let old = &mut self.children[place];
        old.kill()?;
        old.wait()?;
        let died = (old.id(), ledger::now());
        self.children[place] = self.spawn()?;
        Ok(died)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in &mut self.children {
            // One that has ended already is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) async fn run(plan: &Plan) -> Anything<Report> {
    let folder = tempfile::tempdir()?;
    let (mut place, mut set) = (None, None);
    let url = if plan.failovers > 0 {
        if plan.store != Kind::Mongodb {
            return Err("a file has no primary: `--failovers` is for `--store mongodb`".into());
        }
        set.insert(Set::start().await?).url()
    } else {
        let place = place.insert(Place::start(plan.store, folder.path()).await);
        place.url.clone()
    };
    let store = rocketjob::connect(&url).await?;
    create(plan, &store).await?;
    let ledger = folder.path().join("ledger");
    let mut fleet = Fleet {
        url,
        ledger: ledger.clone(),
        workers: plan.workers,
        children: Vec::new(),
    };
    let began = Instant::now();
    for _ in 0..plan.servers {
        fleet.children.push(fleet.spawn()?);
    }
    let killed = watch(plan, &store, &mut fleet, set.as_mut(), began).await?;
    let took = began.elapsed();
    let left = left(&store).await?;
    drop(fleet);
    let failovers = set.map_or(0, |set| set.killed);
    report(plan, &ledger, &killed, failovers, left, took)
}

/// How many jobs are left.
async fn left(store: &Store) -> rocketjob::Result<u64> {
    store
        .count(&Filter::And(Vec::new()), ReadFrom::Primary)
        .await
}

async fn create(plan: &Plan, store: &Store) -> Anything<()> {
    let millis = plan.millis;
    match plan.what {
        What::Running => {
            let jobs = (0..plan.jobs).map(|_| ThrottledJob { millis });
            ThrottledJob::create_many(store, jobs).await?;
        }
        What::Keys => {
            let jobs = (0..plan.jobs).map(|number| KeyedJob {
                key: format!("key{}", number % KEYS),
                millis,
            });
            KeyedJob::create_many(store, jobs).await?;
        }
        What::Rate => {
            let jobs = (0..plan.jobs).map(|_| RatedJob { millis });
            RatedJob::create_many(store, jobs).await?;
        }
    }
    Ok(())
}

/// Waits until all jobs are done, and kills servers meanwhile.
async fn watch(
    plan: &Plan,
    store: &Store,
    fleet: &mut Fleet,
    mut set: Option<&mut Set>,
    began: Instant,
) -> Anything<BTreeMap<u32, i64>> {
    let mut killed = BTreeMap::new();
    let mut next_kill = began + Duration::from_secs(3);
    while began.elapsed().as_secs() < plan.seconds {
        match left(store).await {
            Ok(0) => break,
            Ok(_) => {}
            // Between two primaries.
            Err(error) if plan.failovers > 0 && error.is_transient() => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(set) = &mut set {
            set.step(plan.failovers).await;
        }
        if killed.len() < plan.kill && Instant::now() >= next_kill {
            let (process, at) = fleet.replace(killed.len() % plan.servers)?;
            killed.insert(process, at);
            next_kill = Instant::now() + Duration::from_secs(2);
        }
        sleep(Duration::from_millis(250)).await;
    }
    Ok(killed)
}

fn report(
    plan: &Plan,
    ledger: &Path,
    killed: &BTreeMap<u32, i64>,
    failovers: usize,
    left: u64,
    took: Duration,
) -> Anything<Report> {
    let entries = ledger::read(ledger)?;
    let (most, may, used, wanted) = match plan.what {
        What::Running => {
            let crowd = figures::crowding(&entries, killed);
            (crowd.most, RUNNING, crowd.mean, 6.5)
        }
        What::Keys => {
            let mut by_key: BTreeMap<&str, Vec<Entry>> = BTreeMap::new();
            for entry in &entries {
                by_key.entry(&entry.key).or_default().push(entry.clone());
            }
            let crowds: Vec<_> = by_key
                .values()
                .map(|entries| figures::crowding(entries, killed))
                .collect();
            let most = crowds.iter().map(|crowd| crowd.most).max().unwrap_or(0);
            let means: f64 = crowds.iter().map(|crowd| crowd.mean).sum();
            // Forty workers for a hundred places: the workers are what is used up.
            (
                most,
                RUNNING_PER_KEY,
                means / figures::count(crowds.len().max(1)),
                0.0,
            )
        }
        What::Rate => {
            let (most, used) = figures::rate(&entries, SECOND, PER_SECOND);
            (most, PER_SECOND, used, 0.95)
        }
    };
    Ok(Report {
        what: plan.what,
        jobs: plan.jobs,
        killed: killed.len(),
        failovers,
        begun: entries.iter().filter(|entry| entry.begins).count(),
        left,
        most,
        may,
        used,
        wanted,
        seconds: took.as_secs_f64(),
    })
}
