//! The answers that a worker keeps: what is popular stays, the memory is bounded, and nothing is ever stale.

use std::sync::Arc;

use cloudia::{
    feed::quotes::{
        board::{Board, TableChange, When},
        table::Table,
        text::Charset,
    },
    limits::{LIST_BYTES, MAX_LIST_ANSWER},
    serve::quotes::{self, Asked, Lists},
    stats::{FeedStats, WorkerStats},
    store::{Held, Store, quotes::improve::Improver},
};

use crate::{alloc, harness::wait_until};

/// A market and a worker.
struct Site {
    store: Arc<Store>,
    board: Board,
    lists: Lists,
    stats: WorkerStats,
    scratch: Vec<u8>,
}

impl Site {
    fn new() -> Site {
        let store = Arc::new(Store::new());
        let board = Board::new(store.clone(), Arc::new(FeedStats::default()), Charset::Utf8, None);
        let (lists, stats, scratch) = Default::default();
        Site { store, board, lists, stats, scratch }
    }

    fn put(&mut self, table: &str) {
        let table = Arc::new(Table::parse(table.as_bytes().into()));
        self.board.change(vec![(TableChange::Put("a.quotes".into(), table), When::Now)]);
    }

    fn ask(&mut self, list: &str) -> Held {
        self.ask_in(list, false)
    }

    fn ask_in(&mut self, list: &str, json: bool) -> Held {
        let asked = Asked { list: list.as_bytes(), max_age: None, json };
        quotes::answer(&asked, self.store.quotes(), &mut self.lists, &mut self.scratch, &self.stats).ok().unwrap()
    }

    /// Whether the answer to `list` was there.
    fn has(&mut self, list: &str) -> bool {
        let joined = self.stats.lists_joined.get();
        self.ask(list);
        self.stats.lists_joined.get() == joined
    }
}

/// So many symbols with payloads of so many bytes, from `tick`.
fn table(symbols: usize, bytes: usize, tick: usize) -> String {
    (0..symbols).map(|number| format!("s{number}={tick},{number},{}\n", "9".repeat(bytes))).collect()
}

fn list(numbers: impl Iterator<Item = usize>) -> String {
    numbers.map(|number| format!("s{number}")).collect::<Vec<_>>().join(",")
}

#[test]
fn what_is_popular_outlives_a_scan() {
    let mut site = Site::new();
    site.put(&table(1000, 300, 0));
    let popular: Vec<String> = (0..200).map(|first| list(first..first + 20)).collect();
    for list in popular.iter().chain(&popular) {
        site.ask(list);
    }
    let held = alloc::held();
    let (mut again, mut once) = (String::new(), String::new());
    for number in 0..200_000 {
        // An unknown symbol is quickly joined.
        site.ask(&format!("u{number}"));
        // Popular lists are asked for now and then.
        if number % 500 == 0 {
            assert!(site.has(&popular[number / 500 % popular.len()]), "forgotten behind {number} others");
        }
        if number == 100_000 {
            // The first that was forgotten not long ago, and is asked for again.
            again = (0..100).map(|back| format!("u{}", number - 1000 * back)).find(|list| !site.has(list)).unwrap();
            once = format!("v{number}");
            site.ask(&once);
        }
    }
    for list in popular.iter().chain([&again]) {
        assert!(site.has(list), "{list}");
    }
    assert!(!site.has(&once), "there was no need to forget anything");
    let held = alloc::held() - held;
    // What was asked for once has a small part of the room, and what was forgotten a table of hashes.
    assert!(held <= LIST_BYTES as isize / 16, "{held} more bytes are held");
    assert!(site.has("u199900") && !site.has("u180000"));
}

/// What is popular grows and shrinks, and more of it than there is room for.
#[test]
fn what_grows_in_its_place_is_accounted_for() {
    let mut site = Site::new();
    let lists: Vec<String> = (0..200).map(|first| list(first..first + 30)).collect();
    // Of the market itself, as text and coded.
    let market = 15_000_000;
    let before = alloc::held();
    for (tick, bytes) in [300, 7000, 900, 6500].into_iter().enumerate() {
        site.put(&table(230, bytes, tick));
        for list in lists.iter().flat_map(|list| [list, list]) {
            assert!(site.ask(list).identity_len() > 30 * bytes);
        }
        let (held, least) = (alloc::held() - before, (200 * 30 * bytes).min(LIST_BYTES / 4 * 3));
        let bounds = least as isize..=LIST_BYTES as isize + market;
        assert!(bounds.contains(&held), "{held} bytes are held of {bytes} for each symbol");
    }
}

#[test]
fn what_is_too_large_is_not_kept_nor_what_it_replaces() {
    let mut site = Site::new();
    let all = list(0..56);
    for tick in 0..3 {
        site.put(&table(56, 10, tick));
        assert!(site.ask(&all).identity().unwrap().starts_with(format!("var hq_str_s0=\"{tick},").as_bytes()));
        assert!(site.has(&all));
        site.put(&table(56, 65_000, tick));
        let large = site.ask(&all);
        assert!(large.identity_len() > LIST_BYTES / 10);
        assert!(large.deflate_body().is_none(), "such payloads are not coded");
        assert!(!site.has(&all));
    }
}

#[test]
fn an_answer_is_as_large_as_it_may_be() {
    let mut site = Site::new();
    let around = "var hq_str_l00=\"\";\n".len();
    let payload = "0".repeat(MAX_LIST_ANSWER / 64 - around);
    let symbols: Vec<String> = (10..74).map(|number| format!("l{number}")).collect();
    site.put(&symbols.iter().map(|symbol| format!("{symbol}={payload}\n")).collect::<String>());
    let all = symbols.join(",");
    assert_eq!(site.ask(&all).identity_len(), MAX_LIST_ANSWER);
    let mut is_answered = |list: &str, json| {
        let asked = Asked { list: list.as_bytes(), max_age: None, json };
        quotes::answer(&asked, site.store.quotes(), &mut site.lists, &mut site.scratch, &site.stats).is_ok()
    };
    assert!(!is_answered(&format!("{all},x"), false));
    assert!(!is_answered(&["l10"; 65].join(","), false));
    // There a symbol stands once.
    assert!(is_answered(&["l10"; 65].join(","), true));
    assert!(is_answered(&format!("{all},x"), true));
    // So do unknown ones, each as `"…":null,`.
    let unknown = (0..15).map(|n| format!(",{n:032}")).collect::<String>();
    assert!(is_answered(&format!("{all}{unknown},{:031}", 0), true));
    assert!(!is_answered(&format!("{all}{unknown},{:032}", 15), true));
}

#[test]
fn only_what_has_changed_is_joined_again() {
    let mut site = Site::new();
    site.put("a=1\nb=2\nc=3\n");
    let text = |entry: &Held| String::from_utf8(entry.identity().unwrap().to_vec()).unwrap();
    assert_eq!(text(&site.ask("a,b,x")), "var hq_str_a=\"1\";\nvar hq_str_b=\"2\";\nvar hq_str_x=\"\";\n");
    assert_eq!(text(&site.ask_in("a,b,x", true)), r#"{"a":"1","b":"2","x":null}"#);
    assert!(site.has("a,b,x") && !site.has("b,a,x"));
    // Another symbol, as often as it likes.
    for tick in 0..5 {
        site.put(&format!("a=1\nb=2\nc={tick}\n"));
        assert!(site.has("a,b,x") && site.has("b,a,x"));
    }
    for (table, expected) in [
        ("a=1\nb=4\nc=3\n", r#"{"a":"1","b":"4","x":null}"#),
        ("a=1\nb=4\nc=3\nx=5\n", r#"{"a":"1","b":"4","x":"5"}"#),
        ("a=1\nc=3\nx=5\n", r#"{"a":"1","b":null,"x":"5"}"#),
        ("a=1\nb=4\nx=5\n", r#"{"a":"1","b":"4","x":"5"}"#),
        ("", r#"{"a":null,"b":null,"x":null}"#),
    ] {
        site.put(table);
        assert!(!site.has("a,b,x"));
        assert!(site.has("a,b,x"));
        assert_eq!(text(&site.ask_in("a,b,x", true)), expected);
    }
}

/// Quotes as feeds send them.
fn full_quotes(count: usize) -> String {
    let line = |number: usize| {
        let price = |n: usize| 1000 + number * 37 % 977 + n * 13 % 29;
        let prices = (0..16).map(|n| format!(",{}.{:02}", price(n) / 100, price(n) % 100));
        let volumes = (0..10).map(|n| format!(",{}", (number + 3) * (n + 7) * 7919 % 99_991));
        let rest: String = prices.chain(volumes).collect();
        format!("s_{}=股份{}{rest},2026-11-20,15:00:00,00\n", 600_000 + number, number % 7)
    };
    (0..count).map(line).collect()
}

#[test]
fn joined_answers_are_small_and_popular_ones_smaller() {
    let mut site = Site::new();
    site.put(&full_quotes(500));
    let of = |count: usize| (0..count).map(|n| format!("s_{}", 600_000 + n * 7)).collect::<Vec<_>>().join(",");
    let zlib = |content: &[u8]| {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(6));
        std::io::Write::write_all(&mut encoder, content).unwrap();
        encoder.finish().unwrap().len()
    };
    let (five, fifty) = (site.ask(&of(5)), site.ask(&of(50)));
    let joined = |entry: &Held| entry.deflate_body().unwrap().len();
    assert!(joined(&five) * 100 <= five.identity_len() * 75, "{} of {}", joined(&five), five.identity_len());
    let of_zlib = zlib(fifty.identity().unwrap());
    assert!(joined(&fifty) * 100 <= of_zlib * 112, "{}, by zlib {of_zlib}", joined(&fifty));
    assert_eq!(joined(&site.ask(&of(50))), joined(&fifty), "nobody improves it");

    site.store.quotes().improve_with(Improver::start().unwrap());
    let mut better = site.ask(&of(50));
    wait_until("the answer is compressed better", || {
        better = site.ask(&of(50));
        joined(&better) < joined(&fifty)
    });
    assert!(joined(&better) <= of_zlib, "{}, by zlib {of_zlib}", joined(&better));
    assert_eq!(better.identity(), fifty.identity());
    assert_eq!((better.etag(), better.stamp()), (fifty.etag(), fifty.stamp()));
    let mut content = vec![0; better.identity_len()];
    let len =
        libdeflater::Decompressor::new().deflate_decompress(better.deflate_body().unwrap(), &mut content).unwrap();
    assert_eq!(Some(&content[..len]), fifty.identity());
    // It is not given for what comes after it.
    site.put(&full_quotes(500).replace("15:00", "15:01"));
    assert!(site.ask(&of(50)).identity().unwrap().windows(8).any(|bytes| bytes == b"15:01:00"));
}
