//! crowd is many clients at once, honest ones and hostile ones: for benchmarks of what a server bears. `docs/crowd.md` is its manual.
//!
//! ```text
//!   arguments → args → engine (threads, each with its pool of sockets)
//!                        ├ browser  browse: poll as browsers do, and believe nothing
//!                        ├ asker    poll, hold: ask, and are patient; what for, is in requests
//!                        ├ stall    asks for much and does not read
//!                        ├ writer   slow-head, slow-body, late-head, never-read, garbage: what is sent is the attack
//!                        └ comer    silent, half-open, reset, churn: that they come is the attack
//! ```
//!
//! It talks to loopback addresses alone: it is no tool against anybody else's server. What happened is one JSON object on
//! standard output, of browsers a page for people unless JSON is asked for; at the end, or when SIGINT or SIGTERM ends it early.
//!
//! Exit codes: 0 done, whatever the figures; 1 it cannot go on; 2 usage.

mod answer;
mod args;
mod asker;
mod browser;
mod chunks;
mod comer;
mod counts;
mod dice;
mod engine;
mod latency;
mod pace;
mod pool;
mod progress;
mod report;
mod requests;
mod sockets;
mod stall;
mod writer;

use std::{io::Write, process::ExitCode};

fn main() -> ExitCode {
    let args = args::parse();
    match engine::run(&args) {
        Ok(outcome) => {
            // Whoever closed the pipe has read enough.
            let _ = write!(std::io::stdout(), "{}", report::print(&args, &outcome));
            ExitCode::SUCCESS
        }
        Err(fault) => {
            let _ = writeln!(std::io::stderr(), "crowd: {fault}");
            ExitCode::FAILURE
        }
    }
}
