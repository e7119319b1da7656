//! Any bytes at the beginning of a connection of a balancer, and who a head names: read as the specification has it.
//!
//! `cargo +nightly fuzz run proxy` in the root of the repository; `tools/fuzz proxy` for as long as it takes.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/fuzzed/proxy.rs"]
mod fuzzed;

fuzz_target!(|data: &[u8]| fuzzed::check(data));
