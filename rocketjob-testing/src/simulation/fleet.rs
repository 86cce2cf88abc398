//! The servers of a run, what befalls them, and whether everything ends as it should.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bson::Bson;
use jiff::SignedDuration;
use parking_lot::Mutex;
use rocketjob_core::{
    Change, CreateJob, Error, Filter, Guard, JobDocument, JobStore, LOST_CLAIM, Patch, Query,
    Registry, Result, ServerState, ServerStore, State, Store, Transition,
    control::{ServerAction, ServerCommand, Target, WorkerAction, WorkerCommand, steer_servers},
    later, steer,
};
use rocketjob_worker::{Server, simulation::Process};
use tokio::{task::spawn_local, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    ear::Ear,
    jobs::{self, Chain, Clocked, Innocent, Limited, Long, Once, Plain, Poison, Single, Vanishing},
    network::{Network, Weather},
    world::{Local, World},
};

/// How long things go wrong.
const STORM: Duration = Duration::from_secs(12);
/// After how long nothing is on its way any more.
const LATEST: Duration = Duration::from_secs(10);
/// How long everything may take to end afterwards.
const PATIENCE: Duration = Duration::from_mins(10);
/// The number under which operators and producers call the store.
const OUTSIDE: usize = 99;
/// How far the clock jumps at most, forward or back.
const MOST_MINUTES: i64 = 60;
/// The last link of the chain.
const LAST_LINK: i64 = 4;

/// What may befall the servers of a run.
#[derive(Debug, Clone, Copy)]
struct Perils {
    /// Processes are killed, stopped and continued, documents removed, clocks set, servers steered.
    deaths: bool,
    /// Messages are lost and late.
    network: bool,
    /// Jobs kill their servers.
    poison: bool,
}

impl Perils {
    fn of(seed: u64) -> Self {
        let (deaths, network, poison) = match seed % 5 {
            0 => (true, true, true),
            1 => (false, false, true),
            2 => (false, true, false),
            3 => (true, false, false),
            // Nothing but servers that are stopped gracefully.
            _ => (false, false, false),
        };
        Self {
            deaths,
            network,
            poison,
        }
    }
}

/// A place where a server process runs; another is started when it has ended.
#[derive(Debug)]
struct Slot {
    number: usize,
    process: Mutex<Process>,
    stop: Mutex<CancellationToken>,
    name: Mutex<String>,
    /// The store as its process sees it.
    store: Mutex<Option<Store>>,
    closing: AtomicBool,
}

/// Runs the whole thing.
pub(super) async fn run(world: &World, seed: u64) -> Result<()> {
    let perils = Perils::of(seed);
    let registry = Arc::new(jobs::registry()?);
    let weather = Arc::new(Weather::default());
    if perils.network {
        weather.lost.store(world.number(0..6), Ordering::Relaxed);
        weather.late.store(world.number(0..4), Ordering::Relaxed);
    }
    if perils.deaths {
        weather.deadly.store(world.number(0..6), Ordering::Relaxed);
    }
    let slots: Vec<_> = (0..usize::try_from(world.number(2..5)).unwrap_or(2))
        .map(|number| {
            Arc::new(Slot {
                number,
                process: Mutex::default(),
                stop: Mutex::default(),
                name: Mutex::default(),
                store: Mutex::default(),
                closing: AtomicBool::new(false),
            })
        })
        .collect();
    let own_names = world.chance(50);
    let running: Vec<_> = slots
        .iter()
        .map(|slot| {
            let (world, slot) = (world.clone(), Arc::clone(slot));
            let (weather, registry) = (Arc::clone(&weather), Arc::clone(&registry));
            spawn_local(async move { keep_up(&world, &slot, own_names, weather, registry).await })
        })
        .collect();
    let outside = Store::new(Network {
        world: world.clone(),
        number: OUTSIDE,
        process: Process::new(),
        weather: Arc::default(),
        registry: Arc::clone(&registry),
        ear: Arc::default(),
        openings: Arc::default(),
    });
    let producing = spawn_local({
        let (world, outside) = (world.clone(), outside.clone());
        let slots = slots.clone();
        async move { produce(&world, &outside, &slots, perils).await }
    });
    let aborted = befall(world, &slots, &outside, &registry, perils).await;

    weather.lost.store(0, Ordering::Relaxed);
    weather.late.store(0, Ordering::Relaxed);
    weather.deadly.store(0, Ordering::Relaxed);
    end_schedules(&outside).await?;
    // Ahead of all that it has shown: what was to run later is due now.
    world.set_clock(SignedDuration::from_mins(MOST_MINUTES + 1));
    for slot in &slots {
        slot.process.lock().go_on();
    }
    for server in world.store().servers().await? {
        let paused = [ServerState::Paused];
        let store = world.store();
        store
            .set_server_state(server.id, &paused, ServerState::Running)
            .await?;
    }
    // Behind all that was published before, however late that is heard.
    let resume = ServerCommand {
        action: ServerAction::Resume,
        target: Target::All,
    };
    outside.publish(&resume.to_event(&outside)).await?;
    world.note(|| "the storm is over".to_owned());
    if let Ok(produced) = producing.await {
        produced?;
    }
    let end = world.elapsed() + PATIENCE;
    while world.violation().is_none() && !all_ended(world) {
        if world.elapsed() > end {
            let stuck = stuck(world);
            world.broken(format!("not ended within {PATIENCE:?}: {stuck}"));
        }
        end_schedules(&outside).await?;
        sleep(Duration::from_millis(500)).await;
    }
    // What is late arrives still; the last server puts right what others have left behind.
    sleep(LATEST).await;
    let (last, others) = slots.split_at(1);
    close(others);
    while world.violation().is_none() && !is_alone(world, &slots[0]).await? {
        if world.elapsed() > end {
            world.broken("documents of dead servers are not removed");
        }
        sleep(Duration::from_millis(500)).await;
    }
    close(last);
    for ended in running {
        let _ = ended.await;
    }
    if world.violation().is_none() {
        check_ends(world, aborted, perils);
        check_servers(world).await?;
    }
    Ok(())
}

/// Takes the schedule from the instance that waits for its time: it is the last one.
async fn end_schedules(outside: &Store) -> Result<()> {
    let waits = Filter::eq(rocketjob_core::name::KIND, "Clocked")
        .and(Filter::state(State::Queued))
        .and(Filter::exists(jobs::CRON_SCHEDULE));
    for job in outside.find(&Query::new(waits)).await? {
        let change = Change::new()
            .set(jobs::CRON_SCHEDULE, Bson::Null)
            .unset(rocketjob_core::name::UNFINISHED_KEY);
        let still = Filter::exists(jobs::CRON_SCHEDULE);
        let patch = Patch {
            id: job.id(),
            guard: Guard::states([State::Queued]).matching(still),
            change,
        };
        // Refused, it has begun and made the next one.
        let _ = outside.update(patch).await?;
    }
    Ok(())
}

/// Whether the server of this slot is the only one that is registered.
async fn is_alone(world: &World, slot: &Slot) -> Result<bool> {
    let servers = world.store().servers().await?;
    Ok(servers.len() == 1 && servers[0].name == *slot.name.lock())
}

fn close(slots: &[Arc<Slot>]) {
    for slot in slots {
        slot.closing.store(true, Ordering::Relaxed);
        slot.stop.lock().cancel();
    }
}

/// Starts a server, and another when it has ended.
async fn keep_up(
    world: &World,
    slot: &Slot,
    own_names: bool,
    weather: Arc<Weather>,
    registry: Arc<Registry>,
) {
    let mut generation = 0;
    while !slot.closing.load(Ordering::Relaxed) {
        generation += 1;
        let process = Process::new();
        let stop = CancellationToken::new();
        *slot.process.lock() = process.clone();
        *slot.stop.lock() = stop.clone();
        let name = if own_names {
            // A container that restarts has the name of its predecessor.
            format!("box-{}", slot.number)
        } else {
            format!("box-{}-{generation}", slot.number)
        };
        slot.name.lock().clone_from(&name);
        let network = Network {
            world: world.clone(),
            number: slot.number,
            process: process.clone(),
            weather: Arc::clone(&weather),
            registry: Arc::clone(&registry),
            ear: Ear::listen(world, &process),
            openings: Arc::default(),
        };
        let local = Local {
            world: world.clone(),
            number: slot.number,
            process: process.clone(),
        };
        let store = Store::new(network);
        *slot.store.lock() = Some(store.clone());
        let builder = Server::builder(&store)
            .name(name)
            .only(Registry::clone(&registry))
            .workers(usize::try_from(world.number(1..4)).unwrap_or(1))
            .heartbeat_interval(Duration::from_secs(1))
            .lease(Duration::from_secs(4))
            .call_timeout(Duration::from_millis(1500))
            .grace(Duration::from_secs(2))
            .cancel_grace(Duration::from_secs(1))
            .shared(local)
            .simulated(process.clone(), world.planted());
        let builder = if world.chance(30) {
            builder.poll_interval(Duration::from_millis(250))
        } else {
            builder
        };
        world.note(|| format!("server {} starts", slot.number));
        let running = process.spawn(async move {
            let server = builder.start().await?;
            server.run_until(stop.cancelled()).await
        });
        let ended = running.await;
        world.note(|| {
            let how = match ended {
                Ok(Ok(_)) => "stopped".to_owned(),
                Ok(Err(error)) => error.chain(),
                Err(_) => "is dead".to_owned(),
            };
            format!("server {} {how}", slot.number)
        });
        process.kill();
        sleep(Duration::from_millis(world.number(0..1500))).await;
    }
}

/// Creates jobs, now and then.
///
/// Half of them in the processes of servers, which may begin them at once. There the answer may get
/// lost, and it stays open whether the job exists.
async fn produce(
    world: &World,
    outside: &Store,
    slots: &[Arc<Slot>],
    perils: Perils,
) -> Result<()> {
    let store = outside;
    let first = Chain {
        index: 0,
        last: LAST_LINK,
    };
    world.created(first.create(store).await?.id());
    if world.chance(50) {
        let millis = world.number(0..100);
        let first = Clocked { millis }.create(store).await?;
        world.created(first.id());
    }
    if perils.poison {
        for _ in 0..world.number(1..3) {
            let job = if perils.deaths {
                Poison {}.priority(priority(world))
            } else {
                Poison {}.into()
            };
            world.created(job.create(store).await?.id());
        }
    }
    if perils.poison && !perils.deaths {
        // Many innocents beside it, each time that it kills.
        for _ in 0..12 {
            let millis = world.number(0..60);
            let innocent = Innocent { millis }.create(store).await?;
            world.created(innocent.id());
        }
    }
    for _ in 0..world.number(8..24) {
        let inside = some_store(world, slots).filter(|_| world.chance(50));
        let store = inside.as_ref().unwrap_or(outside);
        let millis = if world.chance(70) {
            world.number(0..30)
        } else {
            world.number(100..2000)
        };
        let run_at = later(store.now(), Duration::from_millis(world.number(0..6000)));
        let priority = priority(world);
        let created = match world.number(0..100) {
            0..30 => {
                let fails = world.number(0..3);
                let job = Plain {
                    fails,
                    millis,
                    done: 0,
                };
                let job = job.priority(priority);
                let job = if world.chance(30) {
                    job.run_at(run_at)
                } else {
                    job
                };
                job.create(store).await.map(|job| job.id())
            }
            30..45 => Innocent { millis }.create(store).await.map(|job| job.id()),
            45..55 => Vanishing { millis }.create(store).await.map(|job| job.id()),
            55..70 => Limited { millis }.create(store).await.map(|job| job.id()),
            70..80 => Single { millis }.create(store).await.map(|job| job.id()),
            80..92 => Once { millis }.create(store).await.map(|job| job.id()),
            _ => {
                let job = Long {
                    seconds: world.number(2..9),
                    stubborn: world.chance(30),
                };
                job.create(store).await.map(|job| job.id())
            }
        };
        match created {
            Ok(id) => world.created(id),
            Err(Error::Existing { .. }) => {}
            Err(Error::Unavailable { .. }) if inside.is_some() => {}
            Err(error) => return Err(error),
        }
        if world.chance(40) {
            sleep(Duration::from_millis(world.number(0..1500))).await;
        }
    }
    Ok(())
}

/// The store as one of the servers sees it.
fn some_store(world: &World, slots: &[Arc<Slot>]) -> Option<Store> {
    let count = u64::try_from(slots.len()).unwrap_or(1);
    let slot = slots.get(usize::try_from(world.number(0..count)).unwrap_or(0))?;
    slot.store.lock().clone()
}

fn priority(world: &World) -> u8 {
    u8::try_from(world.number(1..101)).unwrap_or(50)
}

/// Lets things go wrong for a while, and returns whether an operator aborted jobs.
async fn befall(
    world: &World,
    slots: &[Arc<Slot>],
    outside: &Store,
    registry: &Registry,
    perils: Perils,
) -> bool {
    let mut aborted = false;
    let end = world.elapsed() + STORM;
    while world.elapsed() < end && world.violation().is_none() {
        sleep(Duration::from_millis(world.number(20..1200))).await;
        let number = usize::try_from(world.number(0..slots.len() as u64)).unwrap_or(0);
        let slot = &slots[number];
        let peril = if perils.deaths {
            world.number(0..100)
        } else {
            world.number(60..80)
        };
        match peril {
            0..35 => {
                world.note(|| format!("server {number} is killed"));
                slot.process.lock().kill();
            }
            35..60 => {
                let process = slot.process.lock().clone();
                let pause = Duration::from_millis(world.number(50..8000));
                world.note(|| format!("server {number} is stopped for {pause:?}"));
                process.stop();
                let world = world.clone();
                spawn_local(async move {
                    sleep(pause).await;
                    world.note(|| format!("server {number} is continued"));
                    process.go_on();
                });
            }
            60..70 => {
                world.note(|| format!("server {number} is told to stop"));
                slot.stop.lock().cancel();
            }
            70..78 if perils.deaths => {
                let minutes = i64::try_from(world.number(0..121)).unwrap_or(0) - MOST_MINUTES;
                world.note(|| format!("the clock jumps by {minutes} minutes"));
                world.set_clock(SignedDuration::from_mins(minutes));
            }
            70.. if !perils.deaths => {}
            _ => aborted |= interfere(world, outside, registry).await.unwrap_or(false),
        }
    }
    aborted
}

/// An operator does something; says whether it was an abort.
async fn interfere(world: &World, outside: &Store, registry: &Registry) -> Result<bool> {
    let servers = world.store().servers().await?;
    let Some(server) = servers.get(usize::try_from(world.number(0..4)).unwrap_or(0)) else {
        return Ok(false);
    };
    match world.number(0..7) {
        5 => {
            let action = match world.number(0..4) {
                0 => ServerAction::Pause,
                1 => ServerAction::Resume,
                2 => ServerAction::Refresh,
                _ => ServerAction::ThreadDump,
            };
            world.note(|| format!("{} hears: {action:?}", server.name));
            let target = Target::Server(server.id);
            if matches!(action, ServerAction::Pause | ServerAction::Resume) && world.chance(50) {
                // As the original does it: the document says nothing of it.
                let event = ServerCommand { action, target }.to_event(outside);
                outside.publish(&event).await?;
            } else {
                match steer_servers(outside, &target, action).await {
                    // It has gone meanwhile.
                    Ok(_) | Err(Error::Configuration(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        6 => {
            let wait = Duration::from_millis(world.number(0..2000));
            let action = if world.chance(50) {
                WorkerAction::Stop
            } else {
                WorkerAction::Kill { wait }
            };
            world.note(|| format!("a worker of {} hears: {action:?}", server.name));
            let worker = u32::try_from(world.number(1..4)).unwrap_or(1);
            let command = WorkerCommand {
                action,
                server: server.id,
                worker,
            };
            outside.publish(&command.to_event(outside)).await?;
        }
        0 => {
            world.note(|| format!("{} is removed by hand", server.name));
            world.remove_by_hand(server.id).await?;
        }
        1 => {
            let workers = u32::try_from(world.number(1..5)).unwrap_or(1);
            world.note(|| format!("{} is to have {workers} workers", server.name));
            outside.set_max_workers(server.id, workers).await?;
        }
        2 => {
            world.note(|| format!("{} is paused or goes on", server.name));
            let (from, to) = if world.chance(50) {
                (ServerState::Running, ServerState::Paused)
            } else {
                (ServerState::Paused, ServerState::Running)
            };
            outside.set_server_state(server.id, &[from], to).await?;
        }
        _ => {
            let jobs = world.documents();
            let plain: Vec<_> = jobs.iter().filter(|job| job.kind() == "Plain").collect();
            let index = usize::try_from(world.number(0..40)).unwrap_or(0);
            let Some(job) = plain.get(index) else {
                return Ok(false);
            };
            world.note(|| format!("{} is aborted", job.id()));
            let definition = registry.definition(job.kind());
            let steered = steer(outside, definition, job.id(), Transition::Abort, None).await;
            return Ok(steered.is_ok());
        }
    }
    Ok(false)
}

fn all_ended(world: &World) -> bool {
    world.documents().iter().all(|job| {
        job.get(rocketjob_core::name::SUCCESSORS).is_none()
            && matches!(
                job.state(),
                State::Completed | State::Failed | State::Aborted
            )
    })
}

fn stuck(world: &World) -> String {
    let left = world.documents().into_iter().filter(|job| {
        !matches!(
            job.state(),
            State::Completed | State::Failed | State::Aborted
        )
    });
    left.map(|job| {
        format!(
            "{} {} is {} (claim {:?}, hold {:?}, worker {:?})",
            job.kind(),
            job.id(),
            job.state(),
            job.claim().map(|claim| claim.token),
            job.hold(),
            job.worker_name(),
        )
    })
    .collect::<Vec<_>>()
    .join(", ")
}

/// Every job has come to the end that it should.
fn check_ends(world: &World, aborted: bool, perils: Perils) {
    let jobs = world.documents();
    for job in &jobs {
        if let Err(wrong) = check_end(job, aborted, perils.deaths || perils.network) {
            world.broken(format!("{} {}: {wrong}", job.kind(), job.id()));
        }
        let calm = !perils.deaths && !perils.network && !perils.poison;
        if calm && job.lost_claims() > 0 {
            world.broken(format!("{} was lost, and nothing happened", job.id()));
        }
    }
    check_slots(world, &jobs);
    let links = jobs.iter().filter(|job| job.kind() == "Chain").count();
    if i64::try_from(links) != Ok(LAST_LINK + 1) {
        world.broken(format!(
            "the chain has {links} links instead of {}",
            LAST_LINK + 1
        ));
    }
}

/// Each time of the schedule has one instance, from the first on until the schedule was taken away.
fn check_slots(world: &World, jobs: &[JobDocument]) {
    let clocked = jobs.iter().filter(|job| job.kind() == "Clocked");
    let mut slots: Vec<_> = clocked.clone().filter_map(jobs::slot).collect();
    slots.sort_unstable();
    if slots.len() != clocked.count() {
        world.broken("an instance does not say which time of the schedule it is for");
    }
    for pair in slots.windows(2) {
        match pair[1] - pair[0] {
            jobs::CLOCKED_SECONDS => {}
            0 => world.broken(format!(
                "the time {} of the schedule has two instances",
                pair[0]
            )),
            _ => world.broken(format!(
                "between {} and {} times of the schedule are missing",
                pair[0], pair[1]
            )),
        }
    }
}

fn check_end(job: &JobDocument, aborted: bool, deaths: bool) -> std::result::Result<(), String> {
    let number = |field: &str| {
        let value = job.get(field).and_then(rocketjob_core::whole_number);
        value.unwrap_or(0)
    };
    let class = job.exception().map(|failure| failure.class_name);
    let lost = class.as_deref() == Some(LOST_CLAIM);
    match (job.kind(), job.state()) {
        ("Poison", State::Failed) if lost && job.lost_claims() == 3 => Ok(()),
        // Where servers die by themselves, an innocent may have been with three of them.
        ("Innocent", State::Failed) if deaths && lost && job.lost_claims() == 3 => Ok(()),
        ("Once", State::Failed) if lost && job.lost_claims() == 1 => Ok(()),
        ("Plain", State::Aborted) if aborted => Ok(()),
        ("Plain", State::Completed)
            if job.failure_count() != number("fails") || number("done") != 1 =>
        {
            Err(format!(
                "{} failures and {} completions were accepted instead of {} and 1",
                job.failure_count(),
                number("done"),
                number("fails")
            ))
        }
        ("Plain", State::Completed) => Ok(()),
        ("Poison", state) => Err(format!("it kills its servers, and is {state}")),
        (_, State::Completed) if job.failure_count() == 0 => Ok(()),
        (_, state) => Err(format!(
            "is {state} with {} failures and {} lost claims: {:?}",
            job.failure_count(),
            job.lost_claims(),
            job.exception().map(|failure| failure.message)
        )),
    }
}

/// Nothing is left of any server.
async fn check_servers(world: &World) -> Result<()> {
    let servers = world.store().servers().await?;
    if !servers.is_empty() {
        let names: Vec<_> = servers.into_iter().map(|server| server.name).collect();
        world.broken(format!("left over: {}", names.join(", ")));
    }
    if let Some(job) = world.store().next_claim("").await? {
        world.broken(format!("{} is still claimed", job.id()));
    }
    Ok(())
}
