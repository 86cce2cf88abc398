//! The programs in a terminal: what it shows, at several widths, and when it is resized.

use std::sync::Arc;

use jiff::SignedDuration;
use parking_lot::Mutex;
use pty_process::{OwnedWritePty, Size};
use rocketjob::{Heartbeat, PublishedDefinition, ServerState};
use rocketjob_testing::eventually;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
};

use crate::{
    program::{admin, on_durable_stores, signal, state, stored},
    servers::document,
    stores::Fixture,
};

const ROWS: u16 = 24;

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
            parser: vt100::Parser::new(ROWS, columns, 0),
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

    /// What it shows now, with times that are the same in each run.
    fn shows(&self) -> String {
        let contents = self.screen.lock().parser.screen().contents();
        steady_times(&contents)
    }

    async fn shows_eventually(&self, expected: &str) {
        let expected = expected.trim_matches('\n');
        let what = format!("the terminal shows\n{expected}\n");
        eventually(&what, async || {
            let shown = self.shows();
            if shown == expected {
                Some(())
            } else {
                eprintln!("{shown}\n");
                None
            }
        })
        .await;
    }

    /// What the line showed that had `part` in it, each time when it changed.
    fn history(&self, part: &str) -> Vec<String> {
        let screen = self.screen.lock();
        let mut shown: Vec<_> = screen
            .history
            .iter()
            .filter(|screen| screen.contains(part))
            .cloned()
            .collect();
        shown.dedup();
        shown
    }

    fn resize(&self, columns: u16) {
        let mut screen = self.screen.lock();
        screen.parser.screen_mut().set_size(ROWS, columns);
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

/// The text without spaces at the ends of lines, and with the same time in each run.
fn steady_times(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| match line.trim_end().strip_suffix(" UTC") {
            Some(before) if before.len() > 19 => {
                format!("{}YYYY-MM-DD HH:MM:SS UTC", &before[..before.len() - 19])
            }
            _ => line.trim_end().to_owned(),
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
        let hours = |hours| fixture.store.now() - SignedDuration::from_mins(hours * 60 + 30);
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
        terminal.shows_eventually(&AT_200.replace("mail:1                            running", "mail:1                            paused ")).await;
        fixture.store.remove_server(servers[2].id).await.unwrap();
        fixture.store.remove_server(servers[1].id).await.unwrap();
        fixture.store.remove_server(servers[0].id).await.unwrap();
        terminal.shows_eventually("no servers, YYYY-MM-DD HH:MM:SS UTC").await;
        three_servers(fixture).await;
        terminal.resize(80);
        terminal.shows_eventually(AT_80).await;
        signal(&terminal.child, "INT").await;
        terminal.ends(0).await;
    }
}

const AT_80: &str = "
";
const AT_200: &str = "
";
