//! The command line of [Rocket Job](https://docs.rs/rocketjob): servers are started, jobs listed,
//! steered and created, from one program.
//!
//! `rocketjob::main()` calls [`run`] with the kinds that are compiled into the user's program. The
//! program `rocketjob` has none, and administers any store through the definitions that servers
//! publish. Data goes to the standard output, everything else to that of errors; [`failure`] has the
//! exit codes.

mod arguments;
mod config;
mod doctor;
mod enqueue;
pub mod failure;
mod interrupt;
mod jobs;
mod logging;
mod output;
mod perf;
mod pid_file;
mod screen;
mod servers;
mod start;
mod table;
mod view;
mod why;

use std::process::ExitCode;

use clap::CommandFactory;
use futures_util::future::BoxFuture;
use rocketjob_core::{Registry, Result, Store};

use crate::{
    arguments::{Arguments, Command},
    failure::Failure,
    output::Output,
};

/// Connects to the store at an address.
pub type Connect = fn(&str) -> BoxFuture<'_, Result<Store>>;

/// A program with this command line.
#[derive(Debug)]
pub struct Program {
    /// Connects to the store.
    pub connect: Connect,
    /// The kinds that the program performs, or what is wrong with them.
    pub registry: Result<Registry>,
    /// The version that it tells.
    pub version: &'static str,
}

/// Does what the arguments of the process say, and returns what the process is to exit with.
pub fn run(program: Program) -> ExitCode {
    let arguments = match parsed(program.version) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(failure::USAGE));
        }
    };
    let output = Output::new(&arguments.common);
    let outcome = match &arguments.command {
        Command::Completions { shell } => {
            complete(*shell);
            Ok(())
        }
        _ => in_runtime(program, &arguments, &output),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn parsed(version: &'static str) -> Result<Arguments, clap::Error> {
    use clap::FromArgMatches;
    let matches = command().version(version).try_get_matches()?;
    Arguments::from_arg_matches(&matches)
}

/// The commands, under the name by which the program was called.
fn command() -> clap::Command {
    let name = std::env::args_os().next().and_then(|path| {
        let name = std::path::Path::new(&path).file_stem()?;
        Some(name.to_str()?.to_owned())
    });
    Arguments::command().name(name.unwrap_or_else(|| "rocketjob".into()))
}

fn complete(shell: clap_complete::Shell) {
    let mut command = command();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut std::io::stdout());
}

fn in_runtime(
    program: Program,
    arguments: &Arguments,
    output: &Output,
) -> std::result::Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other(format!("no runtime can be started: {error}")))?;
    runtime.block_on(dispatch(program, arguments, output))
}

async fn dispatch(
    program: Program,
    arguments: &Arguments,
    output: &Output,
) -> std::result::Result<(), Failure> {
    let registry = program.registry?;
    let address = config::address(&arguments.common)?;
    logging::set_up(match &arguments.command {
        Command::Start(start) => Some(&start.log),
        _ => None,
    })?;
    let store = (program.connect)(&address).await?;
    match &arguments.command {
        Command::Start(start) => start::start(&store, registry, start).await,
        Command::Jobs(command) => jobs::jobs(&store, registry, command, output).await,
        Command::Enqueue(enqueue) => enqueue::enqueue(&store, registry, enqueue, output).await,
        Command::Servers(command) => servers::servers(&store, command, output).await,
        Command::Why(arguments) => why::why(&store, arguments, output).await,
        Command::Doctor => doctor::doctor(&store, output).await,
        Command::Perf(perf) => perf::perf(&store, perf, output).await,
        Command::Completions { .. } => Ok(()),
    }
}
