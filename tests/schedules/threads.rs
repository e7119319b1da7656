//! The scenarios of `main.rs` on the threads and with the primitives of the program: what the model leaves out, above all weaker
//! orders of memory, is there, and `tools/sanitize thread` sees what is not ordered.
//!
//! `cargo test --test threads [NAME] [-- --skip NAME]`; `CLOUDIA_TEST_SCHEDULES=N` runs each scenario N times.

#![allow(dead_code, unused_imports, missing_docs, reason = "what only the program needs of its files")]
#![allow(clippy::large_enum_variant, reason = "the library says the same of what is public there")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says so by panicking")]

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
#[path = "../../src/sync.rs"]
mod sync;

/// Where the program has it.
mod feed {
    pub(crate) use crate::codec;
}

/// Each leaves one or two threads that never end.
const RUNS: usize = 50;

/// Does what never ends.
fn for_ever(work: impl FnOnce() + Send + 'static) {
    std::thread::spawn(work);
}

fn main() {
    // A panic of a scenario's thread ends the scenario, and with it this program.
    let mut arguments = std::env::args().skip(1);
    let (mut wanted, mut skipped) = (String::new(), None);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--skip" => skipped = arguments.next(),
            flag if flag.starts_with('-') => {}
            name => wanted = name.to_owned(),
        }
    }
    let runs = std::env::var("CLOUDIA_TEST_SCHEDULES").map_or(RUNS, |runs| runs.parse().unwrap());
    for (name, scenario, _) in scenarios::ALL.iter().filter(|(name, ..)| name.contains(&wanted)) {
        if skipped.as_ref().is_some_and(|skipped| name.contains(skipped)) {
            continue;
        }
        (0..runs).for_each(|_| scenario());
        println!("threads::{name}: {runs} runs ... ok");
    }
}
