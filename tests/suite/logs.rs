//! Log levels of running server processes: of one module, of one process, of one job.

use std::{
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use bson::{Bson, doc, oid::ObjectId};
use parking_lot::Mutex;
use rocketjob::{
    Event, LogControl, LogLevel,
    control::{LOGGER, LogAction},
    prelude::*,
};
use rocketjob_testing::eventually;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
};

use crate::{
    observed::{PLACES, TalkJob},
    process,
    stores::{self, Fixture, Kind, on_every_store},
};

const BILLING: &str = "observed::billing";
const MAIL: &str = "observed::mail";
/// Within this time a change must show.
const SOON: Duration = Duration::from_secs(1);

/// A server process and what it has written.
struct Observed {
    child: Child,
    pid: u32,
    lines: Arc<Mutex<Vec<Line>>>,
}

/// A line of its log.
#[derive(Debug, Clone)]
struct Line {
    level: String,
    target: String,
    fields: Value,
    spans: Vec<Value>,
}

impl Line {
    fn parse(text: &str) -> Self {
        let line: Value =
            serde_json::from_str(text).unwrap_or_else(|_| panic!("no line of the log: {text}"));
        let text = |name: &str| line[name].as_str().unwrap().to_owned();
        Self {
            level: text("level"),
            target: text("target"),
            fields: line["fields"].clone(),
            spans: line["spans"].as_array().cloned().unwrap_or_default(),
        }
    }

    fn is(&self, target: &str, level: &str) -> bool {
        self.target == target && self.level == level
    }

    fn message(&self) -> &str {
        self.fields["message"].as_str().unwrap_or_default()
    }

    /// The job in whose `perform` it was written.
    fn job(&self) -> Option<ObjectId> {
        let perform = self.spans.iter().find(|span| span["name"] == "perform")?;
        perform["id"].as_str()?.parse().ok()
    }
}

impl Observed {
    async fn start(fixture: &Fixture, levels: &str) -> Self {
        let mut child = process::example("observed")
            .args(["--store", &fixture.address, "--levels", levels])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&lines);
        let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
        tokio::spawn(async move {
            while let Ok(Some(line)) = errors.next_line().await {
                written.lock().push(Line::parse(&line));
            }
        });
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = output.next_line().await.unwrap().unwrap();
        assert!(said.ends_with(" is running"), "{said}");
        Self {
            pid: child.id().unwrap(),
            child,
            lines,
        }
    }

    async fn start_four(fixture: &Fixture) -> Vec<Self> {
        let mut servers = Vec::new();
        for _ in 0..4 {
            servers.push(Self::start(fixture, "warn").await);
        }
        servers
    }

    fn count(&self, wanted: impl Fn(&Line) -> bool) -> usize {
        self.lines.lock().iter().filter(|line| wanted(line)).count()
    }

    fn jobs_lines(&self, id: ObjectId) -> Vec<Line> {
        let lines = self.lines.lock();
        let own = lines.iter().filter(|line| line.job() == Some(id));
        own.cloned().collect()
    }

    /// Waits until the process has gone on for a while, as its lines tell.
    async fn goes_on(&self) {
        let ticks = || self.count(|line| line.is(BILLING, "WARN"));
        let before = ticks();
        eventually("the process goes on", async || {
            (ticks() >= before + 5).then_some(())
        })
        .await;
    }

    async fn shows(&self, target: &str, level: &str) {
        eventually("the level shows", async || {
            (self.count(|line| line.is(target, level)) > 0).then_some(())
        })
        .await;
    }
}

async fn stop(servers: Vec<Observed>) {
    for server in servers {
        process::terminate(server.child).await;
    }
}

async fn set(store: &Store, level: LogLevel, module: &str, host: Option<&str>, pid: Option<u32>) {
    let action = LogAction::Set {
        level,
        module: Some(module.into()),
        host: host.map(Into::into),
        pid,
    };
    store.publish(&action.to_event(store)).await.unwrap();
}

async fn one_module_on_one_server(fixture: &Fixture) {
    let store = &fixture.store;
    let servers = Observed::start_four(fixture).await;
    for server in &servers {
        server.goes_on().await;
    }
    let chosen = &servers[1];
    set(store, LogLevel::Debug, MAIL, Some("elsewhere"), None).await;
    let published = Instant::now();
    set(store, LogLevel::Debug, BILLING, None, Some(chosen.pid)).await;
    chosen.shows(BILLING, "DEBUG").await;
    assert!(published.elapsed() < SOON, "took {:?}", published.elapsed());
    for server in &servers {
        server.goes_on().await;
        server.goes_on().await;
        let is_chosen = server.pid == chosen.pid;
        assert_eq!(
            server.count(|line| line.is(BILLING, "DEBUG")) > 0,
            is_chosen
        );
        assert_eq!(
            server.count(|line| line.target.contains("observed")
                && line.level == "DEBUG"
                && line.target != BILLING),
            0
        );
    }

    // And on all of them.
    let published = Instant::now();
    set(store, LogLevel::Debug, MAIL, None, None).await;
    for server in &servers {
        server.shows(MAIL, "DEBUG").await;
    }
    assert!(published.elapsed() < SOON, "took {:?}", published.elapsed());

    // Down too: its warnings go.
    set(store, LogLevel::Error, MAIL, None, Some(chosen.pid)).await;
    eventually("the warnings end", async || {
        let before = chosen.count(|line| line.target == MAIL);
        chosen.goes_on().await;
        (chosen.count(|line| line.target == MAIL) == before).then_some(())
    })
    .await;
    stop(servers).await;
}

#[test]
fn one_module_on_one_of_four_servers_on_sqlite() {
    stores::run(
        Kind::Sqlite,
        "logs::one_module_on_sqlite",
        one_module_on_one_server,
    );
}

#[test]
fn one_module_on_one_of_four_servers_on_mongo() {
    stores::run(
        Kind::Mongo,
        "logs::one_module_on_mongo",
        one_module_on_one_server,
    );
}

/// Of a job with this level, which lines are kept.
fn kept(level: Option<LogLevel>) -> &'static [&'static str] {
    match level {
        Some(LogLevel::Trace) => &["TRACE", "DEBUG", "INFO", "WARN", "ERROR"],
        Some(LogLevel::Error) => &["ERROR"],
        _ => &["WARN", "ERROR"],
    }
}

async fn jobs_with_levels(fixture: &Fixture) {
    let store = &fixture.store;
    let servers = Observed::start_four(fixture).await;
    let mut jobs = Vec::new();
    for number in 0..60 {
        let level = [None, Some(LogLevel::Trace), None, Some(LogLevel::Error)][number % 4];
        let job = rocketjob::NewJob::from(TalkJob {});
        let job = match level {
            Some(level) => job.log_level(level),
            None => job,
        };
        jobs.push((job.create(store).await.unwrap().id(), level));
    }
    for (id, level) in jobs {
        let wanted = PLACES.len() * kept(level).len();
        let talks = |line: &Line| line.message() == "talks";
        let lines = eventually("the job's lines come", async || {
            let lines = servers.iter().flat_map(|server| server.jobs_lines(id));
            let lines: Vec<_> = lines.filter(talks).collect();
            (lines.len() >= wanted).then_some(lines)
        })
        .await;
        assert_eq!(lines.len(), wanted, "{lines:#?}");
        for place in PLACES {
            let own = lines.iter().filter(|line| line.fields["place"] == place);
            let levels: Vec<_> = own.map(|line| line.level.as_str()).collect();
            assert_eq!(levels, kept(level), "{level:?} in the {place}");
        }
    }
    for server in &servers {
        server.goes_on().await;
        let others = server.count(|line| {
            line.job().is_none() && !["WARN", "ERROR"].contains(&line.level.as_str())
        });
        assert_eq!(others, 0);
    }
    stop(servers).await;
}

#[test]
fn a_jobs_own_level_shows_its_lines_and_no_others_on_sqlite() {
    stores::run(Kind::Sqlite, "logs::jobs_on_sqlite", jobs_with_levels);
}

#[test]
fn a_jobs_own_level_shows_its_lines_and_no_others_on_mongo() {
    stores::run(Kind::Mongo, "logs::jobs_on_mongo", jobs_with_levels);
}

/// Claims, performances and outcomes say of which job they are.
#[test]
fn a_servers_spans_tell_the_job() {
    stores::run(Kind::Sqlite, "logs::spans", async |fixture| {
        let server = Observed::start(fixture, "rocketjob=debug").await;
        let id = TalkJob {}.create(&fixture.store).await.unwrap().id();
        for (message, span) in [
            ("claimed", "claim"),
            ("performed", "perform"),
            ("settled", "settle"),
        ] {
            let found = eventually(message, async || {
                let lines = server.lines.lock();
                lines.iter().find(|line| line.message() == message).cloned()
            })
            .await;
            let around = found.spans.last().unwrap();
            assert_eq!(around["name"], span, "{found:?}");
            let told = if message == "performed" {
                around
            } else {
                &found.fields
            };
            assert_eq!(told["id"], id.to_hex());
            assert_eq!(told["kind"], "TalkJob");
            assert_eq!(told["attempt"], 1);
        }
        stop(vec![server]).await;
    });
}

#[test]
fn the_log_of_one_process_is_asked_for_a_dump() {
    stores::run(Kind::Sqlite, "logs::dump", async |fixture| {
        let asked = Observed::start(fixture, "info").await;
        let other = Observed::start(fixture, "info").await;
        let action = LogAction::ThreadDump {
            host: None,
            pid: Some(asked.pid),
        };
        let event = action.to_event(&fixture.store);
        fixture.store.publish(&event).await.unwrap();
        let dumps = |line: &Line| line.message() == "dump of all workers";
        eventually("the dump is written", async || {
            (asked.count(dumps) > 0).then_some(())
        })
        .await;
        other.goes_on().await;
        other.goes_on().await;
        assert_eq!(other.count(dumps), 0);
        stop(vec![asked, other]).await;
    });
}

/// Notes what it is asked for.
#[derive(Debug, Default)]
struct Notes(Mutex<Vec<(Option<String>, LogLevel)>>);

impl LogControl for Notes {
    fn set_level(&self, module: Option<&str>, level: LogLevel) -> rocketjob::Result<()> {
        self.0.lock().push((module.map(Into::into), level));
        Ok(())
    }

    fn job_begins(&self, _level: Option<LogLevel>) {}

    fn job_ended(&self, _level: Option<LogLevel>) {}
}

on_every_store! {
    /// Written as the original writes it, and meant for this process or not.
    async fn a_server_tells_its_log_control_what_an_event_asks_for(fixture: &Fixture) {
        let notes = Arc::new(Notes::default());
        let server = fixture.server::<TalkJob>().log_control(notes.clone()).start().await.unwrap();
        let host = gethostname();
        let pid = i64::from(std::process::id());
        let asked = [
            doc! { "level": Bson::Symbol("debug".into()), "class_name": "shop::mail", "host_name": &host, "pid": pid },
            doc! { "level": "loud" },
            doc! { "level": "trace", "host_name": "elsewhere" },
            doc! { "level": "trace", "pid": pid + 1 },
            doc! { "level": "error", "class_name": Bson::Null, "host_name": Bson::Null, "pid": Bson::Null },
        ];
        for parameters in asked {
            let event = Event::new(&fixture.store, LOGGER, "set", parameters);
            fixture.store.publish(&event).await.unwrap();
        }
        eventually("the last has been heard", async || {
            notes.0.lock().iter().any(|(_, level)| *level == LogLevel::Error).then_some(())
        })
        .await;
        let wanted = [(Some("shop::mail".to_owned()), LogLevel::Debug), (None, LogLevel::Error)];
        assert_eq!(*notes.0.lock(), wanted);
        server.stop().await.unwrap();
    }
}

/// As servers name their host.
fn gethostname() -> String {
    sysinfo::System::host_name().expect("the machine has a name")
}
