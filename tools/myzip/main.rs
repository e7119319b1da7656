//! myzip compresses files ahead of time, as well as can be, to the `.mz` that cloudia serves as it is.
//!
//! ```text
//!   arguments → args → plan (which files) → work (each on a thread: files → judge → files) → report
//! ```
//!
//! `judge` is pure: bytes in, verdict out. Everything that touches the disk is in `files` and `plan`, and every
//! temporary file is known to `stop`, so that Ctrl-C leaves none. Exit codes: 0 done, 1 some inputs failed, 2 usage,
//! 128 + the signal's number when stopped by one.

mod args;
mod files;
mod judge;
mod pipe;
mod plan;
mod report;
mod stop;
mod work;

use std::{io::Write, process::ExitCode};

use args::{Input, Misuse, Options};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args_os()) {
        Ok(options) => options,
        Err(Misuse::Help(help)) => {
            // Whoever closed the pipe has read enough.
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
        Err(Misuse::Fault(fault)) => {
            let _ = writeln!(std::io::stderr(), "myzip: {fault}");
            return ExitCode::from(2);
        }
    };
    let is_well = match options.input {
        Input::Pipe => pipe::run(&options),
        Input::Paths => work::run(&options),
    };
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
