//! Processes and ports, seen from outside.

use std::ffi::OsString;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Attempt;

/// The script that ends a server when nobody is left who needs it; see its own comments.
pub(super) const WATCHER: &str = include_str!("watcher.sh");

/// How this process is named among the clients of a server: its id, and where the system tells when
/// it was started, that too, because ids come round again.
pub(super) fn own_name() -> String {
    let status = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the program's name in brackets and may hold anything; the start is the
    // 22nd.
    let start = status
        .rsplit_once(") ")
        .and_then(|(_, fields)| fields.split(' ').nth(19))
        .unwrap_or("0");
    format!("{}.{start}", std::process::id())
}

/// The process whose id is in `file`, if it lives and its command line mentions `mention`.
///
/// Ids come round again, so that an id from a file alone tells nothing.
pub(super) fn recorded(file: &Path, mention: &Path) -> Option<u32> {
    let process = fs::read_to_string(file).ok()?.trim().parse().ok()?;
    command_line(process)?
        .contains(mention.to_str()?)
        .then_some(process)
}

fn command_line(process: u32) -> Option<String> {
    if Path::new("/proc/self/cmdline").exists() {
        // Empty for a process that has ended and waits for its parent to notice.
        let line = fs::read(format!("/proc/{process}/cmdline")).ok()?;
        return Some(String::from_utf8_lossy(&line).into_owned());
    }
    let output = Command::new("ps")
        .args(["-o", "args=", "-p", &process.to_string()])
        .output()
        .ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Ends a process that need not be a child of this one.
pub(super) fn kill(process: u32) {
    // The shell's own `kill`, since not every system has a program of that name. A failure means
    // that it has ended.
    let _ = Command::new("sh")
        .args(["-c", "kill -KILL \"$0\"", &process.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// Polls `condition` until it gives a value, for at most `limit`.
pub(super) async fn wait_for<T>(
    limit: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if start.elapsed() > limit {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A port on which nobody listens now.
///
/// Below those that systems hand out by themselves: a client that tries again and again to reach a
/// killed server would otherwise sometimes be given that very port as its own, and meet itself.
pub(super) fn free_port() -> Attempt<u16> {
    let start = RandomState::new().hash_one(()) % 12_000;
    (0..12_000)
        .filter_map(|step| u16::try_from(20_000 + (start + step) % 12_000).ok())
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .ok_or_else(|| "no port is free for a `mongod`".to_owned())
}

/// The arguments of every `mongod`: it writes its log to its output, which somebody has pointed at
/// a file.
pub(super) fn arguments(port: u16, data: &Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec![
        "--dbpath".into(),
        data.into(),
        "--port".into(),
        port.to_string().into(),
    ];
    arguments.extend(["--bind_ip", "127.0.0.1", "--nounixsocket", "--quiet"].map(OsString::from));
    arguments.extend(["--wiredTigerCacheSizeGB", "1"].map(OsString::from));
    arguments
        .extend(["--setParameter", "diagnosticDataCollectionEnabled=false"].map(OsString::from));
    arguments
}

/// The last lines of a log, for a message.
pub(super) fn end_of(log: &Path) -> String {
    let log = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    let end = lines[lines.len().saturating_sub(10)..].join("\n");
    format!("The end of its log:\n{end}")
}
