//! Feeders that misbehave, who may feed, and the socket's life: none harms another feeder or a reader.

use std::{
    collections::HashMap,
    fs,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixListener,
    },
    path::Path,
    process::Command,
};

use crate::{
    cases::get,
    faulty::Vitals,
    harness::{Server, Site, now, wait_until},
    quotes::{ask, assert_refused, full_quote, line, metric, run_python, table, wait_for_quotes, with_settings},
    quotes_socket::{Feeder, settings, site, start},
};

/// Another feeder's batch is seen, and files and lists are answered.
#[track_caller]
fn assert_prompt(server: &Server, socket: &Path, tick: usize) {
    let mut feeder = Feeder::to(socket);
    feeder.send(format!("prompt={tick}\n\n"));
    let payload = tick.to_string();
    wait_for_quotes(server, "prompt", &[("prompt", &payload)]);
    feeder.assert_silence();
    server.connect().assert_open();
}

#[test]
fn a_feeder_that_stalls_in_a_line_harms_nobody() {
    let (site, socket) = site();
    let server = start(&site, &socket);
    let mut stalled: Vec<Feeder> = ["a=1\nb=half", "c", "a=1\n", "d=1\r", ""]
        .map(|text| {
            let mut feeder = Feeder::to(&socket);
            feeder.send(text);
            feeder
        })
        .into();
    for tick in 0..5 {
        assert_prompt(&server, &socket, tick);
    }
    wait_for_quotes(&server, "a,b,c", &[("a", ""), ("b", ""), ("c", "")]);
    // It was slow and no worse.
    stalled[0].send(" a line\n\n");
    wait_for_quotes(&server, "a,b", &[("a", "1"), ("b", "half a line")]);
    stalled[1].send("=1\n\n");
    wait_for_quotes(&server, "c", &[("c", "1")]);
}

#[test]
fn a_feeder_that_never_reads_its_errors_harms_nobody() {
    let (site, socket) = site();
    let server = start(&site, &socket);
    assert_prompt(&server, &socket, 0);
    let vitals = Vitals::of(&server);
    let mut deaf: Vec<Feeder> = (0..4).map(|_| Feeder::to(&socket)).collect();
    let bad = b"bad\n".repeat(16_384);
    for tick in 1..20 {
        for feeder in &mut deaf {
            feeder.send_what_fits(&bad);
        }
        assert_prompt(&server, &socket, tick);
    }
    assert!(metric(&server, "cloudia_quote_lines_skipped_total{source=\"socket\"}") > 0);
    drop(deaf);
    vitals.assert_kept(&server, 32);
    assert_prompt(&server, &socket, 20);
}

#[test]
fn feeders_that_die_at_any_moment() {
    let (site, socket) = site();
    let server = start(&site, &socket);
    let mut keeper = Feeder::to(&socket);
    keeper.send("kept=1\n\n");
    wait_for_quotes(&server, "kept", &[("kept", "1")]);
    let vitals = Vitals::of(&server);
    let text = format!("dead=1\nbad\n{}dead=2\n", table((0..50).map(|n| (format!("dead{n}"), full_quote(n)))));
    for cut in (0..text.len()).step_by(text.len() / 60) {
        // Closed with an error unread, and with lines not taken yet.
        Feeder::to(&socket).send_what_fits(&text.as_bytes()[..cut]);
    }
    // A batch that has ended counts, although its feeder did not wait to hear of the bad line.
    Feeder::to(&socket).send("bad\nlast=words\nbad\n\n");
    wait_for_quotes(&server, "last", &[("last", "words")]);
    assert_prompt(&server, &socket, 1);
    vitals.assert_kept(&server, 16);
    keeper.send("kept=2\n\n");
    wait_for_quotes(&server, "kept,dead,dead0", &[("kept", "2"), ("dead", ""), ("dead0", "")]);
    keeper.assert_silence();
}

#[test]
fn lines_have_64_kib_at_the_most() {
    let (site, socket) = site();
    let server = start(&site, &socket);
    let mut feeder = Feeder::to(&socket);
    let long = |length: usize| format!("long={}\n", "x".repeat(length - "long=".len()));
    feeder.send(long(65_536) + "a=1\n\n");
    wait_until("the longest line", || ask(&server, "long").len() > 65_000);
    wait_for_quotes(&server, "a", &[("a", "1")]);
    feeder.assert_silence();
    let mut lines = 3;
    for (tick, length) in [65_537, 65_538, 100_000, 131_072, 131_073, 1_000_000].into_iter().enumerate() {
        feeder.send("before=".to_owned() + &tick.to_string() + "\n" + &long(length) + &format!("after={tick}\n\n"));
        feeder.assert_error(lines + 2);
        lines += 4;
        let payload = tick.to_string();
        wait_for_quotes(&server, "after,before", &[("after", &payload), ("before", &payload)]);
    }
    // The one before stays: a bad line changes nothing.
    assert!(ask(&server, "long").len() > 65_000);
    feeder.assert_silence();
}

#[test]
fn a_line_without_end_takes_no_memory() {
    let (site, socket) = site();
    let server = start(&site, &socket);
    let mut feeder = Feeder::to(&socket);
    feeder.send("a=1\n\n");
    wait_for_quotes(&server, "a", &[("a", "1")]);
    let vitals = Vitals::of(&server);
    let piece = vec![b'x'; 1 << 20];
    feeder.send("a=");
    for _ in 0..64 {
        feeder.send(&piece);
    }
    assert_prompt(&server, &socket, 1);
    vitals.assert_kept(&server, 24);
    feeder.send("\nb=1\n\n");
    feeder.assert_error(3);
    wait_for_quotes(&server, "b,a", &[("b", "1"), ("a", "1")]);
    feeder.assert_silence();
}

/// Lines and no blank line: it is cut or told of, and takes no more memory than there is.
#[test]
fn a_batch_without_end_harms_nobody() {
    let (site, socket) = site();
    let server = start(&site, &socket);
    assert_prompt(&server, &socket, 0);
    let vitals = Vitals::of(&server);
    let mut endless = Feeder::to(&socket);
    let mut written = 0;
    for n in 0.. {
        let lines = table((0..200).map(|line| (format!("n{n}_{line}"), full_quote(line))));
        written += lines.len();
        if endless.try_send(&lines).is_err() || written > 200 << 20 {
            break;
        }
        if n % 500 == 0 {
            assert_prompt(&server, &socket, n);
        }
    }
    assert_eq!(ask(&server, "n0_0"), line("n0_0", ""));
    drop(endless);
    assert_prompt(&server, &socket, 1);
    vitals.assert_kept(&server, 150);
}

#[test]
fn very_many_connections_harm_nobody() {
    let (site, socket) = site();
    let server = start(&site, &socket);
    assert_prompt(&server, &socket, 0);
    let vitals = Vitals::of(&server);
    for round in 1..=4 {
        let feeders: Vec<Feeder> = (0..100).map(|_| Feeder::to(&socket)).collect();
        server.connect().assert_open();
        drop(feeders);
        // There may be a bound, under which those that are gone count until that is noticed.
        wait_until("a place for a feeder", || {
            let mut feeder = Feeder::to(&socket);
            feeder.try_send("place=1\n\n").ok();
            feeder.try_send("\n").ok();
            feeder.shut();
            feeder.hear().is_none()
        });
        assert_prompt(&server, &socket, round);
    }
    vitals.assert_kept(&server, 16);
}

/// A socket where other users can reach it, and a server's settings with it.
fn open_socket() -> (tempfile::TempDir, String) {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let settings = settings(&place.path().join("feed"));
    (place, settings)
}

/// Feeds a batch as another user, and what the server said to that.
fn feed_as(user: &str, socket: &Path, batch: &str) -> String {
    const FEED: &str = "
import socket, sys
feeder = socket.socket(socket.AF_UNIX)
feeder.settimeout(20)
try:
    feeder.connect(sys.argv[1])
    feeder.sendall(sys.argv[2].encode())
    feeder.shutdown(socket.SHUT_WR)
    while said := feeder.recv(4096):
        sys.stdout.write(said.decode())
except (BrokenPipeError, ConnectionResetError, PermissionError) as refusal:
    sys.stdout.write(type(refusal).__name__)
";
    let ids = [format!("--reuid={user}"), format!("--regid={user}")];
    let ids = if user == "nobody" { [ids[0].clone(), "--regid=nogroup".to_owned()] } else { ids };
    let mut command = Command::new("setpriv");
    // One that every user may run: the first in our own PATH may be in a home directory.
    command.args(ids).args(["--clear-groups", "/usr/bin/python3", "-c", FEED]).arg(socket).arg(batch);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{user}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: only root can be other users");
    }
    is_root
}

#[test]
fn the_socket_is_for_its_owner_and_group() {
    let (site, socket) = site();
    let _server = start(&site, &socket);
    let found = fs::symlink_metadata(&socket).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o7777, 0o660);
}

#[test]
fn strangers_are_refused_whatever_the_mode_says() {
    if !is_root() {
        return;
    }
    for (settings_more, feeder, stranger) in
        [("", "root", "daemon"), ("feeders = [\"daemon\"]\n", "daemon", "nobody"), ("feeders = []\n", "root", "nobody")]
    {
        let (place, settings) = open_socket();
        let socket = place.path().join("feed");
        let site = Site::new();
        let server = with_settings(&site, &(settings + settings_more)).start();
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
        let said = feed_as(stranger, &socket, "stranger=1\n\n");
        assert_eq!(feed_as(feeder, &socket, "friend=1\n\n"), "", "{feeder} may feed");
        assert_eq!(feed_as("root", &socket, "root=1\n\n"), "", "root may feed");
        wait_for_quotes(&server, "root,friend,stranger", &[("root", "1"), ("friend", "1"), ("stranger", "")]);
        assert!(said.is_empty() || said.starts_with("error: ") || !said.contains('\n'), "{said:?}");
        server.connect().assert_open();
    }
}

#[test]
fn the_servers_own_user_may_feed() {
    if !is_root() {
        return;
    }
    let (place, settings) = open_socket();
    let socket = place.path().join("feed");
    let site = Site::new();
    let mut server = with_settings(&site, &settings).flag("--user", "nobody").start();
    assert_eq!(feed_as("nobody", &socket, "first=1\n\n"), "", "its socket is its own");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(feed_as("nobody", &socket, "own=1\n\n"), "");
    assert_eq!(feed_as("root", &socket, "root=1\n\n"), "");
    feed_as("daemon", &socket, "stranger=1\n\n");
    wait_for_quotes(
        &server,
        "first,own,root,stranger",
        &[("first", "1"), ("own", "1"), ("root", "1"), ("stranger", "")],
    );
    assert_eq!(server.stop().code(), Some(0));
    assert!(!fs::exists(&socket).unwrap(), "removed at the end");
}

#[test]
fn unknown_feeders_are_refused_at_the_start() {
    let place = tempfile::tempdir().unwrap();
    let settings = settings(&place.path().join("feed")) + "feeders = [\"no-such-user\"]\n";
    let ended = with_settings(&Site::new(), &settings).end();
    assert_refused(&ended, "feeders", 2, &["no-such-user", "feeders"]);
}

#[test]
fn the_socket_goes_at_a_clean_end_and_a_killed_ones_is_taken_over() {
    let (site, socket) = site();
    for signal in ["TERM", "INT", "HUP"] {
        let mut server = start(&site, &socket);
        // With one feeder in a batch and one at rest.
        let mut feeders = [Feeder::to(&socket), Feeder::to(&socket)];
        feeders[0].send("a=1\n");
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0), "{signal}");
        assert!(!fs::exists(&socket).unwrap(), "{signal}: the socket is left");
        assert_eq!(feeders[1].hear(), None, "{signal}");
    }
    let mut server = start(&site, &socket);
    Feeder::to(&socket).send("a=1\n\n");
    wait_for_quotes(&server, "a", &[("a", "1")]);
    server.kill();
    assert!(fs::symlink_metadata(&socket).unwrap().file_type().is_socket(), "left over");
    for _ in 0..2 {
        let mut server = start(&site, &socket);
        Feeder::to(&socket).send("b=1\n\n");
        wait_for_quotes(&server, "a,b", &[("a", ""), ("b", "1")]);
        server.kill();
    }
}

#[test]
fn a_socket_in_use_is_refused() {
    let (site, socket) = site();
    let server = start(&site, &socket);
    let path = socket.to_str().unwrap();
    let other = Site::new();
    assert_refused(&with_settings(&other, &settings(&socket)).end(), "of a cloudia", 2, &[path, "socket"]);
    Feeder::to(&socket).send("a=1\n\n");
    wait_for_quotes(&server, "a", &[("a", "1")]);
    let foreign = site.outside().join("foreign");
    let _listener = UnixListener::bind(&foreign).unwrap();
    let ended = with_settings(&other, &settings(&foreign)).end();
    assert_refused(&ended, "of another program", 2, &[foreign.to_str().unwrap(), "socket"]);
    assert!(fs::exists(&foreign).unwrap());
}

#[test]
fn paths_that_can_hold_no_socket_are_refused() {
    let (site, _) = site();
    let file = site.outside().join("precious");
    fs::write(&file, "precious").unwrap();
    let directory = site.outside().join("directory");
    fs::create_dir(&directory).unwrap();
    let long = site.outside().join("x".repeat(200));
    let missing = site.outside().join("missing/feed");
    for path in [&file, &directory, &long, &missing] {
        let ended = with_settings(&site, &settings(path)).end();
        assert_refused(&ended, "a path", 2, &[path.to_str().unwrap(), "socket"]);
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    assert!(directory.is_dir());
}

/// A foreign program as simple as they are.
#[test]
fn python_feeds() {
    const FEED: &str = "
import socket, sys
path, = sys.stdin.read().splitlines()
feeder = socket.socket(socket.AF_UNIX)
feeder.connect(path)
out = feeder.makefile('w', encoding='utf-8')
for tick in range(1000):
    out.write(f'py={tick}\\nname=绵世\\n\\n')
out.flush()
feeder.shutdown(socket.SHUT_WR)
sys.stdout.buffer.write(feeder.recv(100))
";
    let (site, socket) = site();
    let server = start(&site, &socket);
    assert_eq!(run_python(FEED, socket.to_str().unwrap().as_bytes()), b"");
    wait_for_quotes(&server, "py,name", &[("py", "999"), ("name", "绵世")]);
}

/// Batches without pause, over the ends of seconds: what is sent under the `Last-Modified` of the payload before it is soon
/// sent under another, so that nobody who holds that one is stuck with it.
#[test]
fn a_batch_at_the_end_of_a_second_reaches_everyone() {
    let (site, socket) = site();
    // Many symbols, so that it takes a while to publish one.
    site.file("large.quotes", table((0..100_000).map(|n| (format!("s{n}"), n))));
    let server = start(&site, &socket);
    let mut feeder = Feeder::to(&socket);
    let mut dates = HashMap::<String, String>::new();
    let mut conn = server.connect();
    let mut look = || {
        conn.send(get("/list=x"));
        let answer = conn.recv();
        (answer.get("last-modified").map(str::to_owned), answer.text())
    };
    let end = now() + 12;
    for n in 0.. {
        feeder.send(format!("x={n}\n\n"));
        let expected = line("x", n);
        let date = loop {
            let (date, text) = look();
            if text == expected {
                break date;
            }
            dates.extend(date.map(|date| (date, text)));
        };
        if date.as_ref().is_some_and(|date| dates.contains_key(date)) {
            wait_until("another date", || look().0 != date);
        }
        if now() > end {
            break;
        }
    }
}
