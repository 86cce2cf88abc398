//! Programs of this project that tests start as processes of their own.

use std::{path::PathBuf, process::Stdio};

use tokio::process::{Child, Command};

/// A command for one of the examples, which Cargo builds together with the tests.
pub(crate) fn example(name: &str) -> Command {
    let mut folder = std::env::current_exe().expect("the test has a path");
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    let path: PathBuf = folder
        .join("examples")
        .join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --examples`",
        path.display()
    );
    let mut command = Command::new(path);
    command.kill_on_drop(true).stdin(Stdio::null());
    command
}

/// Asks a process to end, as an orchestrator does, and waits until it has.
pub(crate) async fn terminate(mut child: Child) {
    let id = child.id().expect("the process runs").to_string();
    let killed = Command::new("kill")
        .args(["-TERM", &id])
        .status()
        .await
        .expect("`kill` can be called");
    assert!(killed.success());
    let status = child.wait().await.expect("the process ends");
    assert!(status.success(), "the process ended with {status}");
}
