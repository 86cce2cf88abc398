//! A run from its beginning to its end.

use std::{
    cell::Cell,
    fmt::Write,
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fastrand::Rng;
use rocketjob::{Filter, JobDocument, prelude::*};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::{
    Anything,
    check::{self, Findings},
    faults::{self, Count, Fault, INTERVAL, MIX_INTERVAL, StoreKills},
    fleet::{Fleet, Orders},
    ledger, mix, mix_round,
    place::{self, Place},
    report::Report,
    round,
    serve::patiently,
};

/// How many documents are kept for inspection.
const KEPT: usize = 1000;

/// What is to be done.
#[derive(Debug, clap::Args)]
pub(crate) struct Plan {
    /// Where the jobs are kept.
    #[arg(long)]
    store: place::Kind,
    /// Kinds with all concerns, in place of one kind.
    #[arg(long, conflicts_with = "jobs")]
    mix: bool,
    /// How many jobs each round has.
    #[arg(long, default_value_t = 30_000)]
    jobs: i64,
    /// How many server processes.
    #[arg(long, default_value_t = 4)]
    servers: usize,
    /// How many workers each has.
    #[arg(long, default_value_t = 10)]
    workers: usize,
    /// Over how many seconds the jobs of a round arrive; half of them are there at once.
    #[arg(long, default_value_t = 30)]
    arrival: u64,
    /// Begins new rounds for so many minutes; without it, there is one.
    #[arg(long)]
    minutes: Option<u64>,
    /// Chooses the victims; a new one each time unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// Which faults.
    #[arg(long, value_delimiter = ',', default_value = "kill,pause,store")]
    faults: Vec<Fault>,
}

/// What a round has created.
enum Made {
    Plain,
    Mix(mix::check::Made),
}

struct Run<'a> {
    plan: &'a Plan,
    folder: TempDir,
    place: Place,
    store: Store,
    fleet: Fleet,
    random: Rng,
    store_kills: StoreKills,
    count: Count,
    report: Report,
}

/// Runs the whole test.
pub(crate) async fn run(plan: &Plan) -> Anything<Report> {
    if plan.servers < 2 {
        return Err("at least two servers are needed: who is killed cannot take over".into());
    }
    let seed = plan.seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("seed {seed}");
    let folder = tempfile::Builder::new()
        .prefix("rocketjob-kill-")
        .tempdir()?;
    let place = Place::start(plan.store, folder.path()).await;
    let store = rocketjob::connect(&place.url).await?;
    let orders = Orders {
        store: place.url.clone(),
        ledger: folder.path().join("ledger.txt"),
        workers: plan.workers,
        mix: plan.mix,
        folder: folder.path().into(),
    };
    let report = Report {
        store: plan.store.as_str(),
        mix: plan.mix,
        seed,
        servers: plan.servers,
        workers: plan.workers,
        ..Report::default()
    };
    let run = Run {
        plan,
        fleet: Fleet::start(orders, plan.servers)?,
        folder,
        place,
        store,
        random: Rng::with_seed(seed),
        store_kills: StoreKills::new(),
        count: Count::default(),
        report,
    };
    run.whole().await
}

impl Run<'_> {
    async fn whole(mut self) -> Anything<Report> {
        let began = Instant::now();
        let length = Duration::from_mins(self.plan.minutes.unwrap_or(0));
        loop {
            self.round().await?;
            if !self.report.all_holds() || began.elapsed() >= length {
                break;
            }
            self.clean_up().await?;
        }
        if self.report.all_holds() {
            self.end().await?;
        }
        let Self {
            mut report,
            count,
            folder,
            ..
        } = self;
        report.seconds = began.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let jobs = report.jobs as f64;
        report.jobs_per_second = jobs / report.seconds;
        report.kills = count.kills.get();
        report.pauses = count.pauses.get();
        report.store_kills = count.store_kills.get();
        if !report.all_holds() {
            report.folder = Some(folder.keep().display().to_string());
        }
        Ok(report)
    }

    async fn round(&mut self) -> Anything<()> {
        let began = Instant::now();
        let (made, violations) = self.harm().await?;
        self.report.violations.extend(violations);
        let quiet = round::quiet(&self.store, &self.fleet.ids()).await?;
        self.report.violations.extend(quiet);
        let jobs = match &made {
            Made::Plain => self.check().await?,
            Made::Mix(made) => self.check_mix(made).await?,
        };
        self.report.rounds += 1;
        self.report.jobs += jobs;
        eprintln!(
            "round {}: {jobs} jobs in {:.1} s; so far {} servers killed, {} paused, store killed {} times",
            self.report.rounds,
            began.elapsed().as_secs_f64(),
            self.count.kills.get(),
            self.count.pauses.get(),
            self.count.store_kills.get()
        );
        Ok(())
    }

    /// Lets the servers work through the jobs of a round while harm is done to them.
    async fn harm(&mut self) -> Anything<(Made, Vec<String>)> {
        let (seed, ledger) = (self.random.u64(..), self.ledger());
        let Self {
            plan,
            place,
            store,
            fleet,
            random,
            store_kills,
            count,
            ..
        } = self;
        let (calm, calms) = watch::channel(false);
        let done = Cell::new(0.0);
        let arrival = Duration::from_secs(plan.arrival);
        let work = async {
            let worked = if plan.mix {
                let made = mix_round::work(store, arrival, seed, &ledger, &done).await;
                made.map(Made::Mix)
            } else {
                let both = async {
                    tokio::try_join!(
                        round::create(store, plan.jobs, arrival),
                        round::completion(store, plan.jobs, &done)
                    )
                };
                both.await.map(|_| Made::Plain)
            };
            calm.send_replace(true);
            worked
        };
        let store_faults = async {
            if let Some(mongod) = &mut place.mongod
                && plan.faults.contains(&Fault::Store)
            {
                faults::torment_store(mongod, store_kills, count, &done, calms.clone()).await;
            }
        };
        let interval = if plan.mix { MIX_INTERVAL } else { INTERVAL };
        let kinds = (&plan.faults[..], interval);
        let faults = faults::torment(fleet, kinds, random, count, calms.clone());
        let (worked, violations, ()) = tokio::join!(work, faults, store_faults);
        let mut violations = violations?;
        let made = worked.unwrap_or_else(|problem| {
            violations.insert(0, problem.to_string());
            if plan.mix {
                Made::Mix(mix::check::Made::default())
            } else {
                Made::Plain
            }
        });
        Ok((made, violations))
    }

    async fn check(&mut self) -> Anything<i64> {
        let left = round::left_over(&self.store).await?;
        self.report.violations.extend(left);
        let documents = round::documents(&self.store).await?;
        let (entries, cut) = ledger::read(&self.ledger())?;
        let findings = check::check(self.plan.jobs, &documents, &entries);
        self.report.cut_lines += cut;
        self.found(findings, &documents)?;
        Ok(self.plan.jobs)
    }

    async fn check_mix(&mut self, made: &mix::check::Made) -> Anything<i64> {
        let left = round::left_over(&self.store).await?;
        self.report.violations.extend(left);
        let documents = mix_round::documents(&self.store).await?;
        let (notes, cut) = mix::note::read(&self.ledger())?;
        let findings = mix::check::check(made, &documents, &notes);
        self.report.cut_lines += cut;
        // What is tried to see whether it is free would be found as well, so it comes last.
        let left = mix_round::left_over(&self.store).await?;
        self.report.violations.extend(left);
        self.found(findings, &documents)?;
        if self.report.all_holds() {
            let lost = mix_round::lost_places(&self.store, &self.ledger()).await?;
            self.report.violations.extend(lost);
        }
        eprintln!("creators were told: {:?}", made.answers());
        if !self.report.all_holds() {
            fs::write(self.folder.path().join("told.txt"), made.told_lines())?;
        }
        Ok(made.jobs())
    }

    fn found(&mut self, findings: Findings, documents: &[JobDocument]) -> Anything<()> {
        self.report.begins += findings.begins;
        self.report.repeated_begins += findings.repeated;
        self.report.reincarnations += findings.reincarnations;
        self.report.violations.extend(findings.violations);
        if !self.report.all_holds() {
            keep(self.folder.path(), &self.report, documents)?;
        }
        Ok(())
    }

    /// Makes room for the next round. The lines of this one's jobs that still come are violations
    /// there.
    async fn clean_up(&mut self) -> Anything<()> {
        patiently(async || self.store.delete(&Filter::all()).await).await?;
        OpenOptions::new()
            .write(true)
            .open(self.ledger())?
            .set_len(0)?;
        self.fleet.empty_logs()?;
        Ok(())
    }

    /// All servers stop, and leave nothing behind.
    async fn end(&mut self) -> Anything<()> {
        let (told, problems) = self.fleet.stop().await?;
        self.report.violations.extend(problems);
        self.report.refused_outcomes = told.iter().map(|served| served.refused).sum();
        for server in self.store.servers().await? {
            self.report.violations.push(format!(
                "server {} has a document although all have stopped",
                server.name
            ));
        }
        let left = round::left_over(&self.store).await?;
        self.report.violations.extend(left);
        Ok(())
    }

    fn ledger(&self) -> PathBuf {
        self.folder.path().join("ledger.txt")
    }
}

/// Writes down what the store holds, before it goes.
fn keep(folder: &Path, report: &Report, documents: &[JobDocument]) -> Anything<()> {
    fs::write(folder.join("violations.txt"), report.violations.join("\n"))?;
    let suspicious = documents.iter().filter(|document| {
        let id = document.id().to_hex();
        report
            .violations
            .iter()
            .take(KEPT)
            .any(|violation| violation.contains(&id))
    });
    let mut text = String::new();
    for document in suspicious {
        writeln!(text, "{}", document.as_document())?;
    }
    fs::write(folder.join("documents.txt"), text)?;
    Ok(())
}
