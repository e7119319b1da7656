//! SIGUSR2: a server starts its own program anew, which takes its place, or does not, and then all stays as it was.

use std::{
    fs,
    net::SocketAddr,
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use crate::{
    harness::{Launch, PATIENCE, Server, Site, own_address, wait_until},
    pollers::{Manner, Pollers},
    public::Public,
    stop::{LONG_GRACE, last_answer, wait_until_it_drains},
    takeover::{founder, heir, listeners},
    takeover_faults::is_root,
};

/// The processes that have these words in their command line: a server that starts itself anew is no child of the test.
/// They are killed with this value.
pub(crate) struct Family(String);

impl Family {
    pub(crate) fn of(words: impl ToString) -> Family {
        Family(words.to_string())
    }

    /// Those that run. A zombie waits for its parent and does not.
    pub(crate) fn members(&self) -> Vec<u32> {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let is_member = |pid: &u32| {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).replace('\0', " ").contains(&self.0)
        };
        pids.filter(is_member).collect()
    }

    /// Waits until another process than `old` is the only one.
    #[track_caller]
    pub(crate) fn heir_of(&self, old: u32) -> u32 {
        let mut found = Vec::new();
        wait_until("the new process is the only one", || {
            found = self.members();
            matches!(found[..], [pid] if pid != old)
        });
        found[0]
    }

    pub(crate) fn signal(&self, name: &str, pid: u32) {
        assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
    }

    /// Asks the last one to end.
    #[track_caller]
    pub(crate) fn stop(&self, pid: u32) {
        self.signal("TERM", pid);
        wait_until("the last one has ended", || self.members().is_empty());
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        for pid in self.members() {
            Command::new("kill").args(["-s", "KILL", &pid.to_string()]).status().ok();
        }
    }
}

fn ready_lines(server: &Server) -> usize {
    server.stdout().lines().filter(|line| line.starts_with("ready")).count()
}

fn warnings(server: &Server) -> usize {
    server.stderr().lines().filter(|line| line.contains(" WARN ")).count()
}

#[test]
fn it_starts_itself_anew() {
    let site = Site::new();
    let mut server = founder(&site).start();
    let family = Family::of(server.addr);
    let pollers = [Manner::KeepAlive, Manner::Fresh].map(|manner| Pollers::start(server.addr, 20, manner));
    server.signal("USR2");
    let mut pid = family.heir_of(server.pid());
    assert_eq!(server.wait().code(), Some(0));
    for round in 3..5 {
        pollers.iter().for_each(|pollers| pollers.wait_for_more(40));
        family.signal("USR2", pid);
        pid = family.heir_of(pid);
        wait_until("it says that it is ready", || ready_lines(&server) == round);
    }
    assert_eq!(listeners(server.addr), 2);
    assert_eq!(server.admin_get("/readyz", &["Host: localhost"]).status, 200);
    for pollers in pollers {
        pollers.noticed_nothing();
    }
    assert_eq!(warnings(&server), 0, "{}", server.stderr());
    family.stop(pid);
    assert_eq!(listeners(server.addr), 0);
}

/// The program, at a path of the test's own.
struct Program(PathBuf);

impl Program {
    fn new(site: &Site) -> Program {
        let path = site.outside().join("bin");
        fs::create_dir(&path).unwrap();
        let program = Program(path.join("cloudia"));
        program.install();
        program
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn install(&self) {
        let aside = self.0.with_extension("new");
        // A link where it can be had: the program is large.
        if fs::hard_link(env!("CARGO_BIN_EXE_cloudia"), &aside).is_err() {
            fs::copy(env!("CARGO_BIN_EXE_cloudia"), &aside).unwrap();
        }
        fs::rename(aside, &self.0).unwrap();
    }

    fn replace(&self, bytes: &str, mode: u32) {
        let aside = self.0.with_extension("new");
        fs::write(&aside, bytes).unwrap();
        fs::set_permissions(&aside, fs::Permissions::from_mode(mode)).unwrap();
        fs::rename(aside, &self.0).unwrap();
    }
}

/// What is now at its path is the next version, whatever it is: where that does not take over, a line says so.
#[test]
fn a_broken_program_changes_nothing() {
    let site = Site::new();
    let program = Program::new(&site);
    let mut server = founder(&site).program(program.path()).start();
    let family = Family::of(server.addr);
    let pollers = Pollers::start(server.addr, 20, Manner::KeepAlive);
    let broken = [
        ("no program at all", 0o755),
        ("#!/bin/sh\nexit 0\n", 0o644),
        ("#!/bin/sh\nexit 1\n", 0o755),
        ("#!/bin/sh\nexit 0\n", 0o755),
        ("#!/bin/sh\nkill -9 $$\n", 0o755),
        ("#!/no/such/interpreter\n", 0o755),
    ];
    for (count, (bytes, mode)) in broken.iter().enumerate() {
        program.replace(bytes, *mode);
        server.signal("USR2");
        wait_until("a warning", || warnings(&server) == count + 1);
        assert!(server.is_running());
        assert_eq!(family.members(), [server.pid()], "{bytes:?}");
    }
    fs::remove_file(program.path()).unwrap();
    server.signal("USR2");
    wait_until("a warning", || warnings(&server) == broken.len() + 1);
    assert!(server.is_running());
    pollers.wait_for_more(40);
    assert_eq!(pollers.noticed_nothing().last_words, 0, "it has begun to drain");
    program.install();
    server.signal("USR2");
    let pid = family.heir_of(server.pid());
    assert_eq!(server.wait().code(), Some(0));
    server.connect().assert_open();
    family.stop(pid);
}

/// A program that neither takes over nor ends holds nothing up, also not the end.
#[test]
fn a_program_that_hangs_changes_nothing() {
    let site = Site::new();
    let program = Program::new(&site);
    let mut server = founder(&site).program(program.path()).start();
    let family = Family::of(server.addr);
    program.replace("#!/bin/sh\nwhile :; do sleep 0.1; done\n", 0o755);
    server.signal("USR2");
    wait_until("it runs", || family.members().len() == 2);
    site.replace("changed.txt", "changed", SystemTime::now());
    wait_until("a change is served", || server.get("/changed.txt", &[]).text() == "changed");
    // Another way to take its place is open all the while.
    let mut next = heir(&server, &site).start();
    assert_eq!(server.wait().code(), Some(0));
    next.connect().assert_open();
    assert_eq!(next.stop().code(), Some(0));
}

#[test]
fn repeated_signals_end_in_one_server() {
    let site = Site::new();
    let mut server = founder(&site).start();
    let family = Family::of(server.addr);
    let pollers = [Manner::KeepAlive, Manner::Fresh].map(|manner| Pollers::start(server.addr, 20, manner));
    for _ in 0..6 {
        server.signal("USR2");
        pollers[0].wait_for_more(3);
        if !server.is_running() {
            break;
        }
    }
    let pid = family.heir_of(server.pid());
    assert_eq!(server.wait().code(), Some(0));
    for pollers in pollers {
        pollers.wait_for_more(40);
        pollers.noticed_nothing();
    }
    assert_eq!(listeners(server.addr), 2);
    family.stop(pid);
}

/// It is about to end: nothing takes its place.
#[test]
fn it_is_too_late_while_it_drains() {
    let site = Site::new();
    let mut server = founder(&site).start();
    let family = Family::of(server.addr);
    let mut idle = server.connect();
    idle.assert_open();
    server.signal("TERM");
    wait_until_it_drains(&server);
    server.signal("USR2");
    wait_until_it_drains(&server);
    assert_eq!(family.members(), [server.pid()]);
    last_answer(&mut idle);
    drop(idle);
    assert_eq!(server.wait().code(), Some(0));
    assert!(family.members().is_empty());
}

/// As the user that it has become, on an address that this user could not have bound.
#[test]
fn another_user_starts_itself_anew() {
    if !is_root() {
        return;
    }
    let (public, site) = (Public::new(), Site::new());
    let low = |addr: SocketAddr| SocketAddr::new(addr.ip(), 77);
    let addr = low(own_address());
    let mut server = public.launch(founder(&site).listen(addr).flag("--user", "nobody"), "old").start();
    let family = Family::of(addr);
    let pollers = Pollers::start(addr, 20, Manner::KeepAlive);
    let mut pid = server.pid();
    for _ in 0..2 {
        family.signal("USR2", pid);
        pid = family.heir_of(pid);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.lines().any(|line| line.starts_with("Uid:") && !line.contains("\t0")), "{status}");
    }
    assert_eq!(server.wait().code(), Some(0));
    pollers.wait_for_more(40);
    pollers.noticed_nothing();
    family.stop(pid);
}

/// Its arguments, its directory and its environment are those of the old one; its files are read anew.
#[test]
fn it_starts_as_it_was_started() {
    let site = Site::new();
    let settings = site.outside().join("settings.toml");
    fs::write(&settings, "workers = 1\n").unwrap();
    let addr = own_address();
    // Where it is as it was started: relative to its directory.
    let launch = founder(&site).bare().args(&["--data", "data", "--config", settings.to_str().unwrap()]);
    let launch = launch.env("CLOUDIA_LISTEN", addr).env("CLOUDIA_ADMIN", "off").env("CLOUDIA_GRACE", LONG_GRACE);
    let mut server = with_driver(launch).start();
    let family = Family::of(settings.display());
    assert_eq!(listeners(addr), 1);
    fs::write(&settings, "workers = 3\n").unwrap();
    server.signal("USR2");
    assert_eq!(server.wait().code(), Some(0));
    wait_until("three workers", || listeners(addr) == 3);
    server.connect().assert_open();
    drop(family);
}

fn with_driver(launch: Launch) -> Launch {
    match std::env::var("CLOUDIA_TEST_IO") {
        Ok(io) => launch.env("CLOUDIA_IO", io),
        Err(_) => launch,
    }
}

/// A port that the kernel has picked is kept.
#[test]
fn a_picked_port_is_kept() {
    let site = Site::new();
    let mut server = Server::builder(&site).flag("--grace", LONG_GRACE).start();
    let family = Family::of(site.data().display());
    let pollers = Pollers::start(server.addr, 10, Manner::Fresh);
    server.signal("USR2");
    let pid = family.heir_of(server.pid());
    assert_eq!(server.wait().code(), Some(0));
    pollers.wait_for_more(20);
    pollers.noticed_nothing();
    assert_eq!(server.admin_get("/readyz", &["Host: localhost"]).status, 200);
    family.stop(pid);
}

/// A service manager believes the main process alone, unless it is told otherwise: so that one names its successor.
#[test]
fn the_service_manager_hears_of_the_new_main_process_from_the_old_one() {
    let site = Site::new();
    let manager = UnixDatagram::bind(site.outside().join("notify")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || {
        let mut said = [0; 256];
        let len = manager.recv(&mut said).expect("the server says something");
        String::from_utf8_lossy(&said[..len]).trim_end().to_owned()
    };
    let mut old = founder(&site).env("NOTIFY_SOCKET", site.outside().join("notify").display()).start();
    let family = Family::of(site.data().display());
    assert_eq!(hear(), format!("MAINPID={}\nREADY=1", old.pid()));
    old.signal("USR2");
    // Either may be the first.
    let mut said = [hear(), hear()];
    said.sort();
    assert_eq!(old.wait().code(), Some(0));
    let pid = family.heir_of(old.pid());
    assert_eq!(said, [format!("MAINPID={pid}"), format!("MAINPID={pid}\nREADY=1")], "the old one and the new one");
    family.stop(pid);
    assert_eq!(hear(), "STOPPING=1");
}
