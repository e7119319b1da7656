//! What threads share by hand, under every order of steps that chance finds: the swap of versions and markets, the budget,
//! contents that are inflated elsewhere, orders to workers, answers that are compressed elsewhere.
//!
//! These are the files of `src` themselves, with [`sync`] in place of the primitives that they import: `shuttle` decides after
//! each of their operations who goes on. `arc_swap` is trusted to be one atomic step and stands here as a lock. All atomic
//! operations are in one order here, so that weaker orders of memory are not shown by this: `threads.rs` does the same on real
//! threads, where `tools/sanitize thread` looks at it.
//!
//! `cargo test --test schedules [NAME]`; `CLOUDIA_TEST_SCHEDULES=N` tries N orders of each scenario with each of two
//! schedulers, `CLOUDIA_TEST_SEED=N` repeats what a seed did. A failure prints the schedule.

#![allow(dead_code, unused_imports, missing_docs, reason = "what only the program needs of its files")]
#![allow(clippy::large_enum_variant, reason = "the library says the same of what is public there")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says so by panicking")]

#[path = "../basics.rs"]
mod basics;
#[path = "../../src/worker/budget.rs"]
mod budget;
#[path = "../../src/clock.rs"]
mod clock;
#[path = "../../src/feed/codec.rs"]
mod codec;
#[path = "../../src/worker/control.rs"]
mod control;
mod limits;
#[path = "../../src/mz.rs"]
mod mz;
mod scenarios;
#[path = "../../src/store/mod.rs"]
mod store;
mod sync;

/// Where the program has it.
mod feed {
    pub(crate) use crate::codec;
}

use std::{env, panic, process::ExitCode, time::Instant};

use shuttle::{
    Config, Runner,
    scheduler::{PctScheduler, RandomScheduler},
};

/// Orders of each scenario that an ordinary run tries with each scheduler.
const SCHEDULES: usize = 500;

/// Does what never ends, which the model allows a task that nobody waits for, but not a thread.
fn for_ever(work: impl FnOnce() + Send + 'static) {
    drop(shuttle::future::spawn(async move { work() }));
}

fn config() -> Config {
    let mut config = Config::new();
    // That it knows one order of memory only is said above.
    config.silence_warnings = true;
    config
}

fn main() -> ExitCode {
    let mut wanted = None;
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--skip" => drop(arguments.next()),
            flag if flag.starts_with('-') => {}
            name => wanted = Some(name.to_owned()),
        }
    }
    let schedules = env::var("CLOUDIA_TEST_SCHEDULES").map_or(SCHEDULES, |count| count.parse().unwrap());
    let seed = basics::seed();
    let mut failed = false;
    for (name, scenario, cost) in scenarios::ALL {
        let schedules = schedules / cost;
        if wanted.as_ref().is_some_and(|wanted| !name.contains(wanted)) {
            continue;
        }
        let begun = Instant::now();
        let outcome = panic::catch_unwind(|| {
            Runner::new(RandomScheduler::new_from_seed(seed, schedules), config()).run(scenario);
            // Few changes of turn in unlikely places find what many in all places hide.
            Runner::new(PctScheduler::new_from_seed(seed, 3, schedules), config()).run(scenario);
        });
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        failed |= outcome.is_err();
        println!("schedules::{name}: {} orders ... {word} ({:.1} s)", 2 * schedules, begun.elapsed().as_secs_f64());
    }
    ExitCode::from(u8::from(failed))
}
