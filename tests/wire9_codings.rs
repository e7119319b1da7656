//! Wire section 9, compressed: every answer decodes, by foreign decoders, to exactly the identity answer, whether it is the
//! list's first, a popular one's, or the first after a tick.

use std::{
    collections::{BTreeMap, HashSet},
    sync::OnceLock,
};

use crate::{
    cases::{case, check, get_with, status, with_host},
    harness::{Response, Rng, Server, Site, wait_until},
    quotes::{ask, full_quote, list, metric, python, run_python, short_quote, symbols, table},
};

const CODINGS: [&str; 2] = ["gzip", "deflate"];

/// 500 quotes of either length in tick `tick`, `sh…` full and `s_sh…` short.
fn market(tick: u64) -> String {
    let full = symbols(500).into_iter().enumerate().map(|(n, symbol)| (symbol, full_quote(n as u64 + tick * 1000)));
    let short = symbols(500).into_iter().enumerate();
    let short = short.map(|(n, symbol)| (format!("s_{symbol}"), short_quote(n as u64 + tick * 1000)));
    table(full.chain(short))
}

fn server() -> &'static (Site, Server) {
    static SHARED: OnceLock<(Site, Server)> = OnceLock::new();
    SHARED.get_or_init(|| {
        let site = Site::new();
        site.file("market.quotes", market(0));
        let server = Server::start(&site);
        (site, server)
    })
}

/// The lists that are measured: 1, 5, 50 and 500 symbols, full and short.
fn lists() -> Vec<Vec<String>> {
    let short = |count: usize| symbols(count).into_iter().map(|symbol| format!("s_{symbol}")).collect();
    [1, 5, 50, 500].into_iter().flat_map(|count| [symbols(count), short(count)]).collect()
}

fn coded(server: &Server, path: &str, coding: &str) -> Response {
    let answer = server.get(path, &[&format!("Accept-Encoding: {coding}")]);
    assert_eq!(answer.status, 200, "{path} in {coding}: {answer}");
    let said = answer.get("content-encoding");
    assert!(said.is_none() || said == Some(coding), "{path} in {coding}: {answer}");
    answer
}

/// Holds answers of one moment against identity, by Python, and as contract section 4 wants them.
fn assert_same(what: &str, identity: &Response, answers: &[Response]) {
    let compressed: Vec<(&str, &[u8])> =
        answers.iter().filter_map(|answer| Some((answer.get("content-encoding")?, &*answer.body))).collect();
    for plain in python(&compressed) {
        assert!(plain == identity.body, "{what}: {} bytes instead of {}", plain.len(), identity.body.len());
    }
    let has_codings = !compressed.is_empty();
    let strong = identity.get("etag").expect("an ETag");
    assert!(strong.starts_with('"'), "{what}: {identity}");
    for answer in answers.iter().chain([identity]) {
        assert_eq!(answer.decoded(), identity.body, "{what}");
        assert!(!has_codings || answer.get("vary") == Some("Accept-Encoding"), "{what}: {answer}");
        let is_coded = answer.get("content-encoding").is_some();
        assert!(!is_coded || answer.body.len() < identity.body.len(), "{what}: longer than identity: {answer}");
        let tag = if is_coded { format!("W/{strong}") } else { strong.to_owned() };
        assert_eq!(answer.get("etag"), Some(tag.as_str()), "{what}: {answer}");
        // The second of a stamp may end between two answers.
        let dates = [answer, identity].map(|answer| answer.get("last-modified"));
        assert!(dates[0] == dates[1] || dates.contains(&None), "{what}: {dates:?} {answer}");
        assert_eq!(answer.get("accept-ranges"), (!is_coded).then_some("bytes"), "{what}: {answer}");
    }
}

#[test]
fn the_first_answer_and_the_next_ones() {
    let (_, server) = server();
    for symbols in lists() {
        let path = list(&symbols);
        for target in [path.clone(), format!("{path}&format=json")] {
            // First compressed, then as it is: nothing has been asked for before.
            let mut answers: Vec<Response> = CODINGS.map(|coding| coded(server, &target, coding)).into();
            let identity = server.get(&target, &[]);
            for _ in 0..5 {
                answers.extend(CODINGS.map(|coding| coded(server, &target, coding)));
            }
            assert_same(&format!("{} symbols", symbols.len()), &identity, &answers);
        }
    }
}

#[test]
fn popular_lists_and_the_tick_after() {
    let site = Site::new();
    site.file("market.quotes", market(0));
    let server = Server::start(&site);
    for tick in 1..=2 {
        for symbols in lists().into_iter().filter(|symbols| symbols.len() < 500) {
            let path = list(&symbols);
            let identity = server.get(&path, &[]);
            let mut answers = Vec::new();
            let mut conns = [server.connect(), server.connect()];
            for round in 0..100 {
                let coding = CODINGS[round % 2];
                let conn = &mut conns[round / 2 % 2];
                conn.send(get_with(&path, &[&format!("Accept-Encoding: {coding}")]));
                answers.push(conn.recv());
            }
            // Python sees each distinct body once.
            let mut seen = HashSet::new();
            answers.retain(|answer| seen.insert(answer.body.clone()));
            assert_same(&format!("{} symbols, tick {tick}", symbols.len()), &identity, &answers);
        }
        let before = ask(&server, "sh600000,s_sh600000");
        site.replace("market.quotes", market(tick), std::time::SystemTime::now());
        wait_until("the tick", || ask(&server, "sh600000,s_sh600000") != before);
        for symbols in lists() {
            // The very first answers after the tick.
            let path = list(&symbols);
            let answers = CODINGS.map(|coding| coded(&server, &path, coding));
            assert_same(&format!("{} symbols after tick {tick}", symbols.len()), &server.get(&path, &[]), &answers);
        }
    }
}

/// Lists without end, in any order and length, with repeats and unknown symbols: none is the same twice.
#[test]
fn lists_that_are_never_repeated() {
    let (_, server) = server();
    let mut rng = Rng::seeded();
    let mut conn = server.connect();
    let mut answers: BTreeMap<&str, Vec<[Vec<u8>; 2]>> = BTreeMap::new();
    for _ in 0..400 {
        let most = [3, 12, 80][rng.below(3)];
        let count = 1 + rng.below(most);
        let name = |rng: &mut Rng| match rng.below(12) {
            0 => format!("unknown{}", rng.below(1000)),
            1..6 => format!("s_sh{}", 600_000 + rng.below(500)),
            _ => format!("sh{}", 600_000 + rng.below(500)),
        };
        let symbols: Vec<String> = (0..count).map(|_| name(&mut rng)).collect();
        let format = ["", "&format=json"][rng.below(2)];
        let target = list(&symbols) + format;
        let coding = CODINGS[rng.below(2)];
        conn.send(get_with(&target, &[&format!("Accept-Encoding: {coding}")]));
        let answer = conn.recv();
        conn.send(get_with(&target, &[]));
        let identity = conn.recv();
        assert_eq!(answer.decoded(), identity.body, "{target}");
        if answer.get("content-encoding").is_some() {
            answers.entry(coding).or_default().push([answer.body, identity.body]);
        }
    }
    for (coding, answers) in answers {
        let bodies: Vec<(&str, &[u8])> = answers.iter().map(|[body, _]| (coding, body.as_slice())).collect();
        assert!(python(&bodies).iter().eq(answers.iter().map(|[_, identity]| identity)), "{coding}");
    }
}

/// What issue and documents promise of sizes: the first answer of five full quotes has at most three quarters of its
/// identity bytes, a popular list of fifty at most 1.05 times those of zlib's level 6.
#[test]
fn sizes() {
    let (_, server) = server();
    for start in [17, 200, 333] {
        let five: Vec<String> = (0..5).map(|n| format!("sh{}", 600_000 + start + n * 31)).collect();
        let answer = coded(server, &list(&five), "deflate");
        let identity = server.get(&list(&five), &[]).body.len();
        assert!(answer.body.len() * 4 <= identity * 3, "{} of {identity} bytes", answer.body.len());
    }
    let fifty = list(&symbols(100).split_off(50));
    let identity = server.get(&fifty, &[]).body;
    let level_6 =
        run_python("import sys, zlib; sys.stdout.buffer.write(zlib.compress(sys.stdin.buffer.read(), 6))", &identity);
    let mut conn = server.connect();
    wait_until("the best ratio", || {
        conn.send(get_with(&fifty, &["Accept-Encoding: deflate"]));
        conn.recv().body.len() * 100 <= level_6.len() * 105
    });
}

/// Where compression does not pay it is identity.
#[test]
fn noise_is_not_compressed() {
    let mut rng = Rng::with_seed(5);
    let mut noise =
        |length: usize| -> String { (0..length).map(|_| (b'#' + (rng.next() % 57) as u8) as char).collect() };
    let site = Site::new();
    site.file("q.quotes", format!("one={}\nlong={}\ntiny=1\n", noise(10), noise(3000)));
    let server = Server::start(&site);
    for symbols in ["one", "long", "tiny", "none", "one,tiny"] {
        let path = format!("/list={symbols}");
        let identity = server.get(&path, &[]);
        for _ in 0..3 {
            let answers = CODINGS.map(|coding| coded(&server, &path, coding));
            assert_same(symbols, &identity, &answers);
        }
    }
}

#[test]
fn coding_is_chosen_by_quality() {
    let (_, server) = server();
    let path = list(&symbols(50));
    let rows = [
        ("", None),
        ("br", None),
        ("zstd, br", None),
        ("identity", None),
        ("gzip", Some("gzip")),
        ("x-gzip", Some("x-gzip")),
        ("GZip", Some("gzip")),
        ("deflate", Some("deflate")),
        ("gzip, deflate", Some("deflate")),
        ("gzip, deflate, br, zstd", Some("deflate")),
        ("br, zstd, gzip", Some("gzip")),
        ("gzip;q=1.0, deflate;q=0.9", Some("gzip")),
        ("gzip;q=0.001, deflate;q=0.002", Some("deflate")),
        ("gzip;q=0", None),
        ("gzip;q=0, deflate", Some("deflate")),
        ("*", Some("deflate")),
        ("deflate;q=0, *", Some("gzip")),
        ("*;q=0, gzip", Some("gzip")),
        ("identity, gzip", Some("gzip")),
        ("identity;q=1, gzip;q=0.5", None),
        ("*;q=0.5, identity", None),
        ("identity;q=0, gzip", Some("gzip")),
        ("identity;q=0", None),
        ("*;q=0", None),
        ("identity;q=0, br", None),
    ];
    let cases = rows.iter().flat_map(|(accept, coding)| {
        let expect = status(200).with("Vary", "Accept-Encoding");
        let expect = match coding {
            // Named as it was asked for or as it is registered.
            Some("x-gzip") => expect,
            Some(coding) => expect.with("Content-Encoding", *coding),
            None => expect.without("Content-Encoding"),
        };
        let request = get_with(&path, &[&format!("Accept-Encoding: {accept}")]);
        // Twice: joined, and what may come from elsewhere.
        [case(*accept, request.clone(), expect.clone()), case(format!("{accept} again"), request, expect)]
    });
    check(server, cases);
    let x_gzip = server.get(&path, &["Accept-Encoding: x-gzip"]);
    assert!(matches!(x_gzip.get("content-encoding"), Some("gzip" | "x-gzip")), "{x_gzip}");
    assert_eq!(x_gzip.decoded(), server.get(&path, &[]).body);
}

/// A list may be of any charset of bytes, of repeats, of nothing known: the joined blocks decode.
#[test]
fn odd_lists_decode() {
    let site = Site::new();
    let full = full_quote(3);
    let payloads =
        [("a", ""), ("b", "\0\x01\x02"), ("c", "</script>\"\\"), ("d", &full), ("e", "绵世股份"), ("f", "1")];
    site.file("q.quotes", table(payloads)).file("z.quotes", table([("g", "x".repeat(65_000)), ("h", full_quote(4))]));
    let server = Server::start(&site);
    let thousand = |symbol: &str| [symbol; 1000].join(",");
    let lists =
        ["a", "a,a,a", "b,c", "d", "d,d", "d,e,d", "none", "none,none,nil", "g", "g,g,h", "a,b,c,d,e,f,g,h,none"];
    let lists = lists.map(str::to_owned).into_iter();
    for symbols in lists.chain([thousand("d"), thousand("none"), thousand("f")]) {
        for format in ["", "&format=json"] {
            let path = format!("/list={symbols}{format}");
            let answers: Vec<Response> = [CODINGS, CODINGS].concat().iter().map(|c| coded(&server, &path, c)).collect();
            assert_same(&path[..path.len().min(40)], &server.get(&path, &[]), &answers);
        }
    }
}

/// The head of GET in every coding, whether GET came before it or not.
#[test]
fn head_of_a_compressed_answer() {
    let (_, server) = server();
    let names = |answer: &Response| answer.fields.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    for coding in CODINGS {
        let path = list(&symbols(60).split_off(if coding == "gzip" { 3 } else { 4 }));
        let field = format!("Accept-Encoding: {coding}");
        let mut conn = server.connect();
        let mut heads = Vec::new();
        for _ in 0..3 {
            conn.send(with_host("HEAD", &path, &[&field], ""));
            heads.push(conn.recv_head());
            conn.send(get_with(&path, &[&field]));
            let whole = conn.recv();
            let head = heads.last().unwrap();
            assert_eq!((head.status, names(head)), (200, names(&whole)), "{head}");
            assert_eq!((head.get("etag"), head.get("content-encoding")), (whole.get("etag"), Some(coding)), "{head}");
        }
    }
}

#[test]
fn answers_are_counted_by_where_they_came_from() {
    let site = Site::new();
    site.file("market.quotes", market(0));
    let server = Server::builder(&site).workers(1).start();
    let from = |source: &str| metric(&server, &format!("cloudia_quote_answers_total{{from=\"{source}\"}}"));
    let path = list(&symbols(50));
    for _ in 0..50 {
        coded(&server, &path, "gzip");
    }
    wait_until("every answer to be counted", || from("join") + from("cache") == 50);
    assert!(from("join") >= 1, "the first was joined");
    assert!(from("cache") >= 1, "a popular list is kept");
    assert_eq!(metric(&server, "cloudia_quote_symbols"), 1000);
    assert_eq!(metric(&server, "cloudia_quote_tables"), 1);
}

/// Very many different lists do not make the memory of a server grow without bound, and popular ones are served meanwhile.
#[test]
fn a_scan_harms_nobody() {
    let site = Site::new();
    site.file("market.quotes", market(0));
    let server = Server::builder(&site).workers(1).start();
    let popular = list(&symbols(40));
    let identity = server.get(&popular, &[]).body;
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap()
    };
    let mut rng = Rng::with_seed(9);
    let (mut conn, mut other) = (server.connect(), server.connect());
    let mut scan = |rounds: usize| {
        let mut scanned = 0;
        for _ in 0..rounds {
            for _ in 0..20 {
                let symbols: Vec<String> = (0..400).map(|_| format!("s_sh{}", 600_000 + rng.below(500))).collect();
                other.send(get_with(list(&symbols), &["Accept-Encoding: gzip"]));
                scanned += other.recv().body.len();
            }
            conn.send(get_with(&popular, &["Accept-Encoding: gzip"]));
            assert_eq!(conn.recv().decoded(), identity);
        }
        scanned
    };
    // What is bounded is full by then.
    scan(200);
    let before = resident();
    let scanned = scan(200);
    let grown = resident().saturating_sub(before) * 1024;
    assert!(grown < scanned / 4, "{grown} bytes more after {scanned} that were never asked for twice");
}
