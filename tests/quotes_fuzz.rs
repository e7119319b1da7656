//! Random quotes targets for the server and for a model of wire section 9 that is slow and obvious: status, age, and the
//! concatenation of what was asked for, whatever the coding. A failure prints its seed and the target.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{
    cases::get_with,
    harness::{Response, Rng, Server, Site, seed},
    quotes::{full_quote, list, python, short_quote, statements, table, wait_for_quotes},
};

/// What the contract wants of a target.
#[derive(Debug, PartialEq)]
enum Wanted {
    Bad,
    Script(Vec<String>),
    Json(Vec<String>),
}

/// The model: the list as it stands, and the parameters, then both judged.
fn wanted(target: &str) -> (Wanted, u64) {
    let (list, parameters) = split(target);
    let age = parameters.iter().find_map(|parameter| parameter.strip_prefix("maxage="));
    let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    let age = age.filter(is_number).map_or(1, |digits| digits.parse().unwrap_or(60).min(60));
    let is_json = parameters.contains(&"format=json");
    let Some(decoded) = decode(list) else { return (Wanted::Bad, age) };
    let symbols: Vec<String> =
        decoded.split(|byte| *byte == b',').map(|item| item.escape_ascii().to_string()).collect();
    let in_alphabet =
        |byte: u8| byte.is_ascii_alphanumeric() || b"_$".contains(&byte) || (is_json && b".-".contains(&byte));
    let is_symbol = |symbol: &String| (1..=32).contains(&symbol.len()) && symbol.bytes().all(in_alphabet);
    if symbols.len() > 1000 || !symbols.iter().all(is_symbol) {
        return (Wanted::Bad, age);
    }
    (if is_json { Wanted::Json(symbols) } else { Wanted::Script(symbols) }, age)
}

/// The first list, and all that stands before and behind it.
fn split(target: &str) -> (&str, Vec<&str>) {
    let (pieces, first): (Vec<&str>, usize) = if let Some(query) = target.strip_prefix("/?") {
        let pieces: Vec<&str> = query.split('&').collect();
        let first = pieces.iter().position(|piece| piece.starts_with("list="));
        (pieces, first.expect("a list"))
    } else {
        let behind = target.strip_prefix('/').expect("a path");
        let pieces: Vec<&str> = behind.split(['&', '?']).collect();
        let first = pieces.iter().position(|piece| piece.starts_with("list="));
        (pieces, first.expect("a list"))
    };
    let list = &pieces[first]["list=".len()..];
    let others = pieces.iter().enumerate().filter(|(at, _)| *at != first).map(|(_, piece)| *piece);
    (list, others.collect())
}

/// Percent-escapes, once; None: a broken one.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        decoded.push(if byte == b'%' { (digit()? * 16 + digit()?) as u8 } else { byte });
    }
    Some(decoded)
}

fn payloads() -> BTreeMap<String, String> {
    let mut payloads = BTreeMap::new();
    for n in 0..60 {
        payloads.insert(format!("sh{}", 600_000 + n), full_quote(n));
        payloads.insert(format!("s_sh{n}"), short_quote(n));
    }
    for (symbol, payload) in [
        ("a", "1"),
        ("b", ""),
        ("q", "\"\\</script>\u{2028}"),
        ("z", "\0\u{1}\u{7f}<!"),
        ("$", "dollar"),
        ("a.b", "dot"),
        ("x-y", "dash"),
        ("list", "list"),
        ("abcdefghijklmnopqrstuvwxyz012345", "longest"),
    ] {
        payloads.insert(symbol.to_owned(), payload.to_owned());
    }
    payloads
}

/// One of `choices`.
fn pick<'a>(rng: &mut Rng, choices: &[&'a str]) -> &'a str {
    choices[rng.below(choices.len())]
}

fn random_symbol(rng: &mut Rng) -> String {
    let symbol = match rng.below(8) {
        0 => pick(rng, &["a", "b", "q", "z", "$", "list", "abcdefghijklmnopqrstuvwxyz012345"]).to_owned(),
        1 => pick(rng, &["none", "_", "0", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"]).to_owned(),
        2..5 => format!("s_sh{}", rng.below(70)),
        _ => format!("sh{}", 600_000 + rng.below(70)),
    };
    if rng.below(6) > 0 {
        return symbol;
    }
    let at = rng.below(symbol.len());
    let byte = symbol.as_bytes()[at];
    format!("{}%{byte:02X}{}", &symbol[..at], &symbol[at + 1..])
}

/// Mostly good lists, and now and then something that spoils one.
fn random_list(rng: &mut Rng) -> String {
    let most = [2, 6, 60][rng.below(3)];
    let count = if rng.below(60) == 0 { 998 + rng.below(5) } else { 1 + rng.below(most) };
    let mut list = String::new();
    for at in 0..count {
        if at > 0 {
            list.push_str(if rng.below(12) == 0 { "%2C" } else { "," });
        }
        let symbol = if count > 900 { "a".to_owned() } else { random_symbol(rng) };
        list.push_str(&symbol);
    }
    let spoilers = [
        ",",
        ",,",
        "%2c",
        ".",
        "-",
        "a.b",
        "x-y",
        "%",
        "%2",
        "%zz",
        "%00",
        "%26",
        "%3F",
        "%25",
        "%C3%BC",
        "=",
        ";",
        "+",
        "/",
        "..",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "!",
        "~",
        "\\",
        "\"",
        "<",
        "|",
        "{",
        "^",
        "`",
        "'",
        "(",
        "*",
        ":",
        "@",
        "[",
    ];
    if rng.below(5) == 0 {
        let at = rng.below(list.len() + 1);
        list.insert_str(at, pick(rng, &spoilers));
    }
    list
}

fn random_parameter(rng: &mut Rng) -> String {
    let fixed = [
        "format=json",
        "format=json",
        "maxage=",
        "maxage=x",
        "maxage=99",
        "rn=1",
        "x",
        "",
        "format=xml",
        "a=b=c",
        "xlist=b",
    ];
    match rng.below(4) {
        0 => format!("maxage={}", rng.below(80)),
        1 => format!("{}", rng.next()),
        _ => pick(rng, &fixed).to_owned(),
    }
}

fn random_target(rng: &mut Rng) -> String {
    let list = format!("list={}", random_list(rng));
    let form = rng.below(3);
    let mut target = ["/", "/?", "/"][form].to_owned();
    let before = [0, rng.below(3), 1 + rng.below(2)][form];
    for _ in 0..before {
        target.push_str(&random_parameter(rng));
        target.push('&');
    }
    target.push_str(&list);
    for _ in 0..rng.below(4) {
        target.push(if form == 1 || rng.below(2) == 0 { '&' } else { '?' });
        let again = rng.below(8) == 0;
        target.push_str(&if again { "list=b".to_owned() } else { random_parameter(rng) });
    }
    target
}

/// What is wrong with an answer.
fn fault(answer: &Response, wanted: &Wanted, age: u64, payloads: &BTreeMap<String, String>) -> Option<String> {
    let payload = |symbol: &String| payloads.get(symbol).cloned();
    let status = if *wanted == Wanted::Bad { 400 } else { 200 };
    if answer.status != status {
        return Some(format!("{} instead of {status}", answer.status));
    }
    let Ok(body) = String::from_utf8(answer.decoded()) else { return Some("it is not UTF-8".to_owned()) };
    match wanted {
        Wanted::Bad => return None,
        Wanted::Script(symbols) => {
            let read = statements(&body);
            let expected =
                symbols.iter().map(|symbol| (format!("hq_str_{symbol}"), payload(symbol).unwrap_or_default()));
            if !read.iter().cloned().eq(expected) {
                return Some(format!("{read:?}"));
            }
        }
        Wanted::Json(symbols) => {
            let Ok(read) = serde_json::from_str::<Value>(&body) else { return Some(body) };
            let expected: Map<String, Value> = symbols
                .iter()
                .map(|symbol| (symbol.clone(), payload(symbol).map_or(Value::Null, Value::from)))
                .collect();
            if read != Value::Object(expected) {
                return Some(body);
            }
        }
    }
    let said = answer.get("cache-control");
    (said != Some(&format!("max-age={age}"))).then(|| format!("{said:?} instead of {age}"))
}

#[test]
fn random_targets_are_answered_as_the_model_answers() {
    let payloads = payloads();
    let site = Site::new();
    site.file("q.quotes", table(&payloads));
    let server = Server::start(&site);
    let first = seed();
    let rounds = std::env::var("CLOUDIA_TEST_ROUNDS").map_or(2000, |rounds| rounds.parse().unwrap());
    let mut conn = server.connect();
    let mut compressed: BTreeMap<&str, Vec<[Vec<u8>; 2]>> = BTreeMap::new();
    for round in 0..rounds {
        let seed = first.wrapping_add(round);
        let mut rng = Rng::with_seed(seed);
        let target = random_target(&mut rng);
        let coding = ["identity", "gzip", "deflate"][rng.below(3)];
        conn.send(get_with(&target, &[&format!("Accept-Encoding: {coding}")]));
        let answer = conn.recv();
        let (wanted, age) = wanted(&target);
        let fault = fault(&answer, &wanted, age, &payloads);
        assert_eq!(fault, None, "CLOUDIA_TEST_SEED={seed} {target} in {coding}: {answer}");
        if answer.status == 400 {
            conn = server.connect();
        }
        if answer.get("content-encoding").is_some() {
            let plain = answer.decoded();
            compressed.entry(coding).or_default().push([answer.body, plain]);
        }
    }
    for (coding, answers) in compressed {
        let bodies: Vec<(&str, &[u8])> = answers.iter().map(|[body, _]| (coding, body.as_slice())).collect();
        assert!(python(&bodies).iter().eq(answers.iter().map(|[_, plain]| plain)), "{coding}");
    }
}

/// A payload that is hard to join with others: repetitive, alike at its end, empty, long, of any characters.
fn random_payload(rng: &mut Rng) -> String {
    let tails = [
        "",
        ",2026-11-20,15:00:05,00",
        "\"",
        "\\",
        "</script>",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "绵世",
    ];
    let length = [0, 1, 5, 40, 250, 250, 250, 3000, 20_000][rng.below(9)];
    let kind = rng.below(6);
    let mut payload = String::new();
    while payload.len() < length {
        match kind {
            0 => payload.push(char::from(b'0' + rng.below(10) as u8)),
            1 => payload.push_str("9.290,9.291,"),
            2 => payload
                .push(char::from_u32(rng.below(0x11_0000) as u32).filter(|c| *c != '\n' && *c != '\r').unwrap_or('x')),
            3 => payload.push(char::from(b' ' + rng.below(95) as u8)),
            4 => payload.push(['a', '"', '<', '/', '\u{1}'][rng.below(5)]),
            _ => payload.push_str(&format!("{}.{:03},{},", rng.below(100), rng.below(1000), rng.below(90_000) * 100)),
        }
    }
    payload + pick(rng, &tails)
}

/// Whatever is published, and however it changes: what is compressed decodes to the identity answer, and that is what was
/// published, symbol for symbol.
#[test]
fn random_markets_are_answered_as_they_were_published() {
    let site = Site::new();
    let first = seed();
    let rounds = std::env::var("CLOUDIA_TEST_ROUNDS").map_or(25, |rounds| rounds.parse().unwrap());
    let mut payloads = BTreeMap::new();
    site.file("q.quotes", "");
    let server = Server::start(&site);
    let mut conn = server.connect();
    for round in 0..rounds {
        let seed = first.wrapping_add(round);
        let mut rng = Rng::with_seed(seed);
        for _ in 0..1 + rng.below(40) {
            let symbol = format!("{}{}", pick(&mut rng, &["sh60", "s_sh60", "x", "$"]), rng.below(60));
            match rng.below(4) {
                0 => drop(payloads.remove(&symbol)),
                _ => drop(payloads.insert(symbol, random_payload(&mut rng))),
            }
        }
        payloads.insert("round".to_owned(), round.to_string());
        site.replace("q.quotes", table(&payloads), std::time::SystemTime::now());
        wait_for_quotes(&server, "round", &[("round", &round.to_string())]);
        let mut compressed = Vec::new();
        for _ in 0..30 {
            let most = [2, 5, 60][rng.below(3)];
            let known: Vec<&String> = payloads.keys().collect();
            let symbols: Vec<String> = (0..1 + rng.below(most))
                .map(|_| if rng.below(9) == 0 { "none".to_owned() } else { known[rng.below(known.len())].clone() })
                .collect();
            let is_json = rng.below(3) == 0;
            let target = list(&symbols) + if is_json { "&format=json" } else { "" };
            let wanted = if is_json { Wanted::Json(symbols) } else { Wanted::Script(symbols) };
            for coding in ["gzip", "deflate", "identity", "gzip"] {
                conn.send(get_with(&target, &[&format!("Accept-Encoding: {coding}")]));
                let answer = conn.recv();
                let fault = fault(&answer, &wanted, 1, &payloads);
                assert_eq!(fault, None, "CLOUDIA_TEST_SEED={seed} {target} in {coding}: {answer}");
                if answer.get("content-encoding").is_some() {
                    let plain = answer.decoded();
                    compressed.push((coding, answer.body, plain));
                }
            }
        }
        let bodies: Vec<(&str, &[u8])> =
            compressed.iter().map(|(coding, body, _)| (*coding, body.as_slice())).collect();
        assert!(python(&bodies).iter().eq(compressed.iter().map(|(.., plain)| plain)), "CLOUDIA_TEST_SEED={seed}");
    }
}

#[test]
fn the_model_reads_what_the_contract_shows() {
    let script = |symbols: &[&str]| Wanted::Script(symbols.iter().map(|symbol| (*symbol).to_owned()).collect());
    for (target, expected) in [
        ("/list=a,b", (script(&["a", "b"]), 1)),
        ("/list=a%2Cb&maxage=5?x", (script(&["a", "b"]), 5)),
        ("/?maxage=x&list=a&maxage=6", (script(&["a"]), 1)),
        ("/rn=1&list=a?maxage=600", (script(&["a"]), 60)),
        ("/?list=a?b", (Wanted::Bad, 1)),
        ("/list=a%26b", (Wanted::Bad, 1)),
        ("/list=", (Wanted::Bad, 1)),
        ("/format=json&list=a.b", (Wanted::Json(vec!["a.b".to_owned()]), 1)),
    ] {
        assert_eq!(wanted(target), expected, "{target}");
    }
}
