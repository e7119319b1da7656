//! The reader of `.mz`: what it takes another decoder reads as the same bytes.
//!
//! `cargo +nightly fuzz run mz` in the root of the repository; `tools/fuzz mz` for as long as it takes.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/fuzzed/mz.rs"]
mod fuzzed;

fuzz_target!(|data: &[u8]| fuzzed::check(data));
