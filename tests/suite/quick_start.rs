//! The README's quick start, as a newcomer would do it: in crates outside the workspace.

use std::{fs, path::Path, process::Command};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The block of Rust code under the heading.
fn quick_start() -> String {
    let readme =
        fs::read_to_string(Path::new(ROOT).join("README.md")).expect("the README is there");
    let section = readme
        .split("## Quick start")
        .nth(1)
        .expect("it has a quick start");
    let code = section.split("```rust\n").nth(1).expect("it has code");
    code.split("```").next().expect("the code ends").to_owned()
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a file in a folder")).expect("the folder can be made");
    fs::write(path, text).expect("the file can be written");
}

fn manifest(name: &str, dependencies: &str) -> String {
    format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[dependencies]\n\
         rocketjob = {{ path = {ROOT:?} }}\nserde = {{ version = \"1\", features = [\"derive\"] }}\n\
         tokio = {{ version = \"1\", features = [\"macros\", \"rt-multi-thread\"] }}\n{dependencies}"
    )
}

/// What the program prints.
fn run(folder: &Path, program: &str) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--bin", program])
        .current_dir(folder)
        // Outside the workspace's own, which another `cargo` may be holding.
        .env(
            "CARGO_TARGET_DIR",
            Path::new(env!("CARGO_TARGET_TMPDIR")).join("quick-start"),
        )
        .output()
        .expect("cargo can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Two programs in a workspace of their own: the quick start as it stands, and its job in a
/// library, which one program mentions and the other only registers.
#[test]
fn it_compiles_and_prints_what_it_says() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    // Without debug information it compiles in half the time.
    let members = "[workspace]\nresolver = \"3\"\nmembers = [\"hello-jobs\", \"jobs\", \"app\"]\n\n[profile.dev]\ndebug = false\n";
    write(&folder.join("Cargo.toml"), members);
    fs::copy(
        Path::new(ROOT).join("Cargo.lock"),
        folder.join("Cargo.lock"),
    )
    .expect("the lock can be copied");

    let code = quick_start();
    write(
        &folder.join("hello-jobs/Cargo.toml"),
        &manifest("hello-jobs", ""),
    );
    write(&folder.join("hello-jobs/src/main.rs"), &code);

    let (job, main) = code.split_once("#[tokio::main]").expect("it has a main");
    let job = job.replace("struct GreetJob", "pub struct GreetJob");
    let job = job
        .replace("    name:", "    pub name:")
        .replace("    greeting:", "    pub greeting:");
    write(&folder.join("jobs/Cargo.toml"), &manifest("jobs", ""));
    write(&folder.join("jobs/src/lib.rs"), &job);
    write(
        &folder.join("app/Cargo.toml"),
        &manifest("app", "jobs = { path = \"../jobs\" }\n"),
    );
    let uses = "use jobs::GreetJob;\nuse rocketjob::prelude::*;\n\n#[tokio::main]";
    write(&folder.join("app/src/main.rs"), &format!("{uses}{main}"));
    write(&folder.join("app/src/bin/absent.rs"), ABSENT);
    write(&folder.join("app/src/bin/registered.rs"), REGISTERED);

    assert_eq!(run(folder, "hello-jobs"), "completed Hello, Ada!\n");
    fs::remove_file(folder.join("jobs.db")).expect("it made the file that it said");
    assert_eq!(run(folder, "app"), "completed Hello, Ada!\n");
    assert_eq!(run(folder, "absent"), "no job kinds are registered\n");
    assert_eq!(run(folder, "registered"), "[\"GreetJob\"]\n");
}

/// A program that never mentions the library.
const ABSENT: &str = r#"
#[tokio::main]
async fn main() {
    let store = rocketjob::MemoryStore::new();
    let error = rocketjob::Server::builder(&store).start().await.unwrap_err();
    println!("{}", error.to_string().split(':').next().unwrap());
}
"#;

/// A program that registers the library's job by hand.
const REGISTERED: &str = r#"
#[tokio::main]
async fn main() -> Result<(), rocketjob::Error> {
    let store = rocketjob::MemoryStore::new();
    let server = rocketjob::Server::builder(&store).register::<jobs::GreetJob>().start().await?;
    println!("{:?}", server.kinds());
    server.stop().await?;
    Ok(())
}
"#;
