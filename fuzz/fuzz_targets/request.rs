//! Any bytes to a connection, over a socket that cuts them: the answers are the model's.
//!
//! `cargo +nightly fuzz run request` in the root of the repository; `tools/fuzz request` for as long as it takes.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "what only the tests need")]
#[path = "../../tests/basics.rs"]
mod basics;
#[allow(dead_code, reason = "what only the tests need")]
#[path = "../../tests/fuzz/compare.rs"]
mod compare;
#[path = "../../tests/fuzzed/request.rs"]
mod fuzzed;
#[allow(dead_code, reason = "what only the tests need")]
#[path = "../../tests/model/mod.rs"]
mod model;
#[allow(dead_code, reason = "what only the tests need")]
#[path = "../../tests/fuzz/sample.rs"]
mod sample;
#[allow(dead_code, reason = "what only the tests need")]
#[path = "../../tests/fuzz/socket.rs"]
mod socket;

/// Where the tests have them.
mod fuzz {
    pub(crate) use crate::{compare, sample, socket};
}

fuzz_target!(|data: &[u8]| fuzzed::check(data));
