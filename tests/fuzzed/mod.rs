//! What the targets of `fuzz/` do with their input, here on inputs that the fuzzer has kept and on what chance makes of them.
//!
//! Each module has one `check`, which `fuzz/fuzz_targets` calls with bytes that a fuzzer looks for. It panics where something
//! is wrong. `CLOUDIA_TEST_ROUNDS=N` is for how many mutations are tried, `tools/fuzz` for the real search.

mod config;
mod mz;
mod proxy;
mod request;
mod validators;

use std::{fs, path::Path};

use crate::{
    basics::Rng,
    fuzz::{insist, rounds},
    quotes_model,
};

/// The inputs that `tools/fuzz` has kept for a target.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    // A seed must mean the same in every run.
    paths.sort();
    let inputs: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(inputs.len() >= 10, "{target} has a corpus of {}", inputs.len());
    inputs
}

/// Damages `input` in a few places, or joins it with another.
fn mutate(rng: &mut Rng, input: &mut Vec<u8>, others: &[Vec<u8>]) {
    for _ in 0..1 + rng.below(4) {
        let at = rng.below(input.len() + 1);
        match rng.below(6) {
            0 if at < input.len() => input[at] = rng.next() as u8,
            1 if at < input.len() => input[at] ^= 1 << rng.below(8),
            2 => {
                let end = (at + 1 + rng.below(8)).min(input.len());
                input.drain(at..end);
            }
            3 => {
                let end = (at + rng.below(40)).min(input.len());
                let copied = input[at..end].to_vec();
                input.splice(at..at, copied);
            }
            4 => {
                let other = &others[rng.below(others.len())];
                input.truncate(at);
                input.extend_from_slice(&other[rng.below(other.len() + 1)..]);
            }
            _ => input.insert(at, b"\r\n :,;=-\"/?&%.#\0\xff09"[rng.below(19)]),
        }
    }
}

/// A check that panics, as one that says what is wrong.
fn passes(check: fn(&[u8])) -> impl FnMut(&[u8]) -> Result<(), String> {
    move |input| {
        check(input);
        Ok(())
    }
}

/// Everything that was kept, and `mutations` of it.
fn all_of(target: &str, mutations: u64, check: fn(&[u8])) {
    let inputs = corpus(target);
    for input in &inputs {
        insist(0, input, passes(check));
    }
    for seed in rounds(mutations) {
        let rng = &mut Rng::with_seed(seed);
        let mut input = inputs[rng.below(inputs.len())].clone();
        mutate(rng, &mut input, &inputs);
        insist(seed, &input, passes(check));
    }
}

#[test]
fn requests() {
    all_of("request", 150, request::check);
}

#[test]
fn validators() {
    all_of("validators", 1500, validators::check);
}

#[test]
fn configurations() {
    all_of("config", 120, config::check);
}

#[test]
fn proxy_headers() {
    all_of("proxy", 2000, proxy::check);
}

#[test]
fn mz_files() {
    all_of("mz", 200, mz::check);
}

#[test]
fn quotes() {
    all_of("quotes", 60, quotes_model::any::check);
}
