//! The program as such: its help, its configuration, a store that is away.

use crate::program::{bare, run};

const COMMANDS: [&[&str]; 21] = [
    &["start"],
    &["enqueue"],
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
    run(bare(), &[]).await.failed(2, "Usage: rocketjob");
    run(bare(), &["job"])
        .await
        .failed(2, "unrecognized subcommand 'job'");
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

#[tokio::test]
async fn a_store_that_is_away_or_makes_no_sense_is_told_without_a_password() {
    let away = "mongodb://ann:secret@127.0.0.1:1/jobs?serverSelectionTimeoutMS=200";
    let commands: [&[&str]; 6] = [
        &["jobs", "list"],
        &["jobs", "retry", "--all"],
        &["servers", "list"],
        &["servers", "stop", "--all", "--yes"],
        &["enqueue", "Report"],
        &["perf"],
    ];
    for command in commands {
        for arguments in [command.to_vec(), [command, &["--json"]].concat()] {
            let mut program = bare();
            program.env("ROCKETJOB_STORE", away);
            let ran = run(program, &arguments).await;
            ran.failed(4, "is not available");
            assert!(!ran.err.contains("secret") && ran.out.is_empty(), "{ran:?}");
        }
    }
    let mut help = bare();
    help.env("ROCKETJOB_STORE", away);
    assert!(
        !run(help, &["jobs", "list", "--help"])
            .await
            .out
            .contains("secret")
    );
    run(
        bare(),
        &["jobs", "list", "--store", "redis://ann:secret@host"],
    )
    .await
    .failed(2, "unknown scheme `redis`");
    run(bare(), &["jobs", "list", "--store", "jobs.db"])
        .await
        .failed(2, "has no scheme");
}
