//! What goes wrong around the feed: rights, descriptors, watches, events, clocks, disks. It goes on serving the last good
//! version, says so once, and is itself again when the fault is over.

use std::{
    fs::{self, File, Permissions},
    io::Write,
    os::unix::fs::PermissionsExt,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    faulty::{Faults, Vitals, as_nobody, limited},
    harness::{Conn, PATIENCE, Server, Site, wait_until},
    witness::{PROMPT, Witness, sh, site, text, version},
};

fn mode(site: &Site, name: &str, mode: u32) {
    fs::set_permissions(site.data().join(name), Permissions::from_mode(mode)).unwrap();
}

/// Lines that the server has said about `name`.
pub(crate) fn told(server: &Server, name: &str) -> usize {
    server.stderr().lines().filter(|line| line.contains(name)).count()
}

/// Another file's changes are seen as promptly as ever.
pub(crate) fn assert_prompt(server: &Server, site: &Site) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let before = Some(server.get("/a.txt", &[]).body);
    let after = text(&format!("change {}\n", COUNT.fetch_add(1, Ordering::Relaxed)));
    Witness::new(server, "/a.txt").watching(&[before, after.clone()], || {
        site.replace("a.txt", after.unwrap(), std::time::SystemTime::now());
    });
}

#[test]
fn a_file_that_may_not_be_read_keeps_its_last_version() {
    let site = site();
    let server = as_nobody(&site).start();
    let vitals = Vitals::of(&server);
    let mut witness = Witness::new(&server, "/w.txt");
    witness.watching(&[version(0)], || {
        mode(&site, "w.txt", 0);
        wait_until("the refusal to be told", || told(&server, "w.txt") > 0);
    });
    // Nobody may read the replacement either.
    witness.watching(&[version(0)], || {
        fs::write(site.data().join(".new"), version(1).unwrap()).unwrap();
        mode(&site, ".new", 0);
        fs::rename(site.data().join(".new"), site.data().join("w.txt")).unwrap();
        wait_until("the refusal to be told", || told(&server, "w.txt") > 1);
        assert_prompt(&server, &site);
    });
    assert_eq!(told(&server, "w.txt"), 2, "{}", server.stderr());
    witness.watching(&[version(0), version(1)], || mode(&site, "w.txt", 0o644));
    witness.assert_dated();
    vitals.assert_kept(&server, 8);
}

#[test]
fn a_file_that_could_not_be_read_at_the_start() {
    let site = site();
    mode(&site, "w.txt", 0);
    let server = as_nobody(&site).start();
    assert_eq!((server.get("/w.txt", &[]).status, told(&server, "w.txt")), (404, 1));
    Witness::new(&server, "/w.txt").watching(&[None, version(0)], || mode(&site, "w.txt", 0o644));
}

#[test]
fn a_directory_that_may_not_be_read_keeps_its_files() {
    let site = site();
    let server = as_nobody(&site).start();
    let mut witness = Witness::new(&server, "/dir/c.txt");
    witness.watching(&[text("dir/c.txt")], || {
        mode(&site, "dir", 0);
        site.file("dir/c.txt", "changed");
        assert_prompt(&server, &site);
    });
    witness.watching(&[text("dir/c.txt"), text("changed")], || mode(&site, "dir", 0o755));
    witness.watching(&[text("changed"), text("later\n")], || sh(&site, "echo later > dir/c.txt"));
}

#[test]
fn the_data_directory_may_not_be_read_for_a_while() {
    let site = site();
    let server = as_nobody(&site).start();
    let mut witness = Witness::new(&server, "/w.txt").within(PATIENCE);
    witness.watching(&[version(0)], || {
        mode(&site, ".", 0);
        wait_until("the loss to be told", || told(&server, "its last content") > 0);
        site.file("w.txt", "changed");
    });
    witness.watching(&[version(0), text("changed")], || mode(&site, ".", 0o755));
    assert_eq!(told(&server, "its last content"), 1, "{}", server.stderr());
    assert_prompt(&server, &site);
}

/// It comes without the right to read it, and gets that later.
#[test]
fn a_new_directory_that_becomes_readable() {
    let site = site();
    let server = as_nobody(&site).start();
    sh(&site, "mkdir -m 0 ../n; mv ../n n; echo new > n/x.txt");
    assert_prompt(&server, &site);
    // A new directory is looked at again after a quarter of a second; this is later.
    thread::sleep(Duration::from_millis(400));
    let mut witness = Witness::new(&server, "/n/x.txt");
    witness.watching(&[None, text("new\n")], || mode(&site, "n", 0o755));
    witness.watching(&[text("new\n"), text("later\n")], || sh(&site, "echo later > n/x.txt"));
}

/// One directory without rights is no reason to watch none.
#[test]
fn a_directory_that_could_not_be_read_at_the_start() {
    let site = site();
    mode(&site, "dir", 0);
    let server = as_nobody(&site).start();
    assert!(told(&server, "\"dir\"") == 1, "{}", server.stderr());
    assert_eq!(told(&server, "cannot be watched"), 0, "{}", server.stderr());
    assert_prompt(&server, &site);
    let mut witness = Witness::new(&server, "/dir/c.txt");
    witness.watching(&[None, text("dir/c.txt")], || mode(&site, "dir", 0o755));
    witness.watching(&[text("dir/c.txt"), text("later\n")], || sh(&site, "echo later > dir/c.txt"));
}

/// All connections that there may be are open, and more that are turned away.
#[test]
fn connections_take_all_descriptors() {
    let site = site();
    let few = ["setpriv", "--bounding-set=-sys_resource", "prlimit", "--nofile=120:120"];
    let under = if rustix::process::geteuid().is_root() { &few[..] } else { &few[2..] };
    let server = Server::builder(&site).under(under).start();
    let vitals = Vitals::of(&server);
    let mut open: Vec<Conn> = Vec::new();
    let refused = (0..200).any(|_| {
        let mut conn = server.connect();
        conn.send(crate::cases::get("/alive.txt"));
        let status = conn.recv().status;
        open.push(conn);
        status == 503
    });
    assert!(refused, "there is no end of connections");
    // One of them is left to look with.
    open.drain(..10);
    let mut witness = Witness::new(&server, "/w.txt").within(PATIENCE);
    wait_until("room", || server.get("/alive.txt", &[]).status == 200);
    witness.watching(&[version(0), version(1)], || {
        site.replace("w.txt", version(1).unwrap(), crate::harness::at(crate::harness::OLD + 1));
    });
    drop(open);
    witness.watching(&[version(1), text("later\n")], || sh(&site, "echo later > w.txt"));
    vitals.assert_kept(&server, 8);
}

/// The feed can open nothing. What it could not read it reads when it can.
#[test]
fn no_descriptor_is_left_for_the_feed() {
    let site = site();
    let server = Server::start(&site);
    let vitals = Vitals::of(&server);
    let limit = |soft: &str| {
        let (pid, limit) = (server.pid().to_string(), format!("--nofile={soft}:"));
        assert!(Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success());
    };
    let mut witness = Witness::new(&server, "/w.txt");
    // Connections are taken on tables of their own, which this would close as well.
    let mut conn = server.connect();
    conn.assert_open();
    limit("3");
    site.replace("w.txt", version(1).unwrap(), crate::harness::at(crate::harness::OLD + 1));
    wait_until("the refusal to be told", || told(&server, "open files") > 0);
    conn.send(crate::cases::get("/w.txt"));
    assert!(Some(conn.recv().body) == version(0), "the last version is kept");
    drop(conn);
    limit("1000");
    witness = witness.within(PATIENCE);
    witness.watching(&[version(0), version(1)], || {});
    assert_prompt(&server, &site);
    vitals.assert_kept(&server, 8);
}

/// A server that cannot watch, or from some moment on.
fn polling(limit: &str, value: u32, dirs_before: usize, dirs_after: usize) {
    let Some(limited) = limited(limit, value) else { return };
    let site = site();
    let make = |from: usize, count: usize| {
        (from..from + count).for_each(|number| {
            site.file(&format!("d{number}/x.txt"), "x");
        });
    };
    make(0, dirs_before);
    let server = Server::builder(&site).under(&limited.each_ref().map(String::as_str)).start();
    make(dirs_before, dirs_after);
    wait_until("the warning", || told(&server, "cannot be watched") > 0);
    let said = server.stderr();
    assert!(said.contains("fs.inotify.max_user_watches") && said.contains("fs.inotify.max_user_instances"), "{said}");
    let vitals = Vitals::of(&server);
    let mut witness = Witness::new(&server, "/w.txt").within(Duration::from_secs(4));
    for number in 1..=2 {
        witness.watching(&[version(number - 1), version(number)], || {
            fs::write(site.data().join("w.txt"), version(number).unwrap()).unwrap();
        });
    }
    witness.watching(&[version(2), None], || sh(&site, "rm w.txt"));
    let last = format!("/d{}/x.txt", dirs_before + dirs_after - 1);
    let mut last = Witness::new(&server, &last).within(Duration::from_secs(4));
    last.watching(&[None, text("x")], || {});
    last.watching(&[text("x"), text("y\n")], || sh(&site, "for file in d*/x.txt; do echo y > $file; done"));
    assert_eq!(told(&server, "cannot be watched"), 1, "said once: {}", server.stderr());
    vitals.assert_kept(&server, 8);
}

#[test]
fn too_few_watches_at_the_start() {
    polling("max_inotify_watches", 5, 10, 1);
}

#[test]
fn too_few_watches_for_new_directories() {
    polling("max_inotify_watches", 5, 1, 10);
}

#[test]
fn no_instance_to_watch_with() {
    polling("max_inotify_instances", 0, 1, 1);
}

/// Without events a writer is known by its lease alone, and it may write for long.
#[test]
fn a_slow_writer_is_not_torn_where_nothing_is_watched() {
    let Some(limited) = limited("max_inotify_instances", 0) else { return };
    let site = site();
    let server = Server::builder(&site).under(&limited.each_ref().map(String::as_str)).start();
    let mut witness = Witness::new(&server, "/w.txt").within(Duration::from_secs(4));
    witness.watching(&[version(0), version(1)], || {
        let new = version(1).unwrap();
        let mut file = File::create(site.data().join("w.txt")).unwrap();
        for part in new.chunks(new.len() / 50) {
            file.write_all(part).unwrap();
            thread::sleep(Duration::from_millis(100));
        }
    });
}

/// More happens than the kernel keeps events for, while the server cannot take them.
#[test]
fn events_are_lost_in_a_storm() {
    let site = site();
    fs::create_dir(site.data().join("storm")).unwrap();
    let server = Server::start(&site);
    let vitals = Vitals::of(&server);
    let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let count = queue.trim().parse::<usize>().unwrap() / 3 + 1000;
    let mut witness = Witness::new(&server, "/w.txt").within(PATIENCE);
    let mut late = Witness::new(&server, "/late/er/x.txt").within(PATIENCE);
    server.signal("STOP");
    for number in 0..count {
        fs::write(site.data().join(format!("storm/{number}.txt")), "x").unwrap();
    }
    site.file("w.txt", version(1).unwrap()).file("late/er/x.txt", "new");
    server.signal("CONT");
    late.watching(&[None, text("new")], || {});
    witness.watching(&[version(0), version(1)], || {});
    wait_until("all files", || server.get(&format!("/storm/{}.txt", count - 1), &[]).status == 200);
    // The directory whose event was lost is watched.
    let mut late = late.within(PROMPT);
    late.watching(&[text("new"), text("later\n")], || sh(&site, "echo later > late/er/x.txt"));
    assert_prompt(&server, &site);
    vitals.assert_kept(&server, 64);
}

#[test]
fn the_clock_steps_back_and_forth() {
    let site = site();
    let faults = Faults::new(&site);
    let server = faults.builder(&site).start();
    let mut witness = Witness::new(&server, "/w.txt");
    let mut number = 0;
    for step in [-3600, 3600, 0, -86_400 * 365 * 60, 86_400, -10, 10, 0] {
        for _ in 0..2 {
            number += 1;
            witness.watching(&[version(number - 1), version(number)], || {
                faults.on("clock", step);
                fs::write(site.data().join("w.txt"), version(number).unwrap()).unwrap();
            });
        }
        // As much time as a stamp needs to be sent.
        let until = Instant::now() + Duration::from_millis(1200);
        witness.watching(&[version(number)], || thread::sleep(until.saturating_duration_since(Instant::now())));
    }
    assert_prompt(&server, &site);
}

/// The kernel tells of a close a moment before it counts one writer less, so that a lease may still be refused.
#[test]
fn a_close_is_told_of_too_early() {
    let site = site();
    let faults = Faults::new(&site);
    site.file("struck.txt", version(0).unwrap());
    let server = faults.builder(&site).start();
    let mut witness = Witness::new(&server, "/struck.txt");
    faults.on("busy", "");
    for number in 1..4 {
        witness.watching(&[version(number - 1), version(number)], || {
            fs::write(site.data().join("struck.txt"), version(number).unwrap()).unwrap();
        });
    }
}

/// The disk fails for a while: the last version is kept, and the new one comes when it can be read.
#[test]
fn a_read_fails() {
    for fault in ["eio", "lookup"] {
        let site = site();
        let faults = Faults::new(&site);
        site.file("struck.txt", version(0).unwrap());
        let server = faults.builder(&site).start();
        let vitals = Vitals::of(&server);
        let mut witness = Witness::new(&server, "/struck.txt");
        witness.watching(&[version(0)], || {
            faults.on(fault, "");
            // In one step: of two states of the file two would be told.
            fs::write(site.data().join("struck.txt"), version(1).unwrap()).unwrap();
            wait_until("the refusal to be told", || told(&server, "struck.txt") > 0);
            assert_prompt(&server, &site);
        });
        let mut witness = witness.within(PATIENCE);
        witness.watching(&[version(0), version(1)], || faults.off(fault));
        assert_eq!(told(&server, "struck.txt"), 1, "{fault}: {}", server.stderr());
        vitals.assert_kept(&server, 8);
    }
}

/// As it may be on network file systems.
#[test]
fn reads_are_short_and_interrupted() {
    let site = site();
    let faults = Faults::new(&site);
    faults.on("short", "");
    faults.on("eintr", "");
    site.file("struck.txt", version(0).unwrap());
    let server = faults.builder(&site).start();
    let mut witness = Witness::new(&server, "/struck.txt");
    for number in 1..=5 {
        witness.watching(&[version(number - 1), version(number)], || {
            site.replace("struck.txt", version(number).unwrap(), std::time::SystemTime::now());
        });
    }
    assert_eq!(told(&server, "struck"), 0, "{}", server.stderr());
}

/// A directory cannot be listed, or not to its end: what is not listed is not gone.
#[test]
fn a_listing_fails() {
    let site = site();
    let faults = Faults::new(&site);
    site.file("struck/x.txt", "x").link("link", "dir");
    let server = faults.builder(&site).start();
    let mut witness = Witness::new(&server, "/struck/x.txt");
    witness.watching(&[text("x")], || {
        faults.on("list", "");
        // With a link about, any change of names is a look at everything.
        site.file("struck/y.txt", "y").file("more/z.txt", "z");
        Witness::new(&server, "/more/z.txt").watching(&[None, text("z")], || {});
        assert_prompt(&server, &site);
    });
    faults.off("list");
    Witness::new(&server, "/struck/y.txt").within(PATIENCE).watching(&[None, text("y")], || {});
}

/// Without leases a file must have rested for a moment before it is believed; those made just before the start are not
/// missing from the first answers for that.
#[test]
fn files_made_just_before_the_start_are_there_from_the_first() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for _ in 0..5 {
        let site = site();
        let make = "printf 'just now' > data/w.txt; exec \"$@\"";
        let under = ["setpriv", "--bounding-set=-lease", "sh", "-euc", make, "sh"];
        let server = Server::builder(&site).under(&under).flag("--user", "nobody").start();
        assert_eq!(server.get("/w.txt", &[]).text(), "just now");
    }
}
