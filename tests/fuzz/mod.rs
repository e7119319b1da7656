//! Random bytes for the server and for its model: what the one says the other must say.
//!
//! [`heads_are_read_as_the_model_reads_them`] holds the parser to [`model::head`], and
//! [`connections_answer_as_the_model_answers`] a whole connection, with every cut and every full socket, to
//! [`model::talk`]. A failure prints its seed and the shortest input found that still fails.

pub(crate) mod compare;
pub(crate) mod grammar;
pub(crate) mod sample;
pub(crate) mod socket;
pub(crate) mod values;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    panic::{self, AssertUnwindSafe},
};

use cloudia::{
    limits::MAX_FIELDS,
    serve::request::{self, Method, Parsed},
    serve::status::Status,
};

use crate::{
    harness::{Rng, seed},
    model::{
        self, Body,
        head::{Framing, Head, Verdict},
        latin1,
    },
};
use compare::Judge;
use sample::Sample;
use socket::Manner;
use values::one_in;

/// `CLOUDIA_TEST_ROUNDS` or `default`, each with its seed; the first has the seed that is printed.
pub(crate) fn rounds(default: u64) -> impl Iterator<Item = u64> {
    let rounds = env::var("CLOUDIA_TEST_ROUNDS").map_or(default, |rounds| rounds.parse().unwrap());
    let first = seed();
    (0..rounds).map(move |round| first.wrapping_add(round))
}

/// What `check` finds wrong with `input`; a panic is wrong, too.
fn fault_of(input: &[u8], check: &mut impl FnMut(&[u8]) -> Result<(), String>) -> Option<String> {
    panic::catch_unwind(AssertUnwindSafe(|| check(input))).unwrap_or_else(|_| Err("a panic".into())).err()
}

/// Checks `input` and, if that fails, makes it shorter and says all that is needed to repeat it.
pub(crate) fn insist(seed: u64, input: &[u8], mut check: impl FnMut(&[u8]) -> Result<(), String>) {
    let Some(mut fault) = fault_of(input, &mut check) else { return };
    let mut shortest = input.to_vec();
    // Without whole requests, then without lines, then without bytes.
    let mut tries = 5000;
    for end in ["\r\n\r\n", "\r\n", ""] {
        let mut at = 0;
        while at < shortest.len() && tries > 0 {
            tries -= 1;
            let behind = shortest[at..]
                .windows(end.len().max(1))
                .position(|window| window.starts_with(end.as_bytes()))
                .map_or(shortest.len(), |found| at + found + end.len());
            let piece = at..behind.clamp(at + 1, shortest.len());
            let shorter = [&shortest[..piece.start], &shortest[piece.end..]].concat();
            match fault_of(&shorter, &mut check) {
                Some(same) => (shortest, fault) = (shorter, same),
                None => at = piece.end,
            }
        }
    }
    panic!("CLOUDIA_TEST_SEED={seed} CLOUDIA_TEST_ROUNDS=1\n{}\n{fault}", shortest.escape_ascii());
}

/// A verdict in words, equal for the two parsers where the verdicts are.
fn verdict_of_the_model(input: &[u8]) -> String {
    match model::head::read(input) {
        Verdict::Partial { skip } => format!("partial, {skip} bytes of empty lines"),
        Verdict::Refused { status, to_head } => format!("{status}, to HEAD: {to_head}"),
        Verdict::Whole { head, len } => {
            let method = match head.method.as_str() {
                "GET" => Method::Get,
                "HEAD" => Method::Head,
                "OPTIONS" => Method::Options,
                "CONNECT" => Method::Connect,
                _ => Method::Other,
            };
            let body = match head.framing() {
                Framing::None => "no body".to_owned(),
                // Any length that is never read is as good as another.
                Framing::Length(length) => format!("{} bytes", length.min(u64::MAX.into())),
                Framing::Chunked => "chunks".to_owned(),
            };
            let Head { target, .. } = &head;
            let (persists, old, waits) = (head.persists(), head.is_1_0(), head.expects_continue());
            format!("{len}: {method:?} {target} {:?}, {body}, {persists} {old} {waits}", head.once("host"))
        }
    }
}

fn verdict_of_the_server(input: &[u8]) -> String {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    match request::parse(input, &mut fields) {
        Parsed::Partial { skip } => format!("partial, {skip} bytes of empty lines"),
        Parsed::Reject(reject) => format!("{}, to HEAD: {}", Status::from(reject.fault).code(), reject.head),
        Parsed::Complete { request, len } => {
            let body = match request.body {
                request::Body::None => "no body".to_owned(),
                request::Body::Length(length) => format!("{length} bytes"),
                request::Body::Chunked => "chunks".to_owned(),
            };
            let (method, target, host) = (request.method, latin1(request.target), request.host.map(latin1));
            let (persists, old, waits) = (request.persistent, request.http10, request.expects_continue);
            format!("{len}: {method:?} {target} {host:?}, {body}, {persists} {old} {waits}")
        }
    }
}

fn same_verdict(input: &[u8]) -> Result<(), String> {
    let (of_the_model, of_the_server) = (verdict_of_the_model(input), verdict_of_the_server(input));
    if of_the_model == of_the_server {
        return Ok(());
    }
    Err(format!("the model: {of_the_model}\nthe server: {of_the_server}"))
}

#[test]
fn heads_are_read_as_the_model_reads_them() {
    let sample = Sample::new(false);
    for seed in rounds(6_000) {
        let rng = &mut Rng::with_seed(seed);
        let mut input = match rng.below(24) {
            0 => grammar::oversized(rng, &sample.site),
            1..8 => grammar::tame(rng, &sample.site),
            _ => grammar::wild(rng, &sample.site),
        };
        if one_in(rng, 2) {
            grammar::damage(rng, &mut input);
        }
        insist(seed, &input, same_verdict);
        // The verdict on a part is the model's as well: no cut makes a head sound that is not.
        let cut = rng.below(input.len() + 1);
        insist(seed, &input[..cut], same_verdict);
    }
}

#[test]
fn connections_answer_as_the_model_answers() {
    let samples = [Sample::new(true), Sample::new(false)];
    let mut judge = Judge::default();
    for seed in rounds(400) {
        let rng = &mut Rng::with_seed(seed);
        let sample = &samples[rng.below(2)];
        let stream = pipeline(rng, sample);
        let manner = rng.next();
        insist(seed, &stream, |stream| {
            let talk = model::talk(stream, &sample.site);
            for manner in [Manner::Smooth, Manner::Rough(Rng::with_seed(manner))] {
                let name = manner.name();
                let seen = socket::converse(stream, &sample.store, sample.site.now, manner);
                judge.compare(&talk.answers, &seen.sent).map_err(|why| format!("{name}: {why}"))?;
                if let Some(why) = seen.fault_at_end(talk.end) {
                    return Err(format!("{name}: {why}"));
                }
            }
            Ok(())
        });
    }
}

/// Up to a hundred requests. What ends the connection comes late, if at all.
fn pipeline(rng: &mut Rng, sample: &Sample) -> Vec<u8> {
    let mut stream = Vec::new();
    let count = if one_in(rng, 10) { 100 } else { 1 + rng.below(25) };
    for left in (0..count).rev() {
        // As many are wild on the way as at the end.
        let is_wild = if left == 0 { one_in(rng, 2) } else { one_in(rng, 2 * count) };
        stream.extend(match rng.below(6) {
            0 if is_wild => grammar::oversized(rng, &sample.site),
            _ if is_wild => grammar::wild(rng, &sample.site),
            _ => grammar::tame(rng, &sample.site),
        });
    }
    if one_in(rng, 6) {
        grammar::damage(rng, &mut stream);
    }
    stream
}

/// A grammar that never gets past the request line would agree with any server.
#[test]
fn pipelines_reach_every_status_and_every_end() {
    let sample = Sample::new(true);
    let mut statuses = BTreeMap::new();
    let mut ends = BTreeMap::new();
    let (mut codings, mut several_ranges, mut answers) = (BTreeSet::new(), 0, 0);
    for seed in 0..200 {
        let talk = model::talk(&pipeline(&mut Rng::with_seed(seed), &sample), &sample.site);
        *ends.entry(format!("{:?}", talk.end)).or_insert(0) += 1;
        for answer in &talk.answers {
            *statuses.entry(answer.status).or_insert(0) += 1;
            codings.extend(answer.fields.get("Content-Encoding").cloned());
            several_ranges += usize::from(matches!(answer.body, Body::Parts(..)));
        }
        answers += talk.answers.len();
    }
    let all = [200, 204, 206, 301, 304, 400, 404, 405, 412, 414, 416, 431, 501, 505];
    assert!(statuses.keys().eq(&all), "{statuses:?}");
    assert!(ends.len() == 3 && ends.values().all(|count| *count > 8), "{ends:?}");
    assert!(codings.len() == 4 && several_ranges > 20 && answers > 2000, "{codings:?} {several_ranges} {answers}");
}
