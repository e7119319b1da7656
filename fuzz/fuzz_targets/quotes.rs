//! Any bytes to a small market and a list: tables and batches are read as the contract reads them, under every cut, and every
//! joined answer is, by two decoders that did not make it, the obvious concatenation.
//!
//! `cargo +nightly fuzz run quotes` in the root of the repository.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/quotes_model/any.rs"]
mod any;
#[path = "../../tests/quotes_model/check.rs"]
mod check;
#[allow(dead_code, reason = "what only the tests need")]
#[path = "../../tests/model/quotes.rs"]
mod contract;

fuzz_target!(|data: &[u8]| any::check(data));
