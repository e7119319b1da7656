//! Wire section 9, what is asked for: the forms of a quotes target, its list, its parameters, and what is refused.

use std::sync::OnceLock;

use crate::{
    cases::{Case, Expect, case, check, get, get_with, status, with_host},
    harness::{OLD_DATE, Server, Site},
    quotes::{line, list, script},
    wire8_answers::assert_plain_error,
};

/// A symbol of 32 bytes, as long as one may be.
const LONGEST: &str = "abcdefghijklmnopqrstuvwxyz012345";

/// Symbols and payloads of the one table; `.` and `-` are for JSON.
const QUOTES: [(&str, &str); 16] = [
    ("a", "1"),
    ("b", "2"),
    ("c", "3"),
    ("A", "upper"),
    ("$x", "dollar"),
    ("_", "under"),
    ("0", "zero"),
    ("s_sz000609", "绵世股份,9.29,-0.05,-0.54,170945,16418"),
    (LONGEST, "longest"),
    ("list", "a symbol of this name"),
    ("maxage", "so is this"),
    ("empty", ""),
    ("a.b", "dot"),
    ("a-b", "dash"),
    (".", "only a dot"),
    ("..", "two dots"),
];

fn site() -> Site {
    let site = Site::new();
    site.file("q.quotes", QUOTES.map(|(symbol, payload)| format!("{symbol}={payload}\n")).concat())
        .file("index.html", "<index>")
        .file("list=b", "<list=b>")
        .file("a.txt", "<a.txt>")
        .file("rn=1", "<rn=1>")
        .file("a.txt&list=b", "<a.txt&list=b>")
        .file("dir/list=b", "<dir/list=b>");
    site
}

fn server() -> &'static Server {
    static SHARED: OnceLock<(Site, Server)> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let site = site();
        let server = Server::start(&site);
        (site, server)
    });
    &shared.1
}

/// The script for these symbols, separated by commas.
fn quotes(symbols: &str) -> Expect {
    let payload = |symbol: &str| QUOTES.iter().find(|(known, _)| *known == symbol).map_or("", |(_, payload)| payload);
    let body: String = symbols.split(',').map(|symbol| line(symbol, payload(symbol))).collect();
    status(200).with("Content-Type", "text/javascript; charset=utf-8").body(body)
}

fn json(body: &str) -> Expect {
    status(200).with("Content-Type", "application/json").body(body)
}

/// A table of targets, each named by itself.
fn check_targets(targets: &[(&str, Expect)]) {
    let cases = targets.iter().map(|(target, expect)| {
        let name = target.escape_default().to_string();
        case(name, get(target), expect.clone())
    });
    check(server(), cases);
}

fn bad(target: impl AsRef<[u8]>) -> Case {
    case(target.as_ref().escape_ascii().to_string(), get(target), status(400))
}

#[test]
fn a_line_a_symbol_in_the_order_asked() {
    check_targets(&[
        ("/list=a", quotes("a")),
        ("/list=a,b,c", quotes("a,b,c")),
        ("/list=c,b,a", quotes("c,b,a")),
        ("/list=a,a", quotes("a,a")),
        ("/list=b,a,b,b,a", quotes("b,a,b,b,a")),
        ("/list=A,a", quotes("A,a")),
        ("/list=$x,_,0", quotes("$x,_,0")),
        ("/list=none", quotes("none")),
        ("/list=none,a,none", quotes("none,a,none")),
        ("/list=a,b,unknown,c", quotes("a,b,unknown,c")),
        ("/list=empty,a", quotes("empty,a")),
        ("/list=list", quotes("list")),
        ("/list=a,list,maxage", quotes("a,list,maxage")),
    ]);
    let target = format!("/list={LONGEST},a");
    check_targets(&[(&target, quotes(&format!("{LONGEST},a")))]);
}

#[test]
fn the_bytes_of_an_answer() {
    let body = "var hq_str_s_sz000609=\"绵世股份,9.29,-0.05,-0.54,170945,16418\";\nvar hq_str_none=\"\";\n";
    check_targets(&[("/list=s_sz000609,none", status(200).body(body))]);
}

#[test]
fn three_forms() {
    check_targets(&[
        // The list first.
        ("/list=a&rn=123", quotes("a")),
        ("/list=a?rn=123", quotes("a")),
        ("/list=a,b&x=1&y", quotes("a,b")),
        ("/list=a,b?x=1&y?z", quotes("a,b")),
        ("/list=a?1230015976759", quotes("a")),
        ("/list=a&_=1230015976759", quotes("a")),
        ("/list=a?", quotes("a")),
        ("/list=a&", quotes("a")),
        ("/list=a&&?", quotes("a")),
        ("/list=a/b", status(400)),
        // In the query.
        ("/?list=a", quotes("a")),
        ("/?list=a,b&rn=123", quotes("a,b")),
        ("/?rn=123&list=a", quotes("a")),
        ("/?1230015976759&list=a,b", quotes("a,b")),
        ("/?x=1&y=2&list=b&z=3", quotes("b")),
        ("/?&list=a", quotes("a")),
        ("/?list=a&", quotes("a")),
        ("/?list=a&x?y", quotes("a")),
        ("/?list=a?b", status(400)),
        ("/?list=a?", status(400)),
        // Behind parameters in the path.
        ("/rn=123&list=a", quotes("a")),
        ("/rn=123&x&list=a,b", quotes("a,b")),
        ("/rn=123&list=a&y=1", quotes("a")),
        ("/rn=123&list=a?y=1", quotes("a")),
        ("/1230015976759&list=a", quotes("a")),
        ("/a.txt&list=a", quotes("a")),
    ]);
}

#[test]
fn the_first_list_counts() {
    check_targets(&[
        ("/list=a&list=b", quotes("a")),
        ("/list=a?list=b", quotes("a")),
        ("/?list=a&list=b", quotes("a")),
        ("/rn=1&list=a&list=b", quotes("a")),
        ("/rn=1&list=a?list=b", quotes("a")),
        ("/list=a&list=", quotes("a")),
        ("/list=a&list=,", quotes("a")),
        ("/list=&list=a", status(400)),
        ("/?list=&list=a", status(400)),
        // None of these is `list=`.
        ("/?xlist=b&list=a", quotes("a")),
        ("/xlist=b&list=a", quotes("a")),
        ("/?x=list=b&list=a", quotes("a")),
        ("/x=list=b&list=a", quotes("a")),
        ("/?List=b&list=a", quotes("a")),
        ("/?lists=b&list=a", quotes("a")),
    ]);
}

#[test]
fn what_is_no_list_is_a_path() {
    let file = |name: &str| status(200).body(format!("<{name}>"));
    check_targets(&[
        ("/list", status(404)),
        ("/list/", status(404)),
        ("/list/a", status(404)),
        ("/lists=a", status(404)),
        ("/List=a", status(404)),
        ("/LIST=a", status(404)),
        ("/xlist=a", status(404)),
        ("/list%3Da", status(404)),
        ("/rn=1", file("rn=1")),
        ("/rn=1?list=a", file("rn=1")),
        ("/a.txt?list=a", file("a.txt")),
        ("/a.txt?x=1&list=a", file("a.txt")),
        ("/dir/list=b", file("dir/list=b")),
        ("/dir/?list=a", status(404)),
        ("/?list", file("index")),
        ("/?lists=a", file("index")),
        ("/?List=a", file("index")),
        ("/?x=1", file("index")),
        ("/index.html?list=a", file("index")),
    ]);
}

#[test]
fn quotes_come_before_files() {
    check_targets(&[
        ("/list=b", quotes("b")),
        ("/list=b?x", quotes("b")),
        ("/a.txt&list=b", quotes("b")),
        ("/?list=b", quotes("b")),
    ]);
}

#[test]
fn absolute_form() {
    check_targets(&[
        ("http://h/list=a,b", quotes("a,b")),
        ("HTTP://h:80/list=a?rn=1", quotes("a")),
        ("http://h/?rn=1&list=a", quotes("a")),
        ("http://h?list=a", quotes("a")),
        ("http://h/rn=1&list=a", quotes("a")),
        ("http://h/list=", status(400)),
    ]);
}

#[test]
fn symbols_are_decoded_once() {
    check_targets(&[
        ("/list=%61", quotes("a")),
        ("/list=%61,%62", quotes("a,b")),
        ("/list=a%2Cb", quotes("a,b")),
        ("/list=a%2cb%2C%63,a", quotes("a,b,c,a")),
        ("/?list=a%2Cb", quotes("a,b")),
        ("/rn=1&list=a%2Cb", quotes("a,b")),
        ("/list=%24x,%5f,%30", quotes("$x,_,0")),
        ("/list=%73_sz%30%300609", quotes("s_sz000609")),
        ("/list=%2561", status(400)),
        ("/list=a%252Cb", status(400)),
        ("/list=a%26b", status(400)),
        ("/list=a%26maxage=5", status(400)),
        ("/list=a%3Fb", status(400)),
        ("/list=a%3Db", status(400)),
        ("/list=a+b", status(400)),
        ("/list=a%20b", status(400)),
    ]);
}

#[test]
fn broken_escapes_in_a_list() {
    for item in ["%", "%6", "%zz", "%6g", "%g6", "%%61", "a%", "%61%", "%u0061", "% 61", "%-1", "%+1"] {
        for form in ["/list=", "/?list=", "/rn=1&list="] {
            let end = if item.contains(' ') { vec![] } else { vec![",a", "&x=1"] };
            check(server(), [bad(format!("{form}{item}")), bad(format!("{form}a,{item}"))]);
            check(server(), end.iter().map(|end| bad(format!("{form}{item}{end}"))));
        }
    }
}

#[test]
fn empty_lists_and_items() {
    for list in ["", ",", ",a", "a,", "a,,b", ",,", "%2C", "%2Ca", "a%2C", "a,%2Cb", "a%2C,b"] {
        for form in ["/list=", "/?list=", "/rn=1&list=", "/?x&list="] {
            for end in ["", "&", "&rn=1", "&format=json"] {
                check(server(), [bad(format!("{form}{list}{end}"))]);
            }
        }
        check(server(), [bad(format!("/list={list}?")), bad(format!("/list={list}?maxage=5"))]);
    }
}

/// Each byte but those of the alphabet, first, in the middle, last and alone, escaped and as it is.
#[test]
fn bytes_outside_the_alphabet() {
    let in_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || b"_$".contains(&byte);
    let mut cases = Vec::new();
    for byte in (0..=255_u8).filter(|byte| !in_alphabet(*byte)) {
        let of_json = b".-".contains(&byte);
        let escaped = format!("%{byte:02x}").into_bytes();
        let mut spellings = vec![escaped];
        if !b",&?%".contains(&byte) {
            spellings.push(vec![byte]);
        }
        for spelling in &spellings {
            for (before, after) in [("", "a"), ("a", "b"), ("a", ""), ("", ""), ("a,", ",b")] {
                let item = [before.as_bytes(), spelling, after.as_bytes()].concat();
                let target = [b"/list=", item.as_slice()].concat();
                // An escaped comma separates.
                if (byte, before, after) != (b',', "a", "b") {
                    cases.push(bad(&target));
                }
                if !of_json && (byte, before, after) != (b',', "a", "b") {
                    cases.push(bad([&target, b"&format=json".as_slice()].concat()));
                }
            }
        }
    }
    check(server(), cases);
}

#[test]
fn dots_and_dashes_are_for_json_alone() {
    check_targets(&[
        ("/list=a.b", status(400)),
        ("/list=a-b", status(400)),
        ("/list=a,a-b", status(400)),
        ("/list=.", status(400)),
        ("/list=..", status(400)),
        ("/list=-", status(400)),
        ("/list=a.b&format=xml", status(400)),
        ("/list=a.b&format=json", json("{\"a.b\":\"dot\"}")),
        ("/list=a-b?format=json", json("{\"a-b\":\"dash\"}")),
        ("/?list=a%2Eb,a%2Db&format=json", json("{\"a.b\":\"dot\",\"a-b\":\"dash\"}")),
        ("/format=json&list=a.b", json("{\"a.b\":\"dot\"}")),
        ("/list=.&format=json", json("{\".\":\"only a dot\"}")),
        ("/list=..&format=json", json("{\"..\":\"two dots\"}")),
        ("/list=...,-&format=json", json("{\"...\":null,\"-\":null}")),
        ("/list=../a.txt&format=json", status(400)),
        ("/list=a/../b&format=json", status(400)),
    ]);
}

#[test]
fn symbols_have_32_bytes_at_the_most() {
    let (longest, longer) = ("x".repeat(32), "x".repeat(33));
    let escaped = "%78".repeat(32);
    let mut cases = vec![
        case("32", get(format!("/list={longest}")), quotes(&longest)),
        case("32 in the middle", get(format!("/list=a,{longest},b")), quotes(&format!("a,{longest},b"))),
        case("32 escaped", get(format!("/list={escaped}")), quotes(&longest)),
        case("32 twice", get(format!("/list={longest},{longest}")), quotes(&format!("{longest},{longest}"))),
        case("json", get(format!("/list={longest}&format=json")), json(&format!("{{\"{longest}\":null}}"))),
    ];
    for form in ["/list=", "/?list=", "/rn=1&list=", "/format=json&list="] {
        cases.push(bad(format!("{form}{longer}")));
        cases.push(bad(format!("{form}{longer},a")));
        cases.push(bad(format!("{form}a,{longer}")));
        cases.push(bad(format!("{form}a,{longer},a")));
        cases.push(bad(format!("{form}{escaped}x")));
        cases.push(bad(format!("{form}{}", "x".repeat(300))));
    }
    check(server(), cases);
}

#[test]
fn a_list_has_1000_symbols_at_the_most() {
    let same = |count: usize| vec!["a"; count].join(",");
    let distinct = |count: usize| (0..count).map(|n| format!("s{n}")).collect::<Vec<_>>().join(",");
    let nulls: Vec<String> = (0..1000).map(|n| format!("\"s{n}\":null")).collect();
    let mut cases = vec![
        case("1000 repeats", get(format!("/list={}", same(1000))), quotes(&same(1000))),
        case("1000 unknown", get(format!("/list={}", distinct(1000))), quotes(&distinct(1000))),
        case("1000 escaped commas", get(format!("/list={}", same(1000).replace(',', "%2C"))), quotes(&same(1000))),
        case("1000 in JSON", get(format!("/list={}&format=json", same(1000))), json("{\"a\":\"1\"}")),
        case(
            "1000 distinct in JSON",
            get(format!("/list={}&format=json", distinct(1000))),
            json(&format!("{{{}}}", nulls.join(","))),
        ),
    ];
    for form in ["/list=", "/?list=", "/rn=1&list=", "/format=json&list="] {
        cases.push(bad(format!("{form}{}", same(1001))));
        cases.push(bad(format!("{form}{}", same(1001).replace(',', "%2C"))));
        cases.push(bad(format!("{form}{}", distinct(1001))));
        cases.push(bad(format!("{form}{}", same(4000))));
    }
    check(server(), cases);
}

#[test]
fn a_target_has_8_kib_at_the_most() {
    let long = |start: &str, length: usize| format!("{start}{}", "x".repeat(length - start.len()));
    // 902 symbols of 8 bytes.
    let full = ["abcdefgh"; 902].join(",");
    let mut cases = vec![case("a long list", get(format!("/list={full}")), quotes(&full))];
    for start in ["/list=a&", "/list=a?", "/?list=a&"] {
        cases.push(case(format!("{start} to 8192"), get(long(start, 8192)), quotes("a")));
        cases.push(case(format!("{start} to 8193"), get(long(start, 8193)), status(414)));
        cases.push(case(format!("{start} to 9 KiB"), get(long(start, 9 * 1024)), status(414)));
    }
    cases.push(case("a list of 9 KiB", get(list(&["abcdefgh"; 1024])), status(414)));
    check(server(), cases);
}

/// The answers to each, the longest that is allowed and one byte more.
#[test]
fn an_answer_has_4_mib_at_the_most() {
    let site = Site::new();
    let large = "<".repeat(65_000);
    // 64 lines of `large` and one that fills up to 4 MiB, or goes beyond by a byte.
    let rest = 4 * 1024 * 1024 - 64 * line("large", &large).len() - line("fill", "").len();
    site.file("large.quotes", format!("large={large}\nfill={}\nmore={}\n", "x".repeat(rest), "x".repeat(rest + 1)));
    let server = Server::start(&site);
    let repeated = vec!["large"; 64].join(",");
    let coded = "Accept-Encoding: gzip";
    for field in ["X: y", coded] {
        let answer = server.get(&format!("/list={repeated},fill"), &[field]);
        assert_eq!((answer.status, answer.decoded().len()), (200, 4 * 1024 * 1024), "{answer}");
        let cases = [
            case("a byte more", get_with(format!("/list={repeated},more"), &[field]), status(400)),
            case("another line", get_with(format!("/list={repeated},fill,none"), &[field]), status(400)),
            case("far more", get_with(list(&["large"; 1000]), &[field]), status(400)),
            case("HEAD", with_host("HEAD", list(&["large"; 65]), &[field], ""), status(400).body("")),
            case("JSON", get_with(format!("{}&format=json", list(&["large"; 65])), &[field]), status(200)),
        ];
        check(&server, cases);
    }
}

#[test]
fn a_bad_list_is_told_in_one_line() {
    for target in ["/list=", "/list=a.b", "/?list=%zz", &format!("/list={}", "a,".repeat(1001))] {
        let mut conn = server().connect();
        conn.send(get(target));
        let answer = conn.recv();
        assert_eq!(answer.status, 400, "{target}: {answer}");
        assert_plain_error(&answer);
        conn.assert_closed();
    }
}

/// Target → seconds.
const AGES: &[(&str, u64)] = &[
    ("/list=a", 1),
    ("/list=a?", 1),
    ("/list=a&rn=5", 1),
    ("/list=none", 1),
    ("/list=a&maxage=5", 5),
    ("/list=a?maxage=5", 5),
    ("/?list=a&maxage=5", 5),
    ("/?maxage=5&list=a", 5),
    ("/maxage=5&list=a", 5),
    ("/rn=1&maxage=5&list=a?x", 5),
    ("/list=a&x?maxage=5", 5),
    ("/list=a?x&maxage=5", 5),
    ("/list=a?x?maxage=5", 5),
    ("/list=a&maxage=5?x", 5),
    ("/list=a&format=json&maxage=5", 5),
    ("/list=a&maxage=0", 0),
    ("/list=a&maxage=007", 7),
    ("/list=a&maxage=60", 60),
    ("/list=a&maxage=61", 60),
    ("/list=a&maxage=120", 60),
    ("/list=a&maxage=6000000", 60),
    ("/maxage=31536000&list=a", 60),
    ("/list=a&maxage=18446744073709551617", 60),
    ("/list=a&maxage=99999999999999999999999999999999999999999999", 60),
    ("/list=a&maxage=", 1),
    ("/list=a&maxage=-5", 1),
    ("/list=a&maxage=+5", 1),
    ("/list=a&maxage=5s", 1),
    ("/list=a&maxage=abc", 1),
    ("/list=a&maxage=%35", 1),
    ("/list=a&%6daxage=5", 1),
    ("/list=a&Maxage=5", 1),
    ("/list=a&xmaxage=5", 1),
    ("/list=a&x=maxage=5", 1),
    // In the query `?` is a byte like others.
    ("/?list=a&x?maxage=5", 1),
    ("/?list=a&maxage=5?x", 1),
    // The first one wins, wherever the list stands.
    ("/list=a&maxage=5&maxage=6", 5),
    ("/list=a&maxage=5?maxage=6", 5),
    ("/list=a&maxage=x&maxage=6", 1),
    ("/list=a&maxage=&maxage=6", 1),
    ("/maxage=5&list=a&maxage=6", 5),
    ("/maxage=x&list=a&maxage=6", 1),
    ("/?maxage=5&list=a&maxage=6", 5),
];

#[test]
fn maxage_is_1_by_default_and_60_at_the_most() {
    let since = format!("If-Modified-Since: {OLD_DATE}");
    let cases = AGES.iter().flat_map(|&(target, secs)| {
        let age = |code| status(code).with("Cache-Control", format!("max-age={secs}"));
        let known = !target.contains("none");
        [
            case(target, get(target), age(200)),
            case(format!("HEAD {target}"), with_host("HEAD", target, &[], ""), age(200)),
            case(format!("206 {target}"), get_with(target, &["Range: bytes=0-2"]), age(206)),
            case(format!("304 {target}"), get_with(target, &[&since]), age(if known { 304 } else { 200 })),
        ]
    });
    check(server(), cases);
}

#[test]
fn methods() {
    let allow = "GET, HEAD, OPTIONS";
    let mut cases = Vec::new();
    for target in ["/list=a,b", "/?list=a", "/rn=1&list=a&format=json"] {
        let ask = |method: &str| with_host(method, target, &[], "");
        cases.push(case(format!("OPTIONS {target}"), ask("OPTIONS"), status(204).with("Allow", allow)));
        for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE"] {
            cases.push(case(format!("{method} {target}"), ask(method), status(405).with("Allow", allow)));
        }
        cases.push(case(format!("BREW {target}"), ask("BREW"), status(501)));
        cases.push(case(format!("get {target}"), ask("get"), status(501)));
    }
    let body = with_host("GET", "/list=a", &["Content-Length: 4"], "body");
    cases.push(case("a body is thrown away", body, quotes("a")));
    check(server(), cases);
}

/// The head of GET, in identity to the byte.
#[test]
fn head_has_the_fields_of_get_and_no_body() {
    for target in ["/list=a", "/list=a,none,b&maxage=9", "/list=a,none&format=json", "/list=none"] {
        let whole = server().get(target, &[]);
        let mut conn = server().connect();
        conn.send(with_host("HEAD", target, &["Range: bytes=0-0"], ""));
        let head = conn.recv_head();
        assert_eq!(head.status, 200, "{target}: {head}");
        let but_date =
            |fields: &[(String, String)]| fields.iter().filter(|(name, _)| name != "Date").cloned().collect::<Vec<_>>();
        assert_eq!(but_date(&head.fields), but_date(&whole.fields), "{target}");
        conn.assert_open();
    }
}

#[test]
fn many_lists_in_one_packet() {
    let mut conn = server().connect();
    let mut requests = Vec::new();
    let mut expected = Vec::new();
    for round in 0..200 {
        let symbols = [["a", "none"], ["b", "c"], ["c", "a"]][round % 3];
        match round % 7 {
            6 => requests.extend(get("/a.txt")),
            5 => requests.extend(get(format!("{}&format=json", list(&symbols)))),
            _ => requests.extend(get(list(&symbols))),
        }
        let payload = |symbol: &str| QUOTES.iter().find(|(known, _)| *known == symbol).map(|(_, payload)| *payload);
        let shown =
            |symbol: &&str| format!("\"{symbol}\":{}", payload(symbol).map_or("null".into(), |p| format!("{p:?}")));
        expected.push(match round % 7 {
            6 => "<a.txt>".to_owned(),
            5 => format!("{{{}}}", symbols.iter().map(shown).collect::<Vec<_>>().join(",")),
            _ => script(&symbols.map(|symbol| (symbol, payload(symbol).unwrap_or_default()))),
        });
    }
    requests.extend(get("/list="));
    conn.send(&requests);
    for (number, expected) in expected.iter().enumerate() {
        assert_eq!(conn.recv().text(), *expected, "answer {number}");
    }
    assert_eq!(conn.recv().status, 400);
    conn.assert_closed();
}

#[test]
fn a_list_cut_at_every_byte() {
    let request = get_with("/rn=1&list=s_sz000609%2Ca,none&maxage=7?x", &["Accept-Encoding: identity"]);
    let mut conn = server().connect();
    for cut in 1..request.len() {
        conn.send_cut(&request, &[cut]);
        let case = case("cut", &*request, quotes("s_sz000609,a,none").with("Cache-Control", "max-age=7"));
        case.judge_answer(&mut conn).unwrap_or_else(|why| panic!("cut at {cut}: {why}"));
    }
}

/// Without a table every symbol is unknown.
#[test]
fn no_tables_at_all() {
    let site = Site::new();
    let server = Server::start(&site);
    let empty = status(200).without("Last-Modified").body(script(&[("a", ""), ("b", "")]));
    check(
        &server,
        [
            case("script", get("/list=a,b"), empty),
            case("json", get("/list=a,b&format=json"), json("{\"a\":null,\"b\":null}")),
            case("bad", get("/list="), status(400)),
        ],
    );
}
