//! The program as such: its help, its configuration, a store that is away.

use std::collections::BTreeSet;

use crate::program::{bare, run};

const COMMANDS: [&[&str]; 23] = [
    &["start"],
    &["enqueue"],
    &["why"],
    &["doctor"],
    &["perf"],
    &["completions"],
    &["jobs", "list"],
    &["jobs", "show"],
    &["jobs", "retry"],
    &["jobs", "abort"],
    &["jobs", "fail"],
    &["jobs", "pause"],
    &["jobs", "resume"],
    &["jobs", "run-now"],
    &["jobs", "delete"],
    &["jobs", "set"],
    &["servers", "list"],
    &["servers", "stop"],
    &["servers", "pause"],
    &["servers", "resume"],
    &["servers", "kill"],
    &["servers", "dump"],
    &[],
];

#[tokio::test]
async fn the_help_of_each_command_has_an_example() {
    for command in COMMANDS {
        let mut arguments = command.to_vec();
        arguments.push("--help");
        let help = run(bare(), &arguments).await;
        assert_eq!(help.code, 0, "{command:?}");
        let wanted = if command.is_empty() {
            "Exit codes: 0 done"
        } else {
            "Example"
        };
        assert!(help.out.contains(wanted), "{command:?}: {}", help.out);
        assert!(help.out.contains("Usage: rocketjob"), "{command:?}");
    }
    let known: BTreeSet<Vec<String>> = COMMANDS
        .into_iter()
        .filter(|command| !command.is_empty())
        .map(|command| command.iter().map(ToString::to_string).collect())
        .collect();
    assert_eq!(commands_of_help().await, known);
    let needing: Vec<_> = NEEDING_STORE.map(|(command, _)| command).into();
    let alone = [&["completions"][..], &[]];
    let others = COMMANDS
        .into_iter()
        .filter(|command| !needing.contains(command));
    assert_eq!(others.collect::<Vec<_>>(), alone);
    run(bare(), &[]).await.failed(2, "Usage: rocketjob");
    run(bare(), &["job"])
        .await
        .failed(2, "unrecognized subcommand 'job'");
}

/// The commands that the program's help tells of.
async fn commands_of_help() -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    let mut groups = vec![Vec::new()];
    while let Some(group) = groups.pop() {
        let arguments: Vec<_> = group.iter().map(String::as_str).chain(["--help"]).collect();
        let help = run(bare(), &arguments).await.out;
        let names = help
            .lines()
            .skip_while(|line| *line != "Commands:")
            .skip(1)
            .take_while(|line| !line.is_empty())
            .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help");
        let names: Vec<_> = names.map(ToOwned::to_owned).collect();
        if names.is_empty() {
            found.insert(group.clone());
        }
        groups.extend(names.into_iter().map(|name| [&group[..], &[name]].concat()));
    }
    found
}

#[tokio::test]
async fn the_version_and_completions_need_no_store() {
    let version = run(bare(), &["--version"]).await;
    assert_eq!(
        version.text(),
        format!("rocketjob {}", env!("CARGO_PKG_VERSION"))
    );
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let completions = run(bare(), &["completions", shell]).await;
        assert!(completions.text().contains("run-now"), "{shell}");
    }
    run(bare(), &["completions", "tcsh"])
        .await
        .failed(2, "invalid value 'tcsh'");
}

#[tokio::test]
async fn the_store_comes_from_the_arguments_the_environment_or_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let address = |name: &str| format!("sqlite://{}", path(name).display());
    let list = ["jobs", "list"];
    run(bare(), &list)
        .await
        .failed(2, "no store is given: use --store");

    std::fs::write(
        path("rocketjob.toml"),
        format!("store = \"{}\"\n", address("from_file.db")),
    )
    .unwrap();
    let mut here = bare();
    here.current_dir(folder.path());
    assert_eq!(run(here, &list).await.code, 0);
    assert!(path("from_file.db").exists());

    std::fs::create_dir_all(path("config/rocketjob")).unwrap();
    std::fs::write(
        path("config/rocketjob/config.toml"),
        format!("store = \"{}\"\n", address("of_user.db")),
    )
    .unwrap();
    let mut user = bare();
    user.env("XDG_CONFIG_HOME", path("config"));
    assert_eq!(run(user, &list).await.code, 0);
    assert!(path("of_user.db").exists());

    let mut both = bare();
    both.current_dir(folder.path())
        .env("ROCKETJOB_STORE", address("from_environment.db"));
    assert_eq!(run(both, &list).await.code, 0);
    assert!(path("from_environment.db").exists());
    let mut all = bare();
    all.env("ROCKETJOB_STORE", address("unused.db"));
    let argument = address("from_argument.db");
    assert_eq!(
        run(all, &["jobs", "list", "--store", &argument]).await.code,
        0
    );
    assert!(path("from_argument.db").exists() && !path("unused.db").exists());

    for (text, problem) in [
        (
            "store = mongodb://ann:secret@host/db",
            "makes no sense at line 1",
        ),
        (
            "\nstores = \"mongodb://ann:secret@host/db\"",
            "makes no sense at line 2: unknown field `stores`",
        ),
    ] {
        std::fs::write(path("broken.toml"), text).unwrap();
        let file = path("broken.toml");
        let ran = run(
            bare(),
            &["jobs", "list", "--config", file.to_str().unwrap()],
        )
        .await;
        ran.failed(2, problem);
        assert!(!ran.err.contains("secret"), "{ran:?}");
    }
    let missing = path("missing.toml");
    run(
        bare(),
        &["jobs", "list", "--config", missing.to_str().unwrap()],
    )
    .await
    .failed(2, "cannot be read");
}

/// What each command that needs a store is given.
const NEEDING_STORE: [(&[&str], &[&str]); 21] = [
    (&["start"], &[]),
    (&["enqueue"], &["Report", "{}"]),
    (&["why"], &[ID]),
    (&["doctor"], &[]),
    (&["perf"], &[]),
    (&["jobs", "list"], &[]),
    (&["jobs", "show"], &[ID]),
    (&["jobs", "retry"], &["--all"]),
    (&["jobs", "abort"], &["--all", "--yes"]),
    (&["jobs", "fail"], &["--all", "--yes"]),
    (&["jobs", "pause"], &["--all"]),
    (&["jobs", "resume"], &["--all"]),
    (&["jobs", "run-now"], &["--all"]),
    (&["jobs", "delete"], &["--all", "--yes"]),
    (&["jobs", "set"], &["--all", "--yes", "priority=3"]),
    (&["servers", "list"], &[]),
    (&["servers", "stop"], &["--all", "--yes"]),
    (&["servers", "pause"], &["--all"]),
    (&["servers", "resume"], &["--all"]),
    (&["servers", "kill"], &["--all", "--yes"]),
    (&["servers", "dump"], &["--all"]),
];

const ID: &str = "6955b902776f726c64000001";

/// Each command that needs a store, on one that is away, answers with `code` and `problem`.
async fn all_say(store: &str, code: i32, problem: &str) {
    for (command, more) in NEEDING_STORE {
        for json in [&[][..], &["--json"]] {
            let mut program = bare();
            program.env("ROCKETJOB_STORE", store);
            let ran = run(program, &[command, more, json].concat()).await;
            ran.failed(code, problem);
            assert!(!ran.err.contains("secret") && ran.out.is_empty(), "{ran:?}");
            let told: Result<serde_json::Value, _> = serde_json::from_str(&ran.err);
            let told_as_json = told.is_ok_and(|told| told["error"]["code"] == code);
            assert_eq!(told_as_json, !json.is_empty(), "{command:?}: {ran:?}");
        }
    }
}

#[tokio::test]
async fn each_command_says_that_the_store_is_away() {
    let away = "mongodb://ann:secret@127.0.0.1:1/jobs?serverSelectionTimeoutMS=200";
    all_say(away, 4, "is not available").await;
}

#[tokio::test]
async fn each_command_says_that_the_file_cannot_be_opened() {
    let folder = tempfile::tempdir().unwrap();
    let gone = format!("sqlite://{}/gone/jobs.db", folder.path().display());
    all_say(&gone, 2, "does not exist; create it or give another path").await;
    let other = folder.path().join("letter.txt");
    std::fs::write(&other, "Dear Ann, ".repeat(200)).unwrap();
    let other = format!("sqlite://{}", other.display());
    all_say(&other, 2, "is not an SQLite database").await;
}

#[tokio::test]
async fn a_store_that_makes_no_sense_is_told_without_a_password() {
    let mut help = bare();
    help.env("ROCKETJOB_STORE", "mongodb://ann:secret@127.0.0.1:1/jobs");
    assert!(
        !run(help, &["jobs", "list", "--help"])
            .await
            .out
            .contains("secret")
    );
    let ran = run(
        bare(),
        &["jobs", "list", "--store", "redis://ann:secret@host"],
    )
    .await;
    ran.failed(2, "unknown scheme `redis`");
    assert!(!ran.err.contains("secret"), "{ran:?}");
    run(bare(), &["jobs", "list", "--store", "jobs.db"])
        .await
        .failed(2, "has no scheme");
}
