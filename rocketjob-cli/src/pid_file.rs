//! The file with a server's process id.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process,
};

use crate::failure::Failure;

/// A file with the id of this process; it goes with this value.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Makes the file. One that a process left behind which is gone is replaced.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            Failure::other(format!(
                "the pid file {} cannot be written: {error}",
                path.display()
            ))
        };
        let mut file = match File::create_new(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if let Some(id) = owner(path).filter(|id| is_alive(*id)) {
                    return Err(Failure::other(format!(
                        "the pid file {} belongs to the process {id}, which runs: stop it, or name another file",
                        path.display()
                    )));
                }
                fs::remove_file(path).map_err(failed)?;
                File::create_new(path).map_err(failed)?
            }
            Err(error) => return Err(failed(error)),
        };
        writeln!(file, "{}", process::id()).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
        })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Another process may have made it its own.
        if owner(&self.path) == Some(process::id()) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn owner(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(unix)]
fn is_alive(id: u32) -> bool {
    let Some(id) = i32::try_from(id)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    else {
        return false;
    };
    // A process of somebody else is there as well.
    !matches!(
        rustix::process::test_kill_process(id),
        Err(rustix::io::Errno::SRCH)
    )
}

#[cfg(not(unix))]
fn is_alive(_id: u32) -> bool {
    true
}
