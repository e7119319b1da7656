//! ticker makes up a market and lets it walk: for demonstrations, tests and benchmarks of quotes.
//!
//! ```text
//!   arguments → args → market (quote, names, calendar: pure, from a seed) → file | socket | standard output
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

use std::{io::Write, process::ExitCode};

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
            let _ = writeln!(std::io::stderr(), "ticker: {fault}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            let _ = writeln!(std::io::stderr(), "ticker: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    use args::{Change, Source, Target};
    let Source::Invented { symbols, form } = options.source else { return Err("--from is to come".to_owned()) };
    let mut market = market::Market::invent(symbols, form, options.seed);
    let millis = options.every.as_millis() as u64;
    let count = match options.change {
        Change::Share(share) => (market.walking() as f64 * share / 100.0).round() as usize,
        Change::Count(count) => count,
    };
    let mut tick = 0;
    loop {
        match &options.target {
            Target::File { path, in_place } => file::Table::new(path, *in_place)
                .and_then(|table| table.write(&market.table()))
                .map_err(|error| format!("{}: {error}", path.display()))?,
            Target::Stdout => {
                let _ = std::io::stdout().write_all(market.table().as_bytes());
            }
            Target::Socket(_) => return Err("--socket is to come".to_owned()),
        }
        tick += 1;
        if options.ticks.is_some_and(|ticks| tick >= ticks) {
            return Ok(());
        }
        std::thread::sleep(options.every);
        market.tick(millis, count);
    }
}
