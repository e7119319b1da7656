//! Descriptors: each worker has a table of its own, which may be small, or get smaller while it runs; and
//! the settings of the budget, good and bad.

use std::{path::PathBuf, process::Command, thread, time::Duration};

use crate::{
    budget::fill,
    crowd::{assert_rests, descriptors, is_served, metric, open},
    harness::{Conn, Launch, Server, Site, at, wait_until},
    start::{check, settings},
};

/// Lowers what every descriptor table may hold, or raises it as far as it was at the start.
fn limit(server: &Server, soft: u64) {
    let (pid, limit) = (server.pid().to_string(), format!("--nofile={soft}:"));
    assert!(Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success());
}

/// A start under a limit that it cannot raise.
fn under(launch: Launch, limit: u64) -> Launch {
    let words = ["setpriv", "--bounding-set=-sys_resource", "prlimit", &format!("--nofile={limit}:{limit}")];
    let from = if rustix::process::geteuid().is_root() { 0 } else { 2 };
    launch.under(&words[from..])
}

/// How many connections it says that it takes.
fn most(server: &Server) -> usize {
    let said = server.stdout();
    let line = said.lines().find(|line| line.starts_with("io ")).unwrap();
    let words = line.split_once("up to ").unwrap().1;
    words.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_small_table_is_for_each_worker() {
    const TABLE: u64 = 64;
    let site = Site::new();
    let one = most(&under(Server::builder(&site).workers(1), TABLE).start());
    assert!((10..TABLE as usize).contains(&one), "{one} connections in a table of {TABLE}");
    let server = under(Server::builder(&site).workers(6), TABLE).start();
    assert_eq!(most(&server), 6 * one);
    wait_until("it says why", || server.stderr().contains("the descriptor limit is 64"));
    for _ in 0..2 {
        let mut crowd: Vec<Conn> = (0..9 * one).map(|_| server.connect()).collect();
        let served: Vec<bool> = crowd.iter_mut().map(is_served).collect();
        let count = served.iter().filter(|served| **served).count();
        eprintln!("{count} of {} in {} places", crowd.len(), 6 * one);
        // The kernel spreads them as it likes: one worker may be full while another is not.
        assert!((3 * one..=6 * one).contains(&count), "{count} in {} places", 6 * one);
        assert_eq!(open(&server), count as u64);
        let tables = descriptors(&server, "worker");
        assert!(tables.iter().all(|table| *table <= TABLE as usize), "{tables:?}");
        for (conn, _) in crowd.iter_mut().zip(served).filter(|(_, served)| *served) {
            conn.assert_open();
        }
        drop(crowd);
        wait_until("the places are given back", || open(&server) == 0);
    }
}

/// No more is promised than asked for, and no more than there can be.
#[test]
fn what_is_asked_for_is_the_most() {
    let site = Site::new();
    for (asked, workers) in [(7, 1), (7, 3)] {
        let server = under(Server::builder(&site).workers(workers).flag("--max-connections", asked), 64).start();
        assert_eq!(most(&server), asked);
    }
    let server = under(Server::builder(&site).workers(2).flag("--max-connections", 1000), 64).start();
    assert!(most(&server) < 128, "{}", server.stdout());
    wait_until("it says so", || server.stderr().contains("--max-connections 1000"));
}

/// The tables are full in mid-run: new clients are told so, old ones are served, and the processor is left alone.
#[test]
fn descriptors_run_out_while_it_runs() {
    let site = Site::new();
    for flags in [&[][..], &["--evict-idle"]] {
        let server = Server::builder(&site).args(flags).start();
        let mut held = fill(&server, 40);
        let fullest = descriptors(&server, "worker").into_iter().max().unwrap() as u64;
        limit(&server, fullest + 3);
        if flags.is_empty() {
            let mut crowd: Vec<Conn> = (0..60).map(|_| server.connect()).collect();
            let refused = crowd.iter_mut().map(is_refused).filter(|refused| *refused).count();
            assert!(refused > 0, "there is no end of descriptors");
            assert!(metric(&server, "cloudia_connections_shed_total") >= refused as u64);
            held.iter_mut().for_each(Conn::assert_open);
        }
        // They stay and say nothing.
        let waiting: Vec<Conn> = (0..60).map(|_| server.connect()).collect();
        assert_rests(&server, Duration::from_secs(1));
        limit(&server, 1000);
        assert_recovers(&site, &server);
        drop((waiting, held));
        wait_until("the places are given back", || open(&server) == 0);
        drop(fill(&server, 200));
        assert!(!server.stderr().contains("panicked"), "{}", server.stderr());
    }
}

/// Not even the one that is kept in reserve can be used: nobody is accepted then, and nothing spins.
#[test]
fn no_descriptor_is_left_at_all() {
    let site = Site::new();
    let server = Server::start(&site);
    let mut held = fill(&server, 4);
    limit(&server, 3);
    let mut crowd: Vec<Conn> = (0..50).map(|_| server.connect()).collect();
    held.iter_mut().for_each(Conn::assert_open);
    assert_rests(&server, Duration::from_secs(1));
    held.iter_mut().for_each(Conn::assert_open);
    limit(&server, 1000);
    for conn in &mut crowd {
        conn.send(crate::cases::get("/alive.txt"));
        let answer = conn.recv();
        assert!([200, 503].contains(&answer.status), "{answer}");
    }
    assert_recovers(&site, &server);
}

/// Whether a client is told that there is no room, or served. Who is refused for want of a descriptor cannot linger.
fn is_refused(conn: &mut Conn) -> bool {
    conn.send(crate::cases::get("/alive.txt"));
    let answer = conn.recv();
    assert!([200, 503].contains(&answer.status), "{answer}");
    answer.status == 503
}

/// It takes in connections again, sees changes, and can be asked how it is.
fn assert_recovers(site: &Site, server: &Server) {
    wait_until("newcomers are served", || is_served(&mut server.connect()));
    let version = format!("at {}", server.pid());
    site.replace("changed.txt", &version, at(crate::harness::OLD));
    wait_until("changes are seen", || server.get("/changed.txt", &[]).text() == version);
    assert_eq!(server.admin_get("/readyz", &["Host: localhost"]).status, 200);
    site.remove("changed.txt");
}

#[test]
fn bad_budgets_are_refused() {
    check(
        2,
        &[
            (&["--max-connections", "0"], &["max-connections", "at least 1"]),
            (&["--max-connections=-1"], &["--max-connections", "-1", "--help"]),
            (&["--max-connections", "many"], &["--max-connections", "many", "--help"]),
            (&["--max-connections", "1e3"], &["--max-connections", "1e3", "--help"]),
            (&["--max-connections-per-ip", "0"], &["max-connections-per-ip", "at least 1"]),
            (&["--max-connections-per-ip=-1"], &["--max-connections-per-ip", "-1", "--help"]),
            (&["--max-connections-per-ip", "many"], &["--max-connections-per-ip", "many", "--help"]),
            (&["--max-connections-per-ip", ""], &["--max-connections-per-ip", "--help"]),
            (&["--max-connections-per-ip"], &["--max-connections-per-ip", "--help"]),
            (&["--max-connections-per-ip", "99999999999999999999"], &["--max-connections-per-ip", "--help"]),
            (&["--max-connection-per-ip", "5"], &["--max-connection-per-ip", "--max-connections-per-ip"]),
            (&["--evict-idle", "5"], &["5", "--help"]),
            (&["--evict-idles"], &["--evict-idles", "--evict-idle"]),
        ],
    );
}

/// Each in a file of its own: what `check` and a start say of it.
#[test]
fn budgets_in_a_file() {
    let site = Site::new();
    let check = |text: &str| {
        let file = settings(&site, "budget.toml", text);
        (PathBuf::from(&file), Server::builder(&site).bare().args(&["check", "--config", &file]).end())
    };
    for good in [
        "max_connections_per_ip = 5\n",
        "evict_idle = true\n",
        "evict_idle = false\n",
        "max_connections = 10\nmax_connections_per_ip = 20\nevict_idle = true\nworkers = 64\n",
    ] {
        let (file, ended) = check(good);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{good}: {ended:?}");
        assert!(ended.stdout.contains(file.to_str().unwrap()), "{good}: {ended:?}");
    }
    for (bad, words) in [
        ("max_connections_per_ip = 0\n", &["max-connections-per-ip", "at least 1"][..]),
        ("\nmax_connections_per_ip = -1\n", &["line 2"]),
        ("max_connections_per_ip = \"many\"\n", &["line 1"]),
        ("max_connections_per_ips = 5\n", &["line 1", "\"max_connections_per_ip\""]),
        ("evict_idle = \"yes\"\n", &["line 1"]),
        ("evict_idle = 1\n", &["line 1"]),
        ("evict-idle = true\n", &["line 1", "\"evict_idle\""]),
        ("take_overs = true\n", &["line 1", "\"take_overs\""]),
    ] {
        let (_, ended) = check(bad);
        assert_eq!((ended.code, ended.stderr.lines().count()), (Some(1), 1), "{bad}: {ended:?}");
        assert!(words.iter().all(|word| ended.stderr.contains(word)), "{bad}: {ended:?}");
    }
}

/// The value that counts is seen by what it does.
#[test]
fn budgets_by_flag_environment_and_file() {
    let site = Site::new();
    let file = settings(&site, "budget.toml", "max_connections_per_ip = 2\nmax_connections = 4\nevict_idle = true\n");
    let served = |launch: Launch| {
        let server = launch.start();
        let mut crowd: Vec<Conn> = Vec::new();
        (0..8)
            .filter(|_| {
                crowd.push(server.connect());
                crowd.last_mut().is_some_and(is_served)
            })
            .count()
    };
    let start = || Server::builder(&site);
    let (env, flag) = ("CLOUDIA_MAX_CONNECTIONS_PER_IP", "--max-connections-per-ip");
    assert_eq!(served(start()), 8, "the default is no limit");
    assert_eq!(served(start().flag("--config", &file)), 2);
    assert_eq!(served(start().flag("--config", &file).env(env, 3)), 3);
    assert_eq!(served(start().flag("--config", &file).env(env, 3).flag(flag, 1)), 1);
    assert_eq!(served(start().flag("--config", &file).flag(flag, 100)), 4);
    let evicts = |launch: Launch| {
        let server = launch.workers(1).flag("--max-connections", 1).start();
        let held = fill(&server, 1);
        // It becomes idle for good in a moment, or stays for ever.
        thread::sleep(Duration::from_millis(1200));
        let served = is_served(&mut server.connect());
        drop(held);
        served
    };
    let file = || start().flag("--config", &file);
    let env = "CLOUDIA_EVICT_IDLE";
    let cases = [
        (start(), false),
        (start().args(&["--evict-idle"]), true),
        (start().env(env, "true"), true),
        (start().env(env, "false"), false),
        (file(), true),
        (file().env(env, "false"), false),
        (file().env(env, "false").args(&["--evict-idle"]), true),
    ];
    thread::scope(|scope| {
        for (number, (launch, expected)) in cases.into_iter().enumerate() {
            let evicts = &evicts;
            scope.spawn(move || assert_eq!(evicts(launch), expected, "case {number}"));
        }
    });
}
