//! Symbols, payloads, tables and targets: as feeds send them, and as nobody should.

use crate::harness::Rng;

/// Bytes of a line that may be in a table.
const LONGEST_LINE: usize = 64 * 1024;

pub(super) fn pick<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.below(choices.len())]
}

pub(super) fn one_in(rng: &mut Rng, many: usize) -> bool {
    rng.below(many) == 0
}

/// One of `count`; neighbours have beginnings in common.
pub(super) fn symbol(rng: &mut Rng, count: usize) -> String {
    let number = rng.below(count);
    match number % 16 {
        0 => format!("${number}"),
        1 => format!("s{number}_{}", "x".repeat(32 - format!("s{number}_").len())),
        // Only JSON can ask for this one.
        2 => format!("x-{number}.hk"),
        3..7 => format!("s_sz{:06}", number * 7),
        7 | 8 => format!("SH{:06}", 600_000 + number * 3),
        _ => format!("sh{:06}", 600_000 + number * 3),
    }
}

const NAMES: &[&str] =
    &["绵世股份", "平安银行", "ST\u{3000}东海", "浦发银行", "*ST国商", "中国石油", "Ａ股指数", "凯迪电力"];

/// What feeds send: a name, prices with volumes, a date and a time that all have.
fn full(rng: &mut Rng) -> String {
    let mut payload = pick(rng, NAMES).to_owned();
    let price = 100 + rng.below(9000);
    for _ in 0..[5, 29][rng.below(2)] {
        let now = price + rng.below(20);
        payload += &format!(",{}.{:02}", now / 100, now % 100);
        if one_in(rng, 3) {
            payload += &format!(",{}", rng.next() % 1_000_000);
        }
    }
    payload + &format!(",2026-11-20,15:{:02}:00,00", rng.below(3))
}

pub(super) fn payload(rng: &mut Rng) -> String {
    match rng.below(20) {
        0 => String::new(),
        1 => pick(rng, &["\"", "\\", "\\\"", "</script>", "<!--", "<", "<b", "a<", "\u{2028}", "\r", "\0"]).to_owned(),
        2 => (0..rng.below(80)).map(|_| character(rng)).collect(),
        3 => pick(rng, NAMES).repeat(rng.below(200)),
        4 => {
            let run = [700, 40_000, LONGEST_LINE - 40][rng.below(60).saturating_sub(57)];
            let word = pick(rng, &["0", "ab", "0123456789,", "\u{1}", "\u{ff}\u{fe}"]);
            word.repeat((run - rng.below(300)) / word.len())
        }
        // Equal ends, longer and shorter than what is cut off.
        5 | 6 => {
            let tail = "same,end,of,all,that,are,of,this,kind,2026-11-20,15:00:00";
            let start = tail.len() - [0, 1, 7, 31, 32, 33, tail.len()][rng.below(7)];
            format!("{}{}", ["", "1", "9.29,"][rng.below(3)], &tail[start..])
        }
        7 => format!("{}\"{}\\", full(rng), character(rng)),
        _ => full(rng),
    }
}

/// Any character but LF, seldom one that charsets quarrel over.
fn character(rng: &mut Rng) -> char {
    match rng.below(12) {
        0 => pick(rng, &['"', '\\', '<', '/', '!', '=', ',', '#', '\r', '\t', '\0', '\u{7f}', '\u{85}', '\u{9f}']),
        1 => pick(rng, &['\u{2028}', '\u{2029}', '\u{2027}', '\u{feff}', '\u{fffd}', 'é', 'ß', '\u{a0}', '\u{c0}']),
        2 => pick(rng, &['😀', '𝄞', '\u{10ffff}', '€', '\u{e5e5}', '\u{1e3f}', '\u{9fb4}', '\u{fe10}', '\u{3400}']),
        3 | 4 => char::from_u32(0x4e00 + rng.below(0x51a5) as u32).unwrap(),
        5 => char::from_u32(rng.next() as u32 & 0x1f_ffff).filter(|c| *c != '\n').unwrap_or('?'),
        _ => char::from(b' ' + rng.below(95) as u8),
    }
}

/// The text of a table that has these quotes, and other lines.
pub(super) fn table(rng: &mut Rng, quotes: &[(String, String)]) -> Vec<u8> {
    let mut text = Vec::new();
    if one_in(rng, 6) {
        text.extend_from_slice("\u{feff}".as_bytes());
    }
    let windows = one_in(rng, 4);
    for (symbol, payload) in quotes {
        while one_in(rng, 12) {
            text.extend_from_slice(&other_line(rng, symbol));
            text.push(b'\n');
        }
        text.extend_from_slice(format!("{symbol}={payload}").as_bytes());
        // A CR at the end of a payload would be taken for the line's.
        text.extend_from_slice(if windows || payload.ends_with('\r') { b"\r\n" } else { b"\n" });
    }
    if one_in(rng, 2) && text.ends_with(b"\n") {
        text.pop();
    }
    text
}

/// A line that is no quote, a quote that comes again, or one that takes a symbol away.
fn other_line(rng: &mut Rng, symbol: &str) -> Vec<u8> {
    let longest = LONGEST_LINE - symbol.len() - 1;
    match rng.below(40) {
        0..8 => format!("{symbol}={}", payload(rng)).into_bytes(),
        8..12 => [symbol.as_bytes(), b"=\xff"].concat(),
        12 => format!("{symbol}={}", "x".repeat(longest)).into_bytes(),
        13 => format!("{symbol}={}\r", "x".repeat(longest + rng.below(2))).into_bytes(),
        14 => format!("{symbol}={}", "x".repeat(longest + 1)).into_bytes(),
        15 => format!("#{symbol}={}", "x".repeat(rng.below(2) * LONGEST_LINE)).into_bytes(),
        16..20 => b" \t ".repeat(rng.below(3)),
        20 => [&b" ".repeat(LONGEST_LINE + rng.below(5)), &b"\tx=1"[..]].concat(),
        _ => pick(rng, &["", "\r", "x", "=", "=1", " a=1", "a b=1", "ä=1", "a,b=1", "\u{feff}a=1"]).as_bytes().to_vec(),
    }
}

/// A target that asks for `list`, in one of its forms.
pub(super) fn target(rng: &mut Rng, list: &str, json: bool) -> String {
    let mut list = list.to_owned();
    if one_in(rng, 8) {
        list = list.replace(',', "%2C").replace('s', "%73");
    }
    let format = if json { "format=json" } else { "rn=1" };
    match rng.below(8) {
        0 => format!("/?{format}&list={list}&maxage=5"),
        1 => format!("/{format}&list={list}?x&maxage=5?"),
        2 => format!("/maxage=3&list={list}&{format}?list=x"),
        3 => format!("/?list={list}&{format}"),
        4 => format!("/list={list}?{format}"),
        _ => format!("/list={list}&{format}"),
    }
}
