//! The program of whoever uses the library.

use std::process::ExitCode;

use rocketjob_core::{Registry, Result};

use crate::connect;

/// The command line, with all kinds that are compiled into the program: `myapp start`, `myapp jobs
/// list`, `myapp enqueue Report '{}'`, and so on. The function `main` of such a program is this call.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     rocketjob::main()
/// }
/// ```
pub fn main() -> ExitCode {
    main_with(Registry::collected())
}

/// As [`main`], with these kinds: for those of a library from which the program uses nothing else.
pub fn main_with(registry: Result<Registry>) -> ExitCode {
    rocketjob_cli::run(rocketjob_cli::Program {
        connect: |address| Box::pin(connect(address)),
        registry,
        version: env!("CARGO_PKG_VERSION"),
    })
}
