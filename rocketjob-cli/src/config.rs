//! Where the store is: the arguments, the environment, or a configuration file.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{arguments::Common, failure::Failure};

/// A configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    store: Option<String>,
}

/// The address of the store.
pub(crate) fn address(common: &Common) -> Result<String, Failure> {
    if let Some(store) = &common.store {
        return Ok(store.clone());
    }
    let file = match &common.config {
        Some(file) => Some(file.clone()),
        None => places().into_iter().find(|file| file.is_file()),
    };
    let from_file = match &file {
        Some(file) => read(file)?.store,
        None => None,
    };
    from_file.ok_or_else(|| {
        Failure::usage(
            "no store is given: use --store, the environment variable ROCKETJOB_STORE, or `store = \"…\"` in ./rocketjob.toml or ~/.config/rocketjob/config.toml",
        )
    })
}

/// Where configuration files are looked for; the first one counts.
fn places() -> Vec<PathBuf> {
    let user = env::var_os("XDG_CONFIG_HOME")
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".config")));
    let mut places = vec![PathBuf::from("rocketjob.toml")];
    places.extend(user.map(|folder| folder.join("rocketjob").join("config.toml")));
    places
}

fn read(file: &Path) -> Result<Config, Failure> {
    let name = file.display();
    let text = fs::read_to_string(file).map_err(|error| {
        Failure::usage(format!(
            "the configuration file {name} cannot be read: {error}"
        ))
    })?;
    toml::from_str(&text).map_err(|error| {
        // Only the line's number: the line itself may have a password in it.
        let before = error
            .span()
            .and_then(|span| text.get(..span.start))
            .unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        Failure::usage(format!(
            "the configuration file {name} makes no sense at line {line}: {}",
            error.message()
        ))
    })
}
