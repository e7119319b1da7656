//! ticker makes up a market and lets it walk: for demonstrations, tests and benchmarks of quotes.
//!
//! ```text
//!   arguments → args → market (quote, names, calendar, table: pure, from a seed)
//!                    └ run → file | socket | standard output
//! ```
//!
//! Exit codes: 0 done, 1 it cannot go on, 2 usage.

mod args;
mod calendar;
mod file;
mod market;
mod names;
mod quote;
mod rng;
mod run;
mod socket;
mod table;

use std::process::ExitCode;

use args::{Misuse, Options};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args_os()) {
        Ok(options) => options,
        Err(Misuse::Help(help)) => {
            // Whoever closed the pipe has read enough.
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
        Err(Misuse::Fault(fault)) => {
            socket::tell(&fault);
            return ExitCode::from(2);
        }
    };
    match run::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            socket::tell(&fault);
            ExitCode::FAILURE
        }
    }
}
