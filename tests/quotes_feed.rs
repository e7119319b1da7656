//! Tables in the data directory: how they are published, that an answer is never of two ticks, several tables with one
//! symbol, tables that go and come back, and names that are no tables.

use std::{fs, io::Write, os::unix::fs::PermissionsExt, thread, time::Duration};

use crate::{
    cases::{case, check, get, get_with, status},
    harness::{OLD, Response, Server, Site, at, now, wait_until},
    quotes::{
        ask, full_quote, line, list, metric, never_mixed, script, symbols, table, tick_of, ticked, wait_for_quotes,
    },
};

/// A site of enough files that one of them may go without an alarm.
fn site() -> Site {
    let site = Site::new();
    for n in 0..6 {
        site.file(&format!("other{n}.txt"), "other");
    }
    site
}

fn tick_table(tick: u64, symbols: &[String]) -> String {
    table(symbols.iter().map(|symbol| (symbol, ticked(tick, symbol))))
}

/// Whether some symbols have some payloads now.
#[track_caller]
fn assert_quotes(server: &Server, symbols: &str, expected: &[(&str, &str)]) {
    assert_eq!(ask(server, symbols), script(expected));
}

#[test]
fn tables_are_rewritten_in_every_way() {
    let site = site();
    site.file("q.quotes", "a=1\nb=1\n");
    let server = Server::start(&site);
    site.replace("q.quotes", "a=2\nb=1\n", at(OLD + 1));
    wait_for_quotes(&server, "a,b", &[("a", "2"), ("b", "1")]);
    site.file("q.quotes", "a=3\nb=3\n");
    wait_for_quotes(&server, "a,b", &[("a", "3"), ("b", "3")]);
    let mut file = fs::OpenOptions::new().append(true).open(site.data().join("q.quotes")).unwrap();
    file.write_all(b"c=appended\na=4\n").unwrap();
    drop(file);
    wait_for_quotes(&server, "a,b,c", &[("a", "4"), ("b", "3"), ("c", "appended")]);
    site.file("new.quotes", "n=1\n");
    wait_for_quotes(&server, "n", &[("n", "1")]);
    fs::create_dir_all(site.data().join("deep/er")).unwrap();
    site.file("deep/er/d.quotes", "d=1\n");
    wait_for_quotes(&server, "d,n,a", &[("d", "1"), ("n", "1"), ("a", "4")]);
    fs::rename(site.data().join("deep"), site.data().join("moved")).unwrap();
    site.replace("moved/er/d.quotes", "d=2\n", at(now()));
    wait_for_quotes(&server, "d", &[("d", "2")]);
}

#[test]
fn no_answer_is_of_two_ticks_when_a_table_is_renamed_into_place() {
    let (site, symbols) = (site(), symbols(200));
    site.file("q.quotes", tick_table(0, &symbols));
    let server = Server::start(&site);
    never_mixed(&server, &symbols, 150, |tick| {
        site.replace("q.quotes", tick_table(tick, &symbols), at(now()));
    });
    let skipped = metric(&server, "cloudia_quote_lines_skipped_total{source=\"table\"}");
    assert_eq!(skipped, 0, "half a table was read");
}

#[test]
fn no_answer_is_of_two_ticks_when_a_table_is_rewritten_in_place() {
    let (site, symbols) = (site(), symbols(200));
    site.file("q.quotes", tick_table(0, &symbols));
    let server = Server::start(&site);
    never_mixed(&server, &symbols, 100, |tick| {
        let text = tick_table(tick, &symbols);
        let (front, back) = text.split_at(text.len() / 3);
        let mut file = fs::File::create(site.data().join("q.quotes")).unwrap();
        file.write_all(front.as_bytes()).unwrap();
        // Correct either way; the pause only makes it likely that a part of the table is there to be seen.
        thread::sleep(Duration::from_millis(2));
        file.write_all(back.as_bytes()).unwrap();
        drop(file);
        // The empty file that a rewrite begins with is kept from readers only if the bytes come soon, so the next one waits.
        wait_until("the tick", || tick_of(&server.get(&list(&symbols), &[]), &symbols) == tick);
    });
}

/// A small list of a large table, which is changed in all its symbols: the list is joined while versions pass by.
#[test]
fn small_lists_of_a_large_table_are_of_one_tick() {
    let (site, symbols) = (site(), symbols(3000));
    site.file("q.quotes", tick_table(0, &symbols));
    let server = Server::start(&site);
    let few: Vec<String> = [0, 2999, 1500, 7, 2998].map(|n| symbols[n].clone()).into();
    never_mixed(&server, &few, 40, |tick| {
        site.replace("q.quotes", tick_table(tick, &symbols), at(now()));
    });
}

/// Answers that wait for a client to take them are of one tick each, whatever has become of the table meanwhile.
#[test]
fn a_slow_reader_gets_whole_ticks() {
    let (site, symbols) = (site(), symbols(50));
    // A megabyte, so that a socket does not hold it.
    let large = |tick: u64| symbols.iter().map(|symbol| (symbol, ticked(tick, symbol).repeat(300))).collect::<Vec<_>>();
    let is_whole = |answer: &Response, tick: u64| {
        let expected: String = large(tick).iter().map(|(symbol, payload)| line(symbol, payload)).collect();
        answer.decoded() == expected.as_bytes()
    };
    site.file("q.quotes", table(large(0)));
    let server = Server::start(&site);
    let mut slow: Vec<_> = ["identity", "identity", "gzip", "deflate"]
        .map(|coding| {
            let mut conn = server.connect();
            conn.send(get_with(list(&symbols), &[&format!("Accept-Encoding: {coding}")]).repeat(12));
            conn
        })
        .into();
    for tick in 1..=10 {
        site.replace("q.quotes", table(large(tick)), at(now()));
        wait_until("the tick", || is_whole(&server.get(&list(&symbols), &[]), tick));
    }
    for conn in &mut slow {
        let mut latest = 0;
        for _ in 0..12 {
            let answer = conn.recv();
            let tick = (latest..=10).find(|tick| is_whole(&answer, *tick));
            latest = tick.unwrap_or_else(|| panic!("of no tick from {latest} on: {answer}"));
        }
        conn.assert_open();
    }
}

/// It is read at its close; half of it, or nothing, is no version.
#[test]
fn a_table_is_read_when_its_writer_closes_it() {
    let site = site();
    site.file("q.quotes", "a=1\nb=1\n").file("z.quotes", "z=0\n");
    let server = Server::start(&site);
    let mut file = fs::File::create(site.data().join("q.quotes")).unwrap();
    for half in ["", "a=2\nb"] {
        file.write_all(half.as_bytes()).unwrap();
        // Whatever came of it has come before this.
        let other = format!("{}", half.len());
        site.replace("z.quotes", format!("z={other}\n"), at(now()));
        wait_for_quotes(&server, "z,a,b", &[("z", &other), ("a", "1"), ("b", "1")]);
    }
    file.write_all(b"=2\n").unwrap();
    drop(file);
    wait_for_quotes(&server, "a,b", &[("a", "2"), ("b", "2")]);
    // A new one is none before its first close.
    let mut file = fs::File::create(site.data().join("new.quotes")).unwrap();
    file.write_all(b"n=1\nm=").unwrap();
    site.replace("z.quotes", "z=new\n", at(now()));
    wait_for_quotes(&server, "z,n", &[("z", "new"), ("n", "")]);
    file.write_all(b"1\n").unwrap();
    drop(file);
    wait_for_quotes(&server, "n,m", &[("n", "1"), ("m", "1")]);
    // One that is never closed is read when it has been still for two seconds.
    let mut file = fs::OpenOptions::new().append(true).open(site.data().join("new.quotes")).unwrap();
    file.write_all(b"n=2\n").unwrap();
    wait_for_quotes(&server, "n,m", &[("n", "2"), ("m", "1")]);
    drop(file);
}

/// A table that may no longer be read keeps its last version.
#[test]
fn a_table_without_rights_keeps_its_last_version() {
    let site = site();
    site.file("q.quotes", "a=1\n").file("z.quotes", "z=0\n");
    let server = crate::faulty::as_nobody(&site).start();
    let mode = |mode: u32| fs::set_permissions(site.data().join("q.quotes"), fs::Permissions::from_mode(mode)).unwrap();
    mode(0);
    wait_until("the refusal to be told", || server.stderr().contains("q.quotes"));
    site.replace("z.quotes", "z=1\n", at(now()));
    wait_for_quotes(&server, "z,a", &[("z", "1"), ("a", "1")]);
    fs::write(site.data().join("q.quotes"), "a=2\n").unwrap();
    mode(0o644);
    wait_for_quotes(&server, "a", &[("a", "2")]);
}

/// What comes from one table is of one tick of it, whatever another table does.
#[test]
fn of_two_tables_each_is_of_one_tick() {
    let site = site();
    let (odd, even) = (symbols(40), symbols(80).split_off(40));
    site.file("a.quotes", tick_table(0, &odd)).file("b.quotes", tick_table(0, &even));
    let server = Server::start(&site);
    let mixed: Vec<String> = odd.iter().zip(&even).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
    let path = list(&mixed);
    let mut conn = server.connect();
    thread::scope(|scope| {
        for (name, symbols) in [("a.quotes", &odd), ("b.quotes", &even)] {
            let site = &site;
            scope.spawn(move || {
                for tick in 1..=100 {
                    site.replace(name, tick_table(tick, symbols), at(now()));
                }
            });
        }
        let mut ticks = [0, 0];
        wait_until("both to have ended", || {
            conn.send(get(&path));
            let text = conn.recv().text();
            let lines: Vec<&str> = text.split_inclusive('\n').collect();
            for (table, symbols) in [&odd, &even].into_iter().enumerate() {
                let of_table: Vec<&str> = lines.iter().skip(table).step_by(2).copied().collect();
                let tick = of_table[0].split(['k', ',']).nth(1).and_then(|tick| tick.parse().ok()).expect("a tick");
                let expected: String = symbols.iter().map(|symbol| line(symbol, ticked(tick, symbol))).collect();
                assert_eq!(of_table.concat(), expected, "table {table}");
                assert!(tick >= ticks[table]);
                ticks[table] = tick;
            }
            ticks == [100, 100]
        });
    });
}

#[test]
fn a_symbol_in_two_tables_belongs_to_the_first_path() {
    let site = site();
    site.file("b.quotes", "x=of b\nonly_b=1\n").file("c/a.quotes", "x=of c\n").file("a.quotes", "x=of a\nonly_a=1\n");
    let server = Server::start(&site);
    assert_quotes(&server, "x,only_a,only_b", &[("x", "of a"), ("only_a", "1"), ("only_b", "1")]);
    let warned = server.stderr();
    assert!(warned.contains("a.quotes") && warned.contains("b.quotes"), "a warning names both: {warned}");
    // The others change and are not heard.
    site.replace("b.quotes", "x=of b again\nonly_b=2\n", at(now()));
    wait_for_quotes(&server, "only_b,x", &[("only_b", "2"), ("x", "of a")]);
    // The first one drops it.
    site.replace("a.quotes", "only_a=2\n", at(now()));
    wait_for_quotes(&server, "only_a,x", &[("only_a", "2"), ("x", "of b again")]);
    // And has it again.
    site.replace("a.quotes", "only_a=3\nx=of a again\n", at(now()));
    wait_for_quotes(&server, "only_a,x", &[("only_a", "3"), ("x", "of a again")]);
    // The first one goes, then the second, then the last.
    site.remove("a.quotes");
    wait_for_quotes(&server, "only_a,x", &[("only_a", ""), ("x", "of b again")]);
    site.remove("b.quotes");
    wait_for_quotes(&server, "only_b,x", &[("only_b", ""), ("x", "of c")]);
    site.remove("c/a.quotes");
    wait_for_quotes(&server, "x", &[("x", "")]);
}

/// A table that comes later and sorts first takes its symbols over.
#[test]
fn a_table_that_comes_first_later() {
    let site = site();
    site.file("m.quotes", "x=of m\ny=1\n");
    let server = Server::start(&site);
    assert!(!server.stderr().contains("m.quotes"), "{}", server.stderr());
    site.file("b.quotes", "x=of b\nz=1\n");
    wait_for_quotes(&server, "z,x,y", &[("z", "1"), ("x", "of b"), ("y", "1")]);
    wait_until("a warning", || server.stderr().contains("m.quotes") && server.stderr().contains("b.quotes"));
    site.file("z.quotes", "x=of z\nw=1\n");
    wait_for_quotes(&server, "w,x", &[("w", "1"), ("x", "of b")]);
}

#[test]
fn tables_go_and_come_back() {
    let site = site();
    site.file("a.quotes", "a=1\n").file("dir/b.quotes", "b=1\n").file("dir/file.txt", "file");
    let server = Server::start(&site);
    assert_eq!(metric(&server, "cloudia_quote_tables"), 2);
    assert_eq!(metric(&server, "cloudia_quote_symbols"), 2);
    site.remove("a.quotes");
    wait_for_quotes(&server, "a,b", &[("a", ""), ("b", "1")]);
    assert_eq!(server.get("/list=a,b&format=json", &[]).text(), "{\"a\":null,\"b\":\"1\"}");
    site.file("a.quotes", "a=2\n");
    wait_for_quotes(&server, "a,b", &[("a", "2"), ("b", "1")]);
    fs::rename(site.data().join("dir"), site.data().join("aside")).unwrap();
    // In its new place it is a table as before.
    site.replace("aside/b.quotes", "b=3\n", at(now()));
    wait_for_quotes(&server, "a,b", &[("a", "2"), ("b", "3")]);
    fs::remove_dir_all(site.data().join("aside")).unwrap();
    wait_for_quotes(&server, "a,b", &[("a", "2"), ("b", "")]);
    site.replace("a.quotes", "", at(now()));
    wait_for_quotes(&server, "a", &[("a", "")]);
    site.replace("a.quotes", "a=4\n", at(now()));
    wait_for_quotes(&server, "a", &[("a", "4")]);
    // A directory in its place.
    site.remove("a.quotes");
    fs::create_dir(site.data().join("a.quotes")).unwrap();
    wait_for_quotes(&server, "a", &[("a", "")]);
}

#[test]
fn tables_are_never_files() {
    let site = site();
    let market = table((0..50).map(|n| (format!("s{n}"), full_quote(n))));
    site.file("q.quotes", &market)
        .file("dir/q.quotes", "d=1\n")
        .file("m.quotes.mz", crate::feed::gzip(b"m=1\n"))
        .file("q.quotes.gz", crate::feed::gzip(market.as_bytes()))
        .file("index.html", "<index>")
        .link("link.txt", "q.quotes");
    let server = Server::start(&site);
    let paths = [
        "/q.quotes",
        "/dir/q.quotes",
        "/%71.quotes",
        "/q%2Equotes",
        "//q.quotes",
        "/./q.quotes?x",
        "/q.quotes.mz",
        "/m.quotes",
        "/m.quotes.mz",
        "/q.quotes.gz",
        "/link.txt",
    ];
    check(&server, paths.map(|path| case(path, get(path), status(404))));
    site.file("late.quotes", "late=1\n");
    wait_for_quotes(&server, "late", &[("late", "1")]);
    check(&server, [case("late", get("/late.quotes"), status(404))]);
}

/// Hidden, temporary and foreign files are no tables; what only looks like them is.
#[test]
fn what_is_not_published_is_no_table() {
    let site = site();
    for (name, symbol) in [
        (".hidden.quotes", "hidden"),
        (".quotes", "bare"),
        (".git/q.quotes", "git"),
        ("q.quotes~", "backup"),
        ("q.quotes.tmp", "tmp"),
        ("q.quotes.part", "part"),
        ("q.quotes.swp", "swp"),
        ("up.tmp/q.quotes", "uploading"),
        ("q.quotes.txt", "txt"),
        ("quotes", "quotes"),
        ("q.QUOTES", "upper"),
        ("real.quotes", "real"),
        (".well-known/w.quotes", "wellknown"),
        ("#q.quotes", "sharp"),
    ] {
        site.file(name, format!("{symbol}=1\n"));
    }
    fs::write(site.outside().join("secret.quotes"), "secret=1\n").unwrap();
    site.link("out.quotes", site.outside().join("secret.quotes")).link("to-hidden.quotes", ".hidden.quotes");
    site.link("dangling.quotes", "nowhere").link("loop.quotes", "loop.quotes");
    let server = Server::start(&site);
    for symbol in
        ["hidden", "bare", "git", "backup", "tmp", "part", "swp", "uploading", "txt", "quotes", "upper", "secret"]
    {
        assert_quotes(&server, symbol, &[(symbol, "")]);
    }
    assert_quotes(&server, "real,sharp,wellknown", &[("real", "1"), ("sharp", "1"), ("wellknown", "1")]);
}

/// As Kubernetes publishes: the link to the directory is swapped, and all tables below it with it.
#[test]
fn tables_behind_links() {
    let site = site();
    site.file("..one/q.quotes", "a=1\nb=1\n").file("..two/q.quotes", "a=2\nb=2\n");
    site.link("..data", "..one").link("q.quotes", "..data/q.quotes");
    let server = Server::start(&site);
    assert_quotes(&server, "a,b", &[("a", "1"), ("b", "1")]);
    site.link("..data_tmp", "..two");
    fs::rename(site.data().join("..data_tmp"), site.data().join("..data")).unwrap();
    wait_for_quotes(&server, "a,b", &[("a", "2"), ("b", "2")]);
}

/// Most files vanish at once, tables among them: all are kept for a while, then believed gone.
#[test]
fn tables_that_vanish_with_most_of_the_files_are_kept_for_a_while() {
    let site = Site::new();
    site.file("q.quotes", "a=1\n").file("r.quotes", "b=1\n");
    let names = ["x.txt", "y.txt", "q.quotes", "z.txt", "r.quotes"];
    for name in ["x.txt", "y.txt", "z.txt"] {
        site.file(name, name);
    }
    let server = Server::start(&site);
    let aside = site.outside().join("aside");
    fs::create_dir(&aside).unwrap();
    for name in names {
        fs::rename(site.data().join(name), aside.join(name)).unwrap();
    }
    wait_until("the loss to be told", || server.stderr().contains("have vanished"));
    // By then none has been held for its five seconds.
    assert_quotes(&server, "a,b", &[("a", "1"), ("b", "1")]);
    wait_for_quotes(&server, "a,b", &[("a", ""), ("b", "")]);
    fs::rename(aside.join("q.quotes"), site.data().join("q.quotes")).unwrap();
    wait_for_quotes(&server, "a,b", &[("a", "1"), ("b", "")]);
}

#[test]
fn tables_of_a_data_directory_that_goes_are_kept() {
    let site = site();
    site.file("q.quotes", "a=1\n");
    let server = Server::start(&site);
    let aside = site.outside().join("aside");
    fs::rename(site.data(), &aside).unwrap();
    wait_until("the loss to be told", || server.stderr().contains("last content is still served"));
    assert_quotes(&server, "a", &[("a", "1")]);
    fs::rename(&aside, site.data()).unwrap();
    site.file("q.quotes", "a=2\n");
    wait_for_quotes(&server, "a", &[("a", "2")]);
}

/// What is too large is refused with a line that says so; its last version stays.
#[test]
fn tables_that_are_too_large_keep_their_last_version() {
    let site = site();
    site.file("q.quotes", "a=1\n").file("r.quotes", "b=1\n").file("z.quotes", "z=1\n");
    let server = Server::builder(&site).flag("--memory-limit", "4M").start();
    let market = table((0..10_000).map(|n| (format!("s{n}"), full_quote(n)))) + "a=2\n";
    site.replace("q.quotes", market, at(now()));
    wait_until("the first refusal to be told", || server.stderr().contains("q.quotes"));
    // Beyond what any file may have.
    let aside = site.outside().join("r.quotes");
    fs::write(&aside, "b=2\n").unwrap();
    fs::OpenOptions::new().write(true).open(&aside).unwrap().set_len(65 << 20).unwrap();
    fs::rename(&aside, site.data().join("r.quotes")).unwrap();
    wait_until("the second refusal to be told", || server.stderr().contains("r.quotes"));
    site.replace("z.quotes", "z=2\n", at(now()));
    wait_for_quotes(&server, "z,a,b,s1", &[("z", "2"), ("a", "1"), ("b", "1"), ("s1", "")]);
    site.replace("q.quotes", "a=3\n", at(now())).replace("r.quotes", "b=3\n", at(now()));
    wait_for_quotes(&server, "a,b", &[("a", "3"), ("b", "3")]);
}

/// A version is counted when something in it has changed.
#[test]
fn versions_are_counted() {
    let site = site();
    site.file("q.quotes", "a=0\nb=0\n").file("r.quotes", "r=0\n");
    let server = Server::start(&site);
    let versions = || metric(&server, "cloudia_quote_versions_total");
    let before = versions();
    for tick in 1..=5 {
        let payload = tick.to_string();
        site.replace("q.quotes", format!("a={tick}\nb=0\n"), at(now()));
        wait_for_quotes(&server, "a", &[("a", &payload)]);
    }
    wait_until("five versions", || versions() == before + 5);
    site.mtime("q.quotes", at(now()));
    site.replace("q.quotes", "a=5\nb=0\n", at(now()));
    site.replace("r.quotes", "r=1\n", at(now()));
    wait_for_quotes(&server, "r", &[("r", "1")]);
    wait_until("one more", || versions() == before + 6);
}
