//! How it starts, and how it refuses to: one line that names the thing and the remedy.

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::Path,
    process::Command,
    thread,
};

use crate::{
    cases::get,
    harness::{Conn, Ended, Launch, Server, Site, own_address, wait_until},
};

/// What formats.md fixes of the command line.
const FLAGS: [&str; 12] = [
    "--data",
    "--listen",
    "--admin",
    "--workers",
    "--config",
    "--keep-alive-timeout",
    "--header-timeout",
    "--send-timeout",
    "--grace",
    "--user",
    "--max-connections",
    "--io",
];

/// An address that no machine has (RFC 1112 §4), so that a server which is told of it names it and ends.
const NOWHERE: &str = "240.0.0.1";

/// What is wrong with the end of a start that was refused: it must say one line, with all of `words` in it.
fn fault(ended: &Ended, code: i32, words: &[&str]) -> Option<String> {
    let said = &ended.stderr;
    let alarming = ["panicked", "backtrace", "RUST_", "src/", "Os {", "Error(", "\u{1b}"];
    if ended.code != Some(code) {
        return Some(format!("exit code {:?} instead of {code}", ended.code));
    }
    if !ended.stdout.is_empty() {
        return Some(format!("it says {:?} on stdout", ended.stdout));
    }
    if said.lines().count() != 1 || !said.ends_with('\n') || !said.starts_with("cloudia: ") {
        return Some("it is not one line".to_owned());
    }
    if let Some(word) = alarming.iter().find(|word| said.contains(*word)) {
        return Some(format!("it shows {word:?}"));
    }
    words.iter().find(|word| !said.contains(*word)).map(|word| format!("it does not say {word:?}"))
}

#[track_caller]
fn assert_refused(launch: Launch, words: &[&str]) {
    let ended = launch.env("RUST_BACKTRACE", 1).end();
    let fault = fault(&ended, 2, words);
    assert!(fault.is_none(), "{}: {ended:?}", fault.unwrap_or_default());
}

/// Runs the bare program with each line's arguments and reports all that fail.
#[track_caller]
pub(crate) fn check(code: i32, table: &[(&[&str], &[&str])]) {
    let site = Site::new();
    let mut report = String::new();
    for (args, words) in table {
        let ended = Server::builder(&site).bare().args(args).env("RUST_BACKTRACE", 1).end();
        if let Some(fault) = fault(&ended, code, words) {
            report.push_str(&format!("\n{args:?}: {fault}: {:?}", ended.stderr));
        }
    }
    assert!(report.is_empty(), "{report}");
}

#[test]
fn wrong_flags_are_refused() {
    check(
        2,
        &[
            (&["--listn", "127.0.0.1:0"], &["--listn", "--listen"]),
            (&["serve", "--keepalive-timeout", "5"], &["--keepalive-timeout", "--keep-alive-timeout"]),
            (&["--nonsense"], &["--nonsense", "--help"]),
            (&["-x"], &["-x", "--help"]),
            (&["sevre"], &["sevre", "serve"]),
            (&["serve", "surplus"], &["surplus", "--help"]),
            (&["--data"], &["--data", "--help"]),
            (&["--data", "a", "--data", "b"], &["--data", "--help"]),
            (&["check"], &["--config", "--help"]),
            (&["check", "--confg", "x"], &["--confg", "--config"]),
        ],
    );
}

#[test]
fn bad_values_are_refused() {
    check(
        2,
        &[
            (&["--listen", "nonsense"], &["--listen", "\"nonsense\"", "127.0.0.1:8080"]),
            (&["--listen", "127.0.0.1"], &["--listen", "\"127.0.0.1\"", "ADDR:PORT"]),
            (&["--listen", "127.0.0.1:65536"], &["--listen", "127.0.0.1:65536", "ADDR:PORT"]),
            (&["--listen", "localhost:8080"], &["--listen", "localhost:8080", "ADDR:PORT"]),
            (&["--listen", "::1:8080"], &["--listen", "::1:8080", "[::1]:8080"]),
            (&["--listen", "unix:"], &["--listen", "path"]),
            (&["--admin", "on"], &["--admin", "\"on\"", "off"]),
            (&["--workers", "0"], &["workers", "0", "between 1 and"]),
            (&["--workers", "100000"], &["workers", "100000", "between 1 and"]),
            (&["--workers", "many"], &["--workers", "many", "--help"]),
            (&["--workers=-1"], &["--workers", "-1", "--help"]),
            (&["--keep-alive-timeout", "0"], &["keep-alive-timeout", "between 1 and"]),
            (&["--header-timeout", "0"], &["header-timeout", "between 1 and"]),
            (&["--send-timeout", "99999999"], &["send-timeout", "between 1 and"]),
            (&["--grace", "5s"], &["--grace", "5s", "--help"]),
            (&["--max-connections", "0"], &["max-connections", "at least 1"]),
            (&["--io", "magic"], &["--io", "magic", "auto", "uring", "epoll"]),
        ],
    );
}

#[test]
fn bad_data_directories_are_refused() {
    let site = Site::new();
    let start = |data: &Path| Server::builder(&site).data(data);
    let missing = site.outside().join("missing");
    assert_refused(start(&missing), &[missing.to_str().unwrap(), "--data"]);
    let file = site.data().join("alive.txt");
    assert_refused(start(&file), &[file.to_str().unwrap(), "--data"]);
    let barred = site.outside().join("barred");
    fs::create_dir(&barred).unwrap();
    fs::set_permissions(&barred, fs::Permissions::from_mode(0o000)).unwrap();
    let words = [barred.to_str().unwrap(), "chmod"];
    if is_root() {
        assert_refused(start(&barred).flag("--user", "nobody"), &words);
    } else {
        assert_refused(start(&barred), &words);
    }
    // A bare start looks for ./data and says so.
    fs::rename(site.data(), site.outside().join("aside")).unwrap();
    assert_refused(Server::builder(&site).bare(), &["the data directory data ", "--data"]);
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}

#[test]
fn bad_users_are_refused() {
    let site = Site::new();
    let start = |user: &str| Server::builder(&site).flag("--user", user);
    assert_refused(start("no-such-user"), &["--user no-such-user", "useradd"]);
    if !is_root() {
        assert_refused(start("root"), &["--user root", "only root"]);
    }
}

/// The data must be where another user can read it: not below a home directory.
#[test]
fn it_becomes_another_user() {
    if !is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let site = Site::new();
    let data = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
    fs::write(data.path().join("alive.txt"), "alive\n").unwrap();
    let mut server = Server::builder(&site).data(data.path()).flag("--user", "nobody").start();
    server.connect().assert_open();
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let ids = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert!(!ids("Uid:").split('\t').any(|id| id == "0"), "{status}");
    assert!(!ids("Gid:").split('\t').any(|id| id == "0"), "{status}");
    assert!(!ids("Groups:").split(' ').any(|id| id == "0"), "{status}");
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn an_address_in_use_is_refused() {
    let site = Site::new();
    let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = foreign.local_addr().unwrap();
    for workers in [1, 4] {
        let start = Server::builder(&site).listen(addr).workers(workers);
        assert_refused(start, &[&addr.to_string(), "another program", "--listen"]);
    }
    assert_refused(Server::builder(&site).admin(addr), &[&addr.to_string(), "another program", "--admin"]);
    let here = own_address().to_string();
    assert_refused(Server::builder(&site).listen(&here).flag("--listen", &here), &[&here, "--listen"]);
    assert_refused(Server::builder(&site).listen(&here).admin(&here), &[&here, "--admin"]);
    let gone = format!("{NOWHERE}:80");
    assert_refused(Server::builder(&site).listen(&gone), &[&gone, "no such address", "--listen"]);
    let token = site.outside().join("token");
    fs::write(&token, "0123456789abcdef\n").unwrap();
    let elsewhere = Server::builder(&site).admin(&gone);
    assert_refused(elsewhere, &[&gone, "--admin-token-file"]);
    let elsewhere = Server::builder(&site).admin(&gone).flag("--admin-token-file", token.display());
    assert_refused(elsewhere, &[&gone, "no such address", "--admin"]);
}

/// The workers of one server share an address; two servers do not.
#[test]
fn an_address_of_another_cloudia_is_refused() {
    let site = Site::new();
    for (first, second) in [(1, 1), (4, 1), (1, 4), (4, 4)] {
        let server = Server::builder(&site).workers(first).start();
        for addr in [server.addr, server.admin.unwrap()] {
            let late = Server::builder(&site).listen(addr).workers(second);
            assert_refused(late, &[&addr.to_string(), "another cloudia", "--listen"]);
        }
        let everywhere = format!("0.0.0.0:{}", server.addr.port());
        assert_refused(Server::builder(&site).listen(&everywhere).workers(second), &[&everywhere, "--listen"]);
        // Had the second taken a share of the connections, some of these would hang.
        for _ in 0..50 {
            server.connect().assert_open();
        }
    }
}

#[test]
fn of_two_that_start_together_one_serves_at_the_most() {
    let site = Site::new();
    for _ in 0..5 {
        let addr = own_address();
        let servers: Vec<Server> = thread::scope(|scope| {
            let start = || Server::builder(&site).listen(addr).admin("off").try_start().ok();
            let starts: Vec<_> = (0..3).map(|_| scope.spawn(start)).collect();
            starts.into_iter().filter_map(|start| start.join().unwrap()).collect()
        });
        assert!(servers.len() <= 1, "{} serve {addr}", servers.len());
    }
}

#[test]
fn bad_unix_paths_are_refused() {
    let site = Site::new();
    let path = |name: &str| site.outside().join(name).to_str().unwrap().to_owned();
    let start = |path: &str| Server::builder(&site).listen(format!("unix:{path}"));
    fs::write(path("file"), "precious").unwrap();
    assert_refused(start(&path("file")), &[&path("file"), "--listen"]);
    assert_eq!(fs::read_to_string(path("file")).unwrap(), "precious");
    assert_refused(start(&path("none/socket")), &[&path("none/socket"), "--listen"]);
    let foreign = UnixListener::bind(path("living")).unwrap();
    assert_refused(start(&path("living")), &[&path("living"), "another program", "--listen"]);
    assert!(fs::exists(path("living")).unwrap());
    drop(foreign);
    let long = "x".repeat(200);
    assert_refused(start(&path(&long)), &[&long, "--listen"]);
}

/// A file of settings beside the site.
pub(crate) fn settings(site: &Site, name: &str, text: &str) -> String {
    let path = site.outside().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn bad_configuration_files_are_refused() {
    let site = Site::new();
    let missing = site.outside().join("missing.toml").to_str().unwrap().to_owned();
    let directory = site.outside().to_str().unwrap().to_owned();
    let bad = settings(&site, "bad.toml", "\nworkers = = 2\n");
    let unknown = settings(&site, "unknown.toml", "# mine\nkeepalive_timeout = 5\n");
    let dashed = settings(&site, "dashed.toml", "max-connections = 5\n");
    let value = settings(&site, "value.toml", "\n\nlisten = \"nowhere\"\n");
    let range = settings(&site, "range.toml", "workers = 0\n");
    let binary = site.outside().join("binary.toml").to_str().unwrap().to_owned();
    fs::write(&binary, b"data = \"\xff\"\n").unwrap();
    let table: &[(&str, &[&str])] = &[
        (&missing, &[&missing, "--config"]),
        (&directory, &[&directory, "--config"]),
        (&bad, &[&bad, "line 2"]),
        (&unknown, &[&unknown, "line 2", "\"keepalive_timeout\"", "\"keep_alive_timeout\""]),
        (&dashed, &[&dashed, "line 1", "\"max-connections\"", "\"max_connections\""]),
        (&value, &[&value, "line 3", "nowhere", "ADDR:PORT"]),
        (&range, &[&range, "workers", "between 1 and"]),
        (&binary, &[&binary]),
    ];
    let mut report = String::new();
    for (file, words) in table {
        let serve = Server::builder(&site).bare().args(&["--config", file]).env("RUST_BACKTRACE", 1).end();
        let check = Server::builder(&site).bare().args(&["check", "--config", file]).env("RUST_BACKTRACE", 1).end();
        for (ended, code) in [(serve, 2), (check, 1)] {
            if let Some(fault) = fault(&ended, code, words) {
                report.push_str(&format!("\n{file}: {fault}: {:?}", ended.stderr));
            }
        }
    }
    assert!(report.is_empty(), "{report}");
}

#[test]
fn check_says_that_a_configuration_is_good() {
    let site = Site::new();
    let all = "data = \"data\"\nlisten = [\"127.0.0.1:80\", \"[::1]:80\", \"unix:/run/c\"]\nadmin = \"off\"\nworkers = 2\n\
               keep_alive_timeout = 5\nheader_timeout = 5\nsend_timeout = 5\ngrace = 0\nuser = \"nobody\"\n\
               max_connections = 5\nio = \"epoll\"\n";
    for (name, text) in [("all.toml", all), ("empty.toml", ""), ("one.toml", "listen = \"127.0.0.1:80\"\n")] {
        let file = settings(&site, name, text);
        let ended = Server::builder(&site).bare().args(&["check", "--config", &file]).end();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
        assert!(ended.stdout.contains(&file) && ended.stdout.lines().count() == 1, "{ended:?}");
    }
}

/// Each key in the file, the environment and a flag. The values can be read but not used, so that the refusal names
/// the one that counts.
#[test]
fn flag_beats_environment_beats_file() {
    let site = Site::new();
    let nowhere = |port: u16| format!("\"{NOWHERE}:{port}\"");
    let number = |value: u32| (8_000_000 + value).to_string();
    let word = |value: u32| format!("\"none{value}\"");
    let keys: [(&str, [String; 3]); 9] = [
        ("listen", [nowhere(1), nowhere(2), nowhere(3)]),
        ("admin", [nowhere(1), nowhere(2), nowhere(3)]),
        ("data", [word(1), word(2), word(3)]),
        ("user", [word(1), word(2), word(3)]),
        ("workers", [number(1), number(2), number(3)]),
        ("keep_alive_timeout", [number(1), number(2), number(3)]),
        ("header_timeout", [number(1), number(2), number(3)]),
        ("send_timeout", [number(1), number(2), number(3)]),
        ("grace", [number(1), number(2), number(3)]),
    ];
    for (key, values) in keys {
        let file = settings(&site, &format!("{key}.toml"), &format!("{key} = {}\n", values[0]));
        let plain = values.map(|value| value.trim_matches('"').to_owned());
        let flag = format!("--{}", key.replace('_', "-"));
        let others = [("--listen", "127.0.0.1:0"), ("--admin", "off")];
        for (layers, winner) in plain.iter().enumerate() {
            let mut launch = Server::builder(&site).bare().args(&["--config", &file]);
            for (name, value) in others.iter().filter(|(name, _)| *name != flag) {
                launch = launch.flag(name, value);
            }
            if layers >= 1 {
                launch = launch.env(&format!("CLOUDIA_{}", key.to_uppercase()), &plain[1]);
            }
            if layers >= 2 {
                launch = launch.flag(&flag, &plain[2]);
            }
            assert_refused(launch, &[winner.as_str()]);
        }
    }
}

#[test]
fn flag_beats_environment_beats_file_beats_default_while_it_runs() {
    let site = Site::new();
    let file = settings(&site, "cloudia.toml", "io = \"epoll\"\nmax_connections = 5\nworkers = 3\n");
    let start = |with_file: bool, env: &[(&str, u32)], flags: &[&str]| {
        let mut launch = Server::builder(&site).bare().args(&["--listen", "127.0.0.1:0", "--admin", "off"]).args(flags);
        for (name, value) in env {
            launch = launch.env(name, value);
        }
        let launch = if with_file { launch.env("CLOUDIA_CONFIG", &file) } else { launch };
        let said = launch.start().stdout();
        said.lines().find(|line| line.starts_with("io ")).unwrap().to_owned()
    };
    let default = start(false, &[], &[]);
    let cores = thread::available_parallelism().unwrap();
    assert!(default.contains(&format!(", {cores} worker")) && !default.contains("up to 5 "), "{default}");
    let by_file = start(true, &[], &[]);
    assert!(by_file.ends_with("epoll, 3 workers, up to 5 connections"), "{by_file}");
    let env = [("CLOUDIA_WORKERS", 4), ("CLOUDIA_MAX_CONNECTIONS", 6)];
    let by_env = start(true, &env, &[]);
    assert!(by_env.ends_with("epoll, 4 workers, up to 6 connections"), "{by_env}");
    let by_flag = start(true, &env, &["--workers", "1", "--max-connections", "7"]);
    assert!(by_flag.ends_with("epoll, 1 worker, up to 7 connections"), "{by_flag}");
}

#[test]
fn bad_values_of_the_environment_are_refused() {
    let site = Site::new();
    for (name, value, word) in
        [("WORKERS", "many", "workers"), ("LISTEN", "nonsense", "ADDR:PORT"), ("IO", "magic", "uring")]
    {
        let launch = Server::builder(&site).bare().env(&format!("CLOUDIA_{name}"), value);
        assert_refused(launch, &[value, word]);
    }
}

#[test]
fn help_lists_every_flag() {
    let site = Site::new();
    for args in [&["--help"][..], &["serve", "--help"]] {
        let ended = Server::builder(&site).bare().args(args).end();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
        for flag in FLAGS {
            let listed = ended.stdout.lines().any(|line| line.trim_start().starts_with(&format!("{flag} ")));
            assert!(listed, "{args:?} does not list {flag}:\n{}", ended.stdout);
        }
        let widest = ended.stdout.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(120), "{widest:?} columns:\n{}", ended.stdout);
    }
    let ended = Server::builder(&site).bare().args(&["--version"]).end();
    assert_eq!((ended.code, ended.stdout), (Some(0), format!("cloudia {}\n", env!("CARGO_PKG_VERSION"))));
}

/// A line a fact, on stdout, in this order.
#[test]
fn it_says_what_it_does() {
    let site = Site::new();
    site.file("b.txt", "b").file(".hidden", "no");
    let socket = format!("unix:{}", site.outside().join("socket").display());
    let server = Server::builder(&site).workers(3).flag("--listen", &socket).flag("--max-connections", 9).start();
    let said = server.stdout();
    let lines: Vec<&str> = said.lines().collect();
    let keys: Vec<&str> = lines.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(keys, ["cloudia", "data", "io", "listen", "listen", "rights", "admin", "ready"], "{said}");
    assert_eq!(lines[0], format!("cloudia {}", env!("CARGO_PKG_VERSION")));
    assert!(lines[1].contains(&format!("{}: 2 files, 7 B", site.data().display())), "{said}");
    let driver = lines[2].contains("io_uring") || lines[2].contains("epoll");
    assert!(driver && lines[2].ends_with("3 workers, up to 9 connections"), "{said}");
    let url = format!("http://{}/", server.addr);
    assert!(lines[3].ends_with(&url), "{said}");
    assert!(lines[4].ends_with(&socket), "{said}");
    assert!(lines[6].ends_with(&format!("http://{}/", server.admin.unwrap())), "{said}");
    assert!(lines[7].ends_with(&format!("open {url}")), "{said}");
}

/// One budget for all workers, whichever of them accepts.
#[test]
fn the_budget_is_of_all_workers() {
    let site = Site::new();
    let server = Server::builder(&site).workers(4).flag("--max-connections", 8).start();
    let mut held: Vec<Conn> = (0..8).map(|_| server.connect()).collect();
    held.iter_mut().for_each(Conn::assert_open);
    for _ in 0..8 {
        let mut over = server.connect();
        over.send(get("/alive.txt"));
        let answer = over.recv();
        assert_eq!((answer.status, answer.get("retry-after")), (503, Some("1")), "{answer}");
        over.assert_closed();
    }
    drop(held.pop());
    wait_until("one that closed makes room for one", || {
        let mut conn = server.connect();
        conn.send(get("/alive.txt"));
        conn.try_recv(false).is_ok_and(|answer| answer.status == 200)
    });
    held.iter_mut().for_each(Conn::assert_open);
}

/// A terminal would obey them.
#[test]
fn no_error_has_control_characters() {
    use std::os::unix::ffi::OsStrExt;
    for bytes in
        [&b"--x\r\x1b[2Jy"[..], b"--listen=\x1b]0;a\x07", b"--data=\x1b[2J", b"--config=\x1b\n", b"--user=\xff\x1b"]
    {
        let ended =
            Command::new(env!("CARGO_BIN_EXE_cloudia")).arg(std::ffi::OsStr::from_bytes(bytes)).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(2), "{said:?}");
        assert!(said.ends_with('\n') && !said.trim_end_matches('\n').contains(char::is_control), "{said:?}");
    }
}
