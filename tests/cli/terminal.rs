//! The programs in a terminal: what it shows, at several widths, and when it is resized.

use std::{num::NonZero, sync::Arc, time::Duration};

use bson::doc;
use jiff::SignedDuration;
use parking_lot::Mutex;
use pty_process::{OwnedWritePty, Size};
use rocketjob::{Heartbeat, PublishedDefinition, ServerState, State};
use rocketjob_testing::eventually;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::{
    many::{JOBS, count, fill},
    program::{admin, on_durable_stores, signal, stored},
    servers::document,
    stores::Fixture,
};

const ROWS: u16 = 24;

fn some(number: u16) -> NonZero<u16> {
    NonZero::new(number).unwrap()
}

/// What a terminal shows, and has shown.
struct Screen {
    parser: vt100::Parser,
    history: Vec<String>,
}

/// A program in a terminal.
struct Terminal {
    child: Child,
    screen: Arc<Mutex<Screen>>,
    pty: OwnedWritePty,
}

impl Terminal {
    fn start(command: &Command, columns: u16) -> Self {
        let (pty, pts) = pty_process::open().unwrap();
        pty.resize(Size::new(ROWS, columns)).unwrap();
        let command = command.as_std();
        let mut program = pty_process::Command::new(command.get_program())
            .args(command.get_args())
            .env("TERM", "xterm-256color")
            .kill_on_drop(true);
        for (name, value) in command.get_envs() {
            program = match value {
                Some(value) => program.env(name, value),
                None => program.env_remove(name),
            };
        }
        let child = program.spawn(pts).unwrap();
        let (mut output, pty) = pty.into_split();
        let screen = Arc::new(Mutex::new(Screen {
            parser: vt100::Parser::new(some(ROWS), some(columns), 0),
            history: Vec::new(),
        }));
        let shown = Arc::clone(&screen);
        tokio::spawn(async move {
            let mut bytes = [0; 4096];
            // The reading fails when the program has ended.
            while let Ok(read @ 1..) = output.read(&mut bytes).await {
                let mut screen = shown.lock();
                for byte in &bytes[..read] {
                    screen.parser.process(&[*byte]);
                }
                let contents = screen.parser.screen().contents();
                screen.history.push(contents);
            }
        });
        Self { child, screen, pty }
    }

    /// What it shows now.
    fn shows(&self) -> String {
        let contents = self.screen.lock().parser.screen().contents();
        same_in_each_run(&contents)
    }

    async fn shows_eventually(&self, expected: &str) {
        let expected = expected.trim_matches('\n');
        let as_expected = async {
            while self.shows() != expected {
                sleep(Duration::from_millis(5)).await;
            }
        };
        // The comparison tells what is shown in place of it.
        let _ = timeout(Duration::from_secs(30), as_expected).await;
        assert_eq!(self.shows(), expected, "\n{}\n", self.shows());
    }

    /// What the line of progress has shown, each time when it changed.
    fn progress(&self) -> Vec<String> {
        let screen = self.screen.lock();
        let mut shown: Vec<String> = Vec::new();
        for line in screen
            .history
            .iter()
            .filter_map(|screen| screen.lines().find(|line| line.contains("/s")))
        {
            if shown.last().is_none_or(|last| last != line) {
                shown.push(line.to_owned());
            }
        }
        shown
    }

    fn resize(&self, columns: u16) {
        let mut screen = self.screen.lock();
        screen
            .parser
            .screen_mut()
            .set_size(some(ROWS), some(columns));
        self.pty.resize(Size::new(ROWS, columns)).unwrap();
    }

    async fn type_in(&mut self, text: &str) {
        self.pty.write_all(text.as_bytes()).await.unwrap();
    }

    async fn ends(&mut self, code: i32) {
        assert_eq!(
            self.child.wait().await.unwrap().code(),
            Some(code),
            "{}",
            self.shows()
        );
    }
}

/// The text without spaces at the ends of lines, and with the same times and ids in each run.
fn same_in_each_run(text: &str) -> String {
    let is_id = |word: &str| word.len() == 24 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let lines = text.lines().map(str::trim_end).map(|line| {
        let id = line.split(' ').find(|word| is_id(word));
        let line = id.map_or(line.to_owned(), |id| {
            line.replace(id, "0123456789abcdef01234567")
        });
        match line.strip_suffix(" UTC") {
            Some(before) if before.len() > 19 => {
                format!("{}YYYY-MM-DD HH:MM:SS UTC", &before[..before.len() - 19])
            }
            _ => line,
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Three servers of which one performs many kinds. Their ages stay the same for as long as a test
/// may take.
async fn three_servers(fixture: &Fixture) {
    let names = [
        "import-worker-01.example.org:4711",
        "import-worker-02.example.org:4712",
        "mail:1",
    ];
    for (name, kinds) in names.into_iter().zip([8, 3, 0]) {
        let kinds = (0..kinds).map(|number| {
            let definition = json!({ "kind": format!("Import::Part{number}"), "rust_type": "app::Part", "priority": 50 });
            serde_json::from_value::<PublishedDefinition>(definition).unwrap()
        });
        let mut server = document(fixture, name, ServerState::Running, kinds.collect());
        let hours = |hours: i64| fixture.store.now() - SignedDuration::from_mins(hours * 60 + 30);
        server.started_at = Some(hours(72));
        server.heartbeat = Some(Heartbeat {
            updated_at: hours(3),
            workers: 10,
            counter: 1,
        });
        fixture.store.insert_server(&server).await.unwrap();
    }
}

on_durable_stores! {
    async fn the_live_list_of_servers_is_as_wide_as_the_terminal(fixture: &Fixture) {
        three_servers(fixture).await;
        let mut command = admin(fixture);
        command.args(["servers", "list", "--live", "--interval", "0.2"]);
        let mut terminal = Terminal::start(&command, 80);
        terminal.shows_eventually(AT_80).await;
        terminal.resize(200);
        terminal.shows_eventually(AT_200).await;
        let servers = fixture.store.servers().await.unwrap();
        fixture.store.set_server_state(servers[2].id, &[ServerState::Running], ServerState::Paused).await.unwrap();
        terminal.shows_eventually(&AT_200.replace("mail:1                             running", "mail:1                             paused ")).await;
        for server in servers {
            fixture.store.remove_server(server.id).await.unwrap();
        }
        terminal.shows_eventually("no servers, YYYY-MM-DD HH:MM:SS UTC").await;
        three_servers(fixture).await;
        terminal.resize(80);
        terminal.shows_eventually(AT_80).await;
        signal(&terminal.child, "INT").await;
        terminal.ends(0).await;
        assert_eq!(terminal.shows(), AT_80.trim_matches('\n'), "the last list stays to be read");
    }

    async fn more_servers_than_rows_are_counted(fixture: &Fixture) {
        for number in 100..140 {
            let server = document(fixture, &format!("mail:{number}"), ServerState::Running, Vec::new());
            fixture.store.insert_server(&server).await.unwrap();
        }
        let mut command = admin(fixture);
        command.args(["servers", "list", "--live"]);
        let terminal = Terminal::start(&command, 80);
        eventually("what has no room is counted", async || {
            let shown = terminal.shows();
            let lines: Vec<_> = shown.lines().collect();
            let is_fitting = lines.len() == usize::from(ROWS) - 1 && lines[0].starts_with("40 servers, 120 workers, ");
            (is_fitting && lines[2].starts_with("mail:100 ") && lines[22] == "… and 20 lines more").then_some(())
        }).await;
    }

    async fn what_destroys_is_asked_for_and_shows_its_progress_in_one_line(fixture: &Fixture) {
        fill(fixture).await;
        let mut command = admin(fixture);
        command.args(["jobs", "delete", "--all", "--where", "kind:Import"]);
        let mut hesitant = Terminal::start(&command, 80);
        let question = format!("Delete {JOBS} jobs? [y/N]");
        hesitant.shows_eventually(&question).await;
        hesitant.type_in("n\n").await;
        hesitant.ends(1).await;
        hesitant.shows_eventually(&format!("{question} n\nerror: nothing was done")).await;
        assert_eq!(count(fixture, State::Failed).await, JOBS);

        let mut terminal = Terminal::start(&command, 200);
        terminal.shows_eventually(&question).await;
        terminal.type_in("y\n").await;
        eventually("there is progress", async || (!terminal.progress().is_empty()).then_some(())).await;
        let wide = terminal.progress();
        terminal.resize(80);
        terminal.ends(0).await;
        terminal.shows_eventually(&format!("{question} y\ndeleted: {JOBS} jobs")).await;
        assert_eq!(count(fixture, State::Failed).await, 0);
        assert_eq!(wide[0].chars().count(), 200, "{wide:?}");
        let of = if JOBS == 10_000 { "/10,000 " } else { "/100,000 " };
        let narrow: Vec<_> = terminal.progress().split_off(wide.len());
        assert!(narrow.iter().any(|line| line.chars().count() == 80), "{narrow:?}");
        for line in wide.iter().chain(&narrow) {
            assert!(line.starts_with("Delete ") && line.contains(of), "{line}");
        }
    }

    async fn a_list_of_jobs_is_as_wide_as_the_terminal(fixture: &Fixture) {
        stored(fixture, "failed", doc! {
            "created_at": rocketjob::date(fixture.store.now() - SignedDuration::from_mins(150)),
            "description": "the weekly import of all customers of the northern region",
            "exception": { "class_name": "Net::Timeout", "message": "no answer from import.example.org after 30 seconds" },
        }).await;
        for (columns, expected) in [(80, JOBS_AT_80), (200, JOBS_AT_200)] {
            let mut command = admin(fixture);
            command.args(["jobs", "list"]);
            let mut terminal = Terminal::start(&command, columns);
            terminal.ends(0).await;
            terminal.shows_eventually(expected).await;
        }
    }
}

const AT_80: &str = "
3 servers, 30 workers, YYYY-MM-DD HH:MM:SS UTC
NAME                               STATE    WORKERS  LAST SIGN  KINDS
import-worker-01.example.org:4711  running  10/10    3h ago     Import::Part0,…
import-worker-02.example.org:4712  running  10/10    3h ago     Import::Part0,…
mail:1                             running  10/10    3h ago
";
const AT_200: &str = "
3 servers, 30 workers, YYYY-MM-DD HH:MM:SS UTC
NAME                               STATE    WORKERS  STARTED  LAST SIGN  VERSION  KINDS
import-worker-01.example.org:4711  running  10/10    3d ago   3h ago     0.1.0    Import::Part0, Import::Part1, Import::Part2, Import::Part3, Import::Part4, Import::Part5, Import::Part6, Import::Part7
import-worker-02.example.org:4712  running  10/10    3d ago   3h ago     0.1.0    Import::Part0, Import::Part1, Import::Part2
mail:1                             running  10/10    3d ago   3h ago     0.1.0
";
const JOBS_AT_80: &str = "
ID                        KIND    STATE   PRIO  CREATED  DESCRIPTION  FAILURE
0123456789abcdef01234567  Import  failed  50    2h ago   the weekly…  Net::Time…
";
const JOBS_AT_200: &str = "
ID                        KIND    STATE   PRIO  CREATED  DESCRIPTION                                                FAILURE
0123456789abcdef01234567  Import  failed  50    2h ago   the weekly import of all customers of the northern region  Net::Timeout: no answer from import.example.org after 30 se…
";
