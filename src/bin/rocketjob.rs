//! Administers any store: it performs nothing itself, and knows kinds as servers publish them.

use std::process::ExitCode;

fn main() -> ExitCode {
    rocketjob::main()
}
