//! Wire section 9, what is answered: the fields, strings that are safe in a script, JSON, and the settings of `[quotes]`.

use std::sync::OnceLock;

use serde_json::Value;

use crate::{
    cases::{case, check, get, get_with, request, status},
    harness::{OLD_DATE, Response, Server, Site},
    quotes::{ask, assert_settings_refused, full_quote, line, list, script, statements, symbols, table, with_settings},
};

/// What is hard to put into a script, each a payload of `x0`, `x1`, … as it stands in the table.
fn hard() -> Vec<String> {
    let mut payloads: Vec<String> = [
        "say \"hi\"",
        "\"",
        "\"\"",
        "\\",
        "\\\\",
        "\\\"",
        "\"\\",
        "ends in a backslash\\",
        "C:\\new\\u0041\\x41\\0",
        "\";alert(1);//",
        "\\\";alert(1);//",
        "a=b=c",
        "=",
        " spaces around ",
        "\ttab\t",
        "# no comment",
        "a,b&c?d#e%41",
        "'single' `back` ${x}",
        "</script>",
        "</SCRIPT ><script>alert(1)</script>",
        "<!--",
        "--><!-- <script>",
        "<![CDATA[",
        "<",
        "<<//",
        "<</",
        "ends in <",
        "/ and ! alone",
        "]]>",
        "\u{2028}",
        "a\u{2029}b\u{2028}\u{2028}",
        "\\u2028",
        "\u{85}\u{a0}\u{200b}\u{feff}",
        "\0",
        "\u{0}1",
        "\u{0}\u{0}0",
        "\r",
        "a\rb",
        "\u{1b}[31m",
        "\u{7f}",
        "绵世股份",
        "\\绵\"世",
        "😀\u{10ffff}\u{1d11e}",
        "\u{ffff}\u{fffe}\u{fffd}\u{e000}",
        "e\u{301}",
        "",
    ]
    .map(str::to_owned)
    .to_vec();
    // A lone CR before the line end would be part of it.
    payloads.retain(|payload| !payload.ends_with('\r'));
    payloads.extend((0..0x20_u8).filter(|byte| *byte != b'\n').map(|byte| format!("{}9", byte as char)));
    payloads.push("x".repeat(60_000));
    payloads.push("\"".repeat(60_000));
    payloads.push("</".repeat(30_000));
    payloads
}

fn hard_site() -> (Site, Vec<String>) {
    let site = Site::new();
    let payloads = hard();
    site.file("hard.quotes", table(payloads.iter().enumerate().map(|(n, payload)| (format!("x{n}"), payload))));
    (site, payloads)
}

fn server() -> &'static (Site, Server) {
    static SHARED: OnceLock<(Site, Server)> = OnceLock::new();
    SHARED.get_or_init(|| {
        let site = Site::new();
        let many = symbols(50).into_iter().enumerate().map(|(n, symbol)| (symbol, full_quote(n as u64)));
        site.file("many.quotes", table(many)).file("q.quotes", "a=1\nb=2\nempty=\nname=绵世\nd.o=t\n");
        let server = Server::start(&site);
        (site, server)
    })
}

/// The names of an answer's fields, sorted.
fn names(answer: &Response) -> Vec<&str> {
    let mut names: Vec<_> = answer.fields.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_200_has_the_fields_of_an_entry() {
    let always =
        ["Cache-Control", "Content-Length", "Content-Type", "Date", "ETag", "Server", "X-Content-Type-Options"];
    let many = list(&symbols(50));
    for (target, accept, more) in [
        ("/list=a", "identity", &["Accept-Ranges", "Last-Modified"][..]),
        ("/list=a&format=json", "identity", &["Accept-Ranges", "Last-Modified"]),
        ("/list=none", "identity", &["Accept-Ranges"]),
        (&many, "identity", &["Accept-Ranges", "Last-Modified", "Vary"]),
        (&many, "gzip", &["Content-Encoding", "Last-Modified", "Vary"]),
        (&many, "deflate", &["Content-Encoding", "Last-Modified", "Vary"]),
    ] {
        let answer = server().1.get(target, &[&format!("Accept-Encoding: {accept}")]);
        assert_eq!(answer.status, 200, "{target}");
        let mut expected = [&always, more].concat();
        expected.sort_unstable();
        let mut found = names(&answer);
        // What is short may have codings or none.
        if !expected.contains(&"Vary") {
            found.retain(|name| *name != "Vary");
        }
        assert_eq!(found, expected, "{target} {accept}: {answer}");
        assert_eq!(answer.get("server"), Some("cloudia"));
        assert_eq!(answer.get("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.get("cache-control"), Some("max-age=1"));
        if more.contains(&"Last-Modified") {
            assert_eq!(answer.get("last-modified"), Some(OLD_DATE), "{target}");
        }
    }
}

#[test]
fn strings_are_safe_and_come_back() {
    let (site, payloads) = hard_site();
    let server = Server::start(&site);
    for (number, payload) in payloads.iter().enumerate() {
        let text = ask(&server, &format!("x{number}"));
        let read = statements(&text);
        assert!(read == [(format!("hq_str_x{number}"), payload.clone())], "{payload:?} became {text:?}");
    }
    // All in one, so that what stands beside what makes no difference.
    let symbols: Vec<String> = (0..payloads.len()).map(|number| format!("x{number}")).collect();
    for coding in ["identity", "gzip", "deflate"] {
        let answer = server.get(&list(&symbols), &[&format!("Accept-Encoding: {coding}")]);
        let read = statements(std::str::from_utf8(&answer.decoded()).unwrap());
        assert!(read.iter().map(|(_, payload)| payload).eq(&payloads), "{coding}");
    }
}

/// What needs no escape is sent as it stands in the table.
#[test]
fn nothing_else_is_escaped() {
    let site = Site::new();
    let harmless = "'single' `back` ${x} <b> < / ! > a=b ]]> 绵世😀é\u{a0} %41 &amp; #";
    site.file("q.quotes", format!("x={harmless}\n"));
    let server = Server::start(&site);
    assert_eq!(ask(&server, "x"), line("x", harmless));
}

#[test]
fn quotes_and_backslashes_have_their_short_escapes() {
    let site = Site::new();
    site.file("q.quotes", "x=a\"b\\c\n");
    let server = Server::start(&site);
    assert_eq!(ask(&server, "x"), "var hq_str_x=\"a\\\"b\\\\c\";\n");
}

#[test]
fn json_says_each_symbol_once_in_order_of_first_mention() {
    let json = |body: &str| status(200).with("Content-Type", "application/json").body(body);
    let rows = [
        ("/list=a&format=json", "{\"a\":\"1\"}"),
        ("/list=b,a&format=json", "{\"b\":\"2\",\"a\":\"1\"}"),
        ("/list=b,none,a,b,none,a&format=json", "{\"b\":\"2\",\"none\":null,\"a\":\"1\"}"),
        ("/list=a,a,a&format=json", "{\"a\":\"1\"}"),
        ("/list=none&format=json", "{\"none\":null}"),
        ("/list=empty,none&format=json", "{\"empty\":\"\",\"none\":null}"),
        ("/list=name,d.o&format=json", "{\"name\":\"绵世\",\"d.o\":\"t\"}"),
        ("/list=a?format=json", "{\"a\":\"1\"}"),
        ("/?list=a&format=json", "{\"a\":\"1\"}"),
        ("/?format=json&list=a", "{\"a\":\"1\"}"),
        ("/format=json&list=a,b", "{\"a\":\"1\",\"b\":\"2\"}"),
        ("/format=json&list=a?x", "{\"a\":\"1\"}"),
        ("/list=a&x=1&maxage=5?format=json", "{\"a\":\"1\"}"),
    ];
    check(&server().1, rows.map(|(target, body)| case(target, get(target), json(body))));
}

#[test]
fn another_format_is_a_script() {
    for parameter in [
        "format=xml",
        "format=",
        "format",
        "format=JSON",
        "Format=json",
        "format=json5",
        "xformat=json",
        "format=%6ason",
    ] {
        let expect = status(200).with("Content-Type", "text/javascript; charset=utf-8").body(script(&[("a", "1")]));
        let target = format!("/list=a&{parameter}");
        check(&server().1, [case(parameter, get(target), expect)]);
    }
}

#[test]
fn json_escapes_what_json_must() {
    let (site, payloads) = hard_site();
    let server = Server::start(&site);
    let symbols: Vec<String> = (0..payloads.len()).map(|number| format!("x{number}")).collect();
    for coding in ["identity", "gzip", "deflate"] {
        let answer = server.get(&(list(&symbols) + "&format=json"), &[&format!("Accept-Encoding: {coding}")]);
        let body = answer.decoded();
        assert!(!body.iter().any(u8::is_ascii_control), "{coding}: a raw control byte");
        let read: Value = serde_json::from_slice(&body).expect("JSON");
        let read = read.as_object().expect("an object");
        assert_eq!(read.len(), payloads.len());
        for (symbol, payload) in symbols.iter().zip(&payloads) {
            assert!(read[symbol] == payload.as_str(), "{payload:?} became {:?}", read[symbol]);
        }
    }
}

#[test]
fn ranges_are_of_identity() {
    let body = script(&[("a", "1"), ("name", "绵世"), ("none", "")]).into_bytes();
    let length = body.len();
    let target = "/list=a,name,none";
    let part = |first: usize, last: usize| {
        status(206)
            .with("Content-Range", format!("bytes {first}-{last}/{length}"))
            .with("Content-Type", "text/javascript; charset=utf-8")
            .with("Last-Modified", OLD_DATE)
            .without("Content-Encoding")
            .body(&body[first..=last])
    };
    let tag = server().1.get(target, &[]).get("etag").expect("an ETag").to_owned();
    let (same, other) = (format!("If-Range: {tag}"), "If-Range: \"other\"");
    let date = format!("If-Range: {OLD_DATE}");
    let ranged = |range: &str, fields: &[&str]| get_with(target, &[&[range], fields].concat());
    let whole = || status(200).body(body.clone());
    let none = || status(416).with("Content-Range", format!("bytes */{length}"));
    let part_of_many = server().1.get(&list(&symbols(50)), &["Range: bytes=100-199", "Accept-Encoding: gzip"]);
    let many = server().1.get(&list(&symbols(50)), &[]);
    assert_eq!((part_of_many.status, part_of_many.get("content-encoding")), (206, None), "{part_of_many}");
    assert_eq!(part_of_many.body, many.body[100..200]);
    check(
        &server().1,
        [
            case("first", ranged("Range: bytes=0-0", &[]), part(0, 0)),
            case("middle", ranged("Range: bytes=5-20", &[]), part(5, 20)),
            case("last", ranged("Range: bytes=-7", &[]), part(length - 7, length - 1)),
            case("from", ranged("Range: bytes=10-", &[]), part(10, length - 1)),
            case("coded", ranged("Range: bytes=5-20", &["Accept-Encoding: gzip, deflate"]), part(5, 20)),
            case("merged", ranged("Range: bytes=0-4,5-9", &[]), part(0, 9)),
            case("beyond", ranged(&format!("Range: bytes={length}-"), &[]), none()),
            case("malformed", ranged("Range: bytes=9-5", &[]), whole()),
            case("If-Range with the tag", ranged("Range: bytes=5-20", &[&same]), part(5, 20)),
            case("If-Range with its date", ranged("Range: bytes=5-20", &[&date]), part(5, 20)),
            case("If-Range with another", ranged("Range: bytes=5-20", &[other]), whole()),
        ],
    );
}

#[test]
fn several_ranges_are_multipart() {
    let answer = server().1.get("/list=a,b", &["Range: bytes=0-3,10-13"]);
    assert_eq!(answer.status, 206, "{answer}");
    let media = answer.get("content-type").unwrap_or_default();
    assert!(media.starts_with("multipart/byteranges; boundary="), "{answer}");
    let text = answer.text();
    let whole = script(&[("a", "1"), ("b", "2")]);
    assert!(text.contains(&format!("\r\n\r\n{}\r\n", &whole[0..4])), "{text}");
    assert!(text.contains(&format!("\r\n\r\n{}\r\n", &whole[10..14])), "{text}");
}

#[test]
fn the_prefix_is_a_setting() {
    for prefix in ["hq_str_", "v_", "$", "_", "Q9", "quotesOfThisPage_"] {
        let site = Site::new();
        site.file("q.quotes", "a=1\n0=zero\n");
        let server = with_settings(&site, &format!("[quotes]\nprefix = \"{prefix}\"\n")).start();
        assert_eq!(
            ask(&server, "a,0,none"),
            format!("var {prefix}a=\"1\";\nvar {prefix}0=\"zero\";\nvar {prefix}none=\"\";\n")
        );
        assert_eq!(server.get("/list=a&format=json", &[]).text(), "{\"a\":\"1\"}");
    }
}

#[test]
fn ages_are_settings() {
    let site = Site::new();
    site.file("q.quotes", "a=1\n");
    let age = |seconds: u64| status(200).with("Cache-Control", format!("max-age={seconds}"));
    let server = with_settings(&site, "[quotes]\nmaxage = 3\nmaxage_cap = 100\n").start();
    check(
        &server,
        [
            case("absent", get("/list=a"), age(3)),
            case("junk", get("/list=a&maxage=x"), age(3)),
            case("below", get("/list=a&maxage=99"), age(99)),
            case("at", get("/list=a&maxage=100"), age(100)),
            case("above", get("/list=a&maxage=101"), age(100)),
            case("a file's are its own", get("/alive.txt"), age(120)),
            case("and its cap", get("/alive.txt?maxage=6000000"), age(6_000_000)),
        ],
    );
    let server = with_settings(&site, "[quotes]\nmaxage = 0\nmaxage_cap = 0\n").start();
    check(&server, [case("0", get("/list=a"), age(0)), case("capped", get("/list=a&maxage=5"), age(0))]);
}

#[test]
fn wrong_settings_are_refused() {
    for (key, nearest) in [
        ("prefx", "prefix"),
        ("charst", "charset"),
        ("max_age", "maxage"),
        ("maxage-cap", "maxage_cap"),
        ("sockets", "socket"),
        ("snapshott", "snapshot"),
        ("feeder", "feeders"),
    ] {
        assert_settings_refused(&format!("[quotes]\n{key} = 1\n"), &[key, nearest]);
    }
    assert_settings_refused("[quote]\nprefix = \"x\"\n", &["quote", "quotes"]);
    for prefix in ["", "9x", "a-b", "a b", "a.b", "a;", "x=1;var y", "a\\\"", "<", "绵 世", "a\\n"] {
        assert_settings_refused(&format!("[quotes]\nprefix = \"{prefix}\"\n"), &["prefix"]);
    }
    for charset in ["", "latin1", "utf-16", "big5", "shift_jis", "gbkk"] {
        assert_settings_refused(&format!("[quotes]\ncharset = \"{charset}\"\n"), &["gbk", "gb18030", "utf-8"]);
    }
    for (key, value) in [
        ("prefix", "1"),
        ("charset", "1"),
        ("maxage", "-1"),
        ("maxage", "\"5\""),
        ("maxage_cap", "-1"),
        ("maxage_cap", "1.5"),
        ("socket", "1"),
        ("snapshot", "[]"),
        ("feeders", "\"root\"x"),
        ("feeders", "[1]"),
    ] {
        assert_settings_refused(&format!("[quotes]\n{key} = {value}\n"), &[]);
    }
}

/// In words of the file, not of the program.
#[test]
fn quotes_that_are_no_table_are_refused() {
    for settings in ["quotes = 5\n", "[[quotes]]\nprefix = \"x\"\n", "quotes = \"gbk\"\n"] {
        assert_settings_refused(settings, &["line 1", "quotes"]);
    }
}

/// They are never good, whatever is there when it starts.
#[test]
fn empty_paths_are_refused() {
    assert_settings_refused("[quotes]\nsocket = \"\"\n", &["socket"]);
    assert_settings_refused("[quotes]\nsocket = \"feed\"\nsnapshot = \"\"\n", &["snapshot"]);
}

/// Others have their turn behind a list that was long to join; what follows it may be no request yet.
#[test]
fn what_follows_a_long_list_is_not_lost() {
    let site = Site::new();
    site.file("long.quotes", format!("long={}\n", "x".repeat(60_000)));
    let server = Server::start(&site);
    let long = request("HEAD", "/list=long,long,long,long,long,long", &["Host: h", "Accept-Encoding: gzip"], "");
    let alive = get("/alive.txt");
    for cut in 0..alive.len() {
        for before in ["", "\r\n"] {
            let mut conn = server.connect();
            conn.send([&long[..], before.as_bytes(), &alive[..cut]].concat());
            assert_eq!(conn.recv_head().status, 200);
            conn.send(&alive[cut..]);
            assert_eq!(conn.recv().text(), "alive\n", "{before:?} and {cut} bytes");
        }
    }
}
