//! Any fields about an entry: ranges, dates, tags and codings are read as the model reads them.
//!
//! `cargo +nightly fuzz run validators` in the root of the repository; `tools/fuzz validators` for as long as it takes.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "what only the tests need")]
#[path = "../../tests/basics.rs"]
mod basics;
#[path = "../../tests/fuzzed/validators.rs"]
mod fuzzed;
#[allow(dead_code, reason = "what only the tests need")]
#[path = "../../tests/model/mod.rs"]
mod model;
#[allow(dead_code, reason = "what only the tests need")]
#[path = "../../tests/fuzz/sample.rs"]
mod sample;

/// Where the tests have it.
mod fuzz {
    pub(crate) use crate::sample;
}

fuzz_target!(|data: &[u8]| fuzzed::check(data));
