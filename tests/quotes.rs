//! What the tests of quotes share: statements and tables as text, a reader of JavaScript's strings, Python's decoders,
//! settings, and readers that insist on one tick.

use std::{
    fmt::Display,
    fs,
    io::Write,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use crate::{
    cases::get_with,
    harness::{Ended, Launch, Response, Server, Site, wait_until},
};

/// The statement for one symbol, where nothing needs an escape.
pub(crate) fn line(symbol: &str, payload: impl Display) -> String {
    format!("var hq_str_{symbol}=\"{payload}\";\n")
}

/// The statements for some symbols, where nothing needs an escape.
pub(crate) fn script(quotes: &[(&str, &str)]) -> String {
    quotes.iter().map(|(symbol, payload)| line(symbol, payload)).collect()
}

/// A table as text.
pub(crate) fn table<S: Display, P: Display>(quotes: impl IntoIterator<Item = (S, P)>) -> String {
    quotes.into_iter().map(|(symbol, payload)| format!("{symbol}={payload}\n")).collect()
}

/// The path that asks for some symbols.
pub(crate) fn list(symbols: &[impl AsRef<str>]) -> String {
    let symbols: Vec<&str> = symbols.iter().map(AsRef::as_ref).collect();
    format!("/list={}", symbols.join(","))
}

/// Identity of `/list=…`.
#[track_caller]
pub(crate) fn ask(server: &Server, symbols: &str) -> String {
    let answer = server.get(&format!("/list={symbols}"), &[]);
    assert_eq!(answer.status, 200, "{symbols}: {answer}");
    String::from_utf8(answer.body).expect("UTF-8")
}

/// Waits until `/list=…` is these statements.
#[track_caller]
pub(crate) fn wait_for_quotes(server: &Server, symbols: &str, expected: &[(&str, &str)]) {
    let expected = script(expected);
    wait_until(&format!("{symbols} to be {expected:?}"), || ask(server, symbols) == expected);
}

/// A server with these lines in its configuration file.
pub(crate) fn with_settings(site: &Site, settings: &str) -> Launch {
    let file = site.outside().join("quotes.toml");
    fs::write(&file, settings).unwrap();
    Server::builder(site).flag("--config", file.display())
}

/// Starts with settings that must be refused: one line with all of `words`, by `serve` with 2 and by `check` with 1.
#[track_caller]
pub(crate) fn assert_settings_refused(settings: &str, words: &[&str]) {
    let site = Site::new();
    let file = site.outside().join("refused.toml");
    fs::write(&file, settings).unwrap();
    let file = file.to_str().unwrap();
    assert_refused(&with_settings(&site, settings).end(), settings, 2, words);
    let checked = Server::builder(&site).bare().args(&["check", "--config", file]).end();
    assert_refused(&checked, settings, 1, words);
}

/// The end of a start that was refused in one line with all of `words`.
#[track_caller]
pub(crate) fn assert_refused(ended: &Ended, what: &str, code: i32, words: &[&str]) {
    assert_eq!(ended.code, Some(code), "{what}: {ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{what}: {ended:?}");
    assert!(ended.stderr.starts_with("cloudia: "), "{what}: {ended:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "{what}: it does not say {word:?}: {ended:?}");
    }
}

/// A sample of `/metrics`, named as it stands there.
#[track_caller]
pub(crate) fn metric(server: &Server, name: &str) -> u64 {
    let text = server.admin_get("/metrics", &["Host: localhost"]).text();
    let sample = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    sample.unwrap_or_else(|| panic!("there is no {name} in\n{text}")).parse().unwrap()
}

/// Names and strings of a script, as a JavaScript engine reads them.
///
/// # Panics
/// When it is anything but statements `var NAME="STRING";` of one line each, or holds raw what may not stand in a script.
#[track_caller]
pub(crate) fn statements(script: &str) -> Vec<(String, String)> {
    for raw in ["</", "<!", "\u{2028}", "\u{2029}"] {
        assert!(!script.contains(raw), "{raw:?} stands raw in {script:?}");
    }
    let raw = script.bytes().find(|byte| byte.is_ascii_control() && *byte != b'\n');
    assert_eq!(raw, None, "a raw control byte in {script:?}");
    assert!(script.is_empty() || script.ends_with('\n'), "the last line has no end: {script:?}");
    script.lines().map(|line| statement(line).unwrap_or_else(|| panic!("no statement: {line:?}"))).collect()
}

fn statement(line: &str) -> Option<(String, String)> {
    let (name, rest) = line.strip_prefix("var ")?.split_once('=')?;
    let is_identifier = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_$".contains(&byte))
        && !name.starts_with(|first: char| first.is_ascii_digit());
    let mut chars = rest.strip_prefix('"')?.chars();
    let mut units: Vec<u16> = Vec::new();
    loop {
        match chars.next()? {
            '"' => break,
            '\\' => units.push(escape(&mut chars)?),
            other => units.extend_from_slice(other.encode_utf16(&mut [0; 2])),
        }
    }
    (is_identifier && chars.as_str() == ";").then_some((name.to_owned(), String::from_utf16(&units).ok()?))
}

/// What follows a backslash (ECMA-262 §12.9.4), strict: `\0` is not followed by a digit, and no letter without a meaning.
fn escape(chars: &mut std::str::Chars) -> Option<u16> {
    let hex = |chars: &mut std::str::Chars, digits: usize| {
        let number = chars.as_str().get(..digits)?;
        chars.nth(digits - 1);
        number.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u16::from_str_radix(number, 16).ok())?
    };
    match chars.next()? {
        'b' => Some(8),
        't' => Some(9),
        'n' => Some(10),
        'v' => Some(11),
        'f' => Some(12),
        'r' => Some(13),
        '0' if !chars.as_str().starts_with(|next: char| next.is_ascii_digit()) => Some(0),
        'x' => hex(chars, 2),
        'u' => hex(chars, 4),
        mark if mark.is_ascii_punctuation() => Some(mark as u16),
        _ => None,
    }
}

/// What Python makes of some bodies, each `(how, body)`: `gzip` and `deflate`, which must end with their last byte, or a
/// codec's name, whose text comes back in UTF-8, with U+FFFD for what the codec cannot read.
///
/// # Panics
/// When Python refuses a compressed one.
#[track_caller]
pub(crate) fn python(bodies: &[(&str, &[u8])]) -> Vec<Vec<u8>> {
    const DECODE: &str = "
import gzip, struct, sys, zlib
data, at = sys.stdin.buffer.read(), 0
def take():
    global at
    size, = struct.unpack_from('<I', data, at)
    at += 4 + size
    return data[at - size:at]
while at < len(data):
    how, body = take().decode(), take()
    if how in ('gzip', 'deflate'):
        decoder = zlib.decompressobj(31 if how == 'gzip' else 15)
        plain = decoder.decompress(body) + decoder.flush()
        assert decoder.eof and not decoder.unused_data, how
        assert plain == (gzip if how == 'gzip' else zlib).decompress(body), how
    else:
        plain = body.decode(how, 'replace').encode()
    sys.stdout.buffer.write(struct.pack('<I', len(plain)) + plain)
";
    let framed = |bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes(), bytes].concat();
    let input: Vec<u8> =
        bodies.iter().flat_map(|(how, body)| [framed(how.as_bytes()), framed(body)].concat()).collect();
    let output = run_python(DECODE, &input);
    let mut rest = output.as_slice();
    let mut plain = Vec::new();
    while let Some((size, after)) = rest.split_first_chunk() {
        let (body, after) = after.split_at(u32::from_le_bytes(*size) as usize);
        plain.push(body.to_vec());
        rest = after;
    }
    assert_eq!(plain.len(), bodies.len());
    plain
}

/// Runs a Python script that reads all its input before it writes.
#[track_caller]
pub(crate) fn run_python(script: &str, input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("python3");
    command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("tools/test installs python3");
    child.stdin.take().unwrap().write_all(input).ok();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A quote as exchanges send it, of about 250 bytes: 32 fields that move with `seed`.
pub(crate) fn full_quote(seed: u64) -> String {
    let mut rng = crate::harness::Rng::with_seed(seed);
    let base = 2.0 + rng.below(9000) as f64 / 100.0;
    let mut price = |spread: usize| format!("{:.3}", base + rng.below(spread) as f64 / 100.0);
    let mut fields = vec![format!("股票{seed}")];
    fields.extend((0..7).map(|_| price(50)));
    let mut rng = crate::harness::Rng::with_seed(seed ^ 7);
    fields.extend([(rng.below(90_000_000) + 1_000_000).to_string(), format!("{}.000", rng.below(900_000_000))]);
    for level in 0..10 {
        let amount = (rng.below(4000) + 1) * 100;
        fields.extend([amount.to_string(), format!("{:.3}", base + f64::from(level) / 100.0)]);
    }
    fields.extend(["2026-11-20".to_owned(), "15:00:05".to_owned(), "00".to_owned()]);
    fields.join(",")
}

/// A quote of about 70 bytes.
pub(crate) fn short_quote(seed: u64) -> String {
    let mut rng = crate::harness::Rng::with_seed(seed);
    let price = 1 + rng.below(9000);
    format!(
        "股票{seed},{}.{:02},-0.{:02},-{}.54,{},{}",
        price,
        rng.below(100),
        rng.below(100),
        rng.below(9),
        rng.next() % 900_000,
        rng.next() % 9_000_000
    )
}

/// Symbols `sh600000`, `sh600001`, … as many as asked.
pub(crate) fn symbols(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("sh{}", 600_000 + n)).collect()
}

/// The payload of `symbol` in tick `tick`, long enough to be torn and never of one length.
pub(crate) fn ticked(tick: u64, symbol: &str) -> String {
    format!("tick{tick},{symbol},{}", "9.29,-0.05,".repeat(3 + (tick % 5) as usize))
}

/// The one tick that an answer for `symbols` is of.
///
/// # Panics
/// When it is of several, or not of just these symbols.
#[track_caller]
pub(crate) fn tick_of(answer: &Response, symbols: &[String]) -> u64 {
    assert_eq!(answer.status, 200, "{answer}");
    let text = String::from_utf8(answer.decoded()).expect("UTF-8");
    let read = match answer.get("content-type") {
        Some("application/json") => members(&text, symbols),
        _ => statements(&text),
    };
    assert_eq!(read.len(), symbols.len(), "{answer}");
    let number = |payload: &str| payload.strip_prefix("tick")?.split(',').next()?.parse().ok();
    let tick: u64 = number(&read[0].1).unwrap_or_else(|| panic!("no tick in {:?}", read[0]));
    for ((name, payload), symbol) in read.iter().zip(symbols) {
        assert_eq!(name, &format!("hq_str_{symbol}"));
        assert_eq!(payload, &ticked(tick, symbol), "an answer of tick {tick} has another's {symbol}");
    }
    tick
}

/// Members of a JSON object, named as in a script.
fn members(text: &str, symbols: &[String]) -> Vec<(String, String)> {
    let object: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let member = |symbol: &String| Some((format!("hq_str_{symbol}"), object[symbol].as_str()?.to_owned()));
    symbols.iter().filter_map(member).collect()
}

/// Asks for `symbols` on several connections, in every coding and form, alone and pipelined, while `publish` publishes ticks 1 to
/// `last`: each answer must be of one tick, and no tick is asked for and comes after a later one.
pub(crate) fn never_mixed(server: &Server, symbols: &[String], last: u64, mut publish: impl FnMut(u64)) {
    let stop = AtomicBool::new(false);
    let seen = AtomicU64::new(0);
    let path = list(symbols);
    thread::scope(|scope| {
        for reader in 0..6 {
            let (stop, seen, path) = (&stop, &seen, &path);
            scope.spawn(move || {
                let coding = ["gzip", "deflate", "identity"][reader % 3];
                let pipelined = 1 + reader / 3 * 4;
                let format = if reader == 4 { "&format=json" } else { "" };
                let request = get_with(format!("{path}{format}"), &[&format!("Accept-Encoding: {coding}")]);
                let mut conn = server.connect();
                let mut latest = 0;
                while !stop.load(Ordering::Relaxed) {
                    // What another connection has seen is over for this one, too.
                    latest = latest.max(seen.load(Ordering::SeqCst));
                    conn.send(request.repeat(pipelined));
                    for _ in 0..pipelined {
                        let tick = tick_of(&conn.recv(), symbols);
                        assert!(tick >= latest, "{coding}: tick {tick} after {latest}");
                        latest = tick;
                    }
                    seen.fetch_max(latest, Ordering::SeqCst);
                }
            });
        }
        let finished = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (1..=last).for_each(&mut publish);
            wait_until("the last tick", || tick_of(&server.get(&path, &[]), symbols) == last);
            wait_until("the readers to see it", || seen.load(Ordering::SeqCst) == last);
        }));
        stop.store(true, Ordering::Relaxed);
        finished.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn strings_are_read_as_an_engine_reads_them() {
    let read = |string: &str| {
        let line = format!("var x=\"{string}\";");
        statement(&line).map(|(_, payload)| payload)
    };
    assert_eq!(read("a\\\"\\\\\\n\\x41\\u7ef5\\ud83d\\ude00\\/").as_deref(), Some("a\"\\\nA绵😀/"));
    assert_eq!(read("\\0a").as_deref(), Some("\0a"));
    for bad in ["\"", "\\", "\\u12", "\\ud83d", "\\01", "\\q", "\\x4", "a\";b=\""] {
        assert_eq!(read(bad), None, "{bad}");
    }
    assert_eq!(statement("var 0x=\"\";"), None);
}
