//! Any arguments and any file of settings: understood, or refused in one line that names what is wrong.
//!
//! `cargo +nightly fuzz run config` in the root of the repository; `tools/fuzz config` for as long as it takes.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/fuzzed/config.rs"]
mod fuzzed;

fuzz_target!(|data: &[u8]| fuzzed::check(data));
