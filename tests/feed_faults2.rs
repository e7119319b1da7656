//! What is wrong with the data directory itself: shares that are unmounted, links without end, files without end, names that
//! nobody can say, and more changes than there is time for.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    faulty::Vitals,
    feed_faults::{assert_prompt, told},
    harness::{OLD, PATIENCE, Server, Site, at, wait_until},
    witness::{PROMPT, Witness, sh, site, text, version},
};

/// A site with nine files in `share` and two beside it.
fn shared() -> Site {
    let site = Site::new();
    site.file("a.txt", "a.txt");
    for number in 0..8 {
        site.file(&format!("share/{number}.txt"), "x");
    }
    site.file("share/w.txt", version(0).unwrap());
    site
}

#[test]
fn half_of_the_files_go_and_come_back() {
    let site = shared();
    let server = Server::start(&site);
    let vitals = Vitals::of(&server);
    let (share, aside) = (site.data().join("share"), site.outside().join("aside"));
    let mut witness = Witness::new(&server, "/share/w.txt");
    for _ in 0..2 {
        let before = told(&server, "have vanished");
        witness.watching(&[version(0)], || {
            fs::rename(&share, &aside).unwrap();
            wait_until("the loss to be told", || told(&server, "have vanished") > before);
            fs::rename(&aside, &share).unwrap();
            // For as long as they would have been held.
            thread::sleep(Duration::from_millis(5500));
        });
    }
    witness.watching(&[version(0), version(1)], || fs::write(share.join("w.txt"), version(1).unwrap()).unwrap());
    // A single one that goes is believed.
    witness.watching(&[version(1), None], || fs::remove_file(share.join("w.txt")).unwrap());
    vitals.assert_kept(&server, 8);
}

#[test]
fn half_of_the_files_go_for_good_after_five_seconds() {
    let site = shared();
    let server = Server::start(&site);
    let mut witness = Witness::new(&server, "/share/w.txt").within(Duration::from_millis(6500));
    let late = witness.watching(&[version(0), None], || {
        fs::rename(site.data().join("share"), site.outside().join("aside")).unwrap();
    });
    assert!(late >= Duration::from_millis(4900), "gone after {late:?}");
    assert_eq!((told(&server, "have vanished"), server.get("/share/0.txt", &[]).status), (1, 404));
    assert_prompt(&server, &site);
    // They are nothing special when they come back after that.
    let mut witness = witness.within(PROMPT);
    witness.watching(&[None, version(0)], || {
        fs::rename(site.outside().join("aside"), site.data().join("share")).unwrap();
    });
}

/// They go one by one, and those that went first come back for a while.
#[test]
fn files_that_go_one_by_one_within_a_second() {
    let site = shared();
    let server = Server::start(&site);
    let mut witness = Witness::new(&server, "/share/0.txt").within(Duration::from_millis(7000));
    witness.watching(&[text("x"), None, text("x"), None], || {
        sh(&site, "rm share/0.txt; rm -r share");
        wait_until("the loss to be told", || told(&server, "have vanished") > 0);
    });
}

/// A server in a mount namespace of its own, in which `place` below its data directory is a file system. None: that cannot
/// be had here.
fn mounted(site: &Site, place: &str, publish: &str) -> Option<Server> {
    let place = site.data().join(place);
    let words = ["unshare", "--mount", "--propagation", "private", "sh", "-euc"];
    let is_possible = Command::new(words[0]).args(&words[1..]).arg("mount -t tmpfs none /tmp").status();
    if !is_possible.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no file system can be mounted here");
        return None;
    }
    let place = place.display();
    let script = format!("mount -t tmpfs share {place}; (cd {place}; {publish}); exec \"$@\"");
    Some(Server::builder(site).under(&[&words[..], &[&script, "sh"]].concat()).start())
}

/// Runs a script where the server's mounts are seen.
fn inside(server: &Server, site: &Site, script: &str) {
    let script = format!("cd {}; {script}", site.data().display());
    let pid = server.pid().to_string();
    let done = Command::new("nsenter").args(["-t", &pid, "-m", "sh", "-euc", &script]).output().unwrap();
    assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
}

/// The data directory is a share: it is unmounted, so that an empty directory is left, and mounted again.
#[test]
fn the_data_directory_is_unmounted_for_a_while() {
    let site = Site::new();
    let publish = "for n in 1 2 3 w; do echo $n > $n.txt; done";
    let Some(server) = mounted(&site, ".", publish) else { return };
    let mut witness = Witness::new(&server, "/w.txt").within(PATIENCE);
    witness.watching(&[text("w\n"), text("new\n")], || {
        inside(&server, &site, "cd /; umount -l $OLDPWD");
        wait_until("the loss to be told", || told(&server, "have vanished") > 0);
        inside(&server, &site, "cd /; mount -t tmpfs share $OLDPWD; cd $OLDPWD; echo 1 > 1.txt; echo new > w.txt");
    });
    let mut witness = witness.within(PROMPT);
    witness.watching(&[text("new\n"), text("later\n")], || inside(&server, &site, "echo later > w.txt"));
}

/// A share below the data directory: nobody says that it goes or comes.
#[test]
fn a_share_is_unmounted_and_mounted_again() {
    let site = site();
    fs::create_dir(site.data().join("share")).unwrap();
    let Some(server) = mounted(&site, "share", "for n in 1 2 3 4 5 6 7 8 w; do echo $n > $n.txt; done") else { return };
    let mut witness = Witness::new(&server, "/share/w.txt").within(PATIENCE);
    witness.watching(&[text("w\n"), text("new\n")], || {
        inside(&server, &site, "umount share");
        assert_prompt(&server, &site);
        inside(&server, &site, "mount -t tmpfs share share; echo new > share/w.txt");
    });
    let mut witness = witness.within(PROMPT);
    witness.watching(&[text("new\n"), text("later\n")], || inside(&server, &site, "echo later > share/w.txt"));
}

#[test]
fn links_lead_in_circles() {
    let site = site();
    for (name, target) in [
        ("one", "two"),
        ("two", "one"),
        ("self.txt", "self.txt"),
        ("here", "."),
        ("dir/up", ".."),
        ("dir/again", "../dir"),
        ("root", site.data().to_str().unwrap()),
    ] {
        site.link(name, target);
    }
    let server = Server::start(&site);
    let vitals = Vitals::of(&server);
    assert_prompt(&server, &site);
    assert_eq!(server.get("/one", &[]).status, 404);
    // Made while it runs, and a file turned into a circle.
    Witness::new(&server, "/w.txt").watching(&[version(0), None], || {
        site.link(".w", "w.txt");
        fs::rename(site.data().join(".w"), site.data().join("w.txt")).unwrap();
    });
    Witness::new(&server, "/w.txt").watching(&[None, text("back\n")], || sh(&site, "rm w.txt; echo back > w.txt"));
    sh(&site, "ln -s c2 c1; ln -s c1 c2; mkdir n; ln -s .. n/up; echo x > n/x.txt");
    Witness::new(&server, "/n/x.txt").watching(&[None, text("x\n")], || {});
    assert_prompt(&server, &site);
    assert!(server.stderr().lines().count() < 30, "{}", server.stderr());
    vitals.assert_kept(&server, 16);
}

/// Ten directories that all lead to each other are ten million paths.
#[test]
fn links_lead_everywhere() {
    let site = site();
    for from in 0..10 {
        for to in 0..10 {
            site.file(&format!("m{from}/x.txt"), "x").link(&format!("m{from}/to{to}"), format!("../m{to}"));
        }
    }
    let server = Server::start(&site);
    assert_prompt(&server, &site);
    assert_eq!(server.get("/m0/to1/x.txt", &[]).text(), "x");
    assert!(server.stderr().lines().count() < 1000);
    assert!(Vitals::of(&server).megabytes() < 200);
}

/// One file is appended to without pause, other files are as fresh as ever, and in the end there is the whole of it.
#[test]
fn a_file_grows_without_pause() {
    let site = site();
    let server = Server::start(&site);
    let vitals = Vitals::of(&server);
    let path = site.data().join("w.txt");
    let appended = |count: usize| Some([version(0).unwrap(), vec![b'+'; count * 8192]].concat());
    let stop = AtomicBool::new(false);
    let mut witness = Witness::new(&server, "/w.txt");
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    let grown = thread::scope(|scope| {
        let growing = scope.spawn(|| {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                file.write_all(&[b'+'; 8192]).unwrap();
                count += 1;
                thread::sleep(Duration::from_millis(5));
            }
            count
        });
        // Longer than a file that nobody closes must be still.
        let until = Instant::now() + Duration::from_millis(2500);
        witness.watching(&[version(0)], || {
            while Instant::now() < until {
                assert_prompt(&server, &site);
            }
        });
        stop.store(true, Ordering::Relaxed);
        growing.join().unwrap()
    });
    witness.watching(&[version(0), appended(grown)], || drop(file));
    vitals.assert_kept(&server, 64);
}

/// As a log is written: each line with an open and a close of its own, so that every line makes a version.
#[test]
fn a_file_grows_version_by_version() {
    let site = site();
    let server = Server::start(&site);
    let vitals = Vitals::of(&server);
    let path = site.data().join("log.txt");
    let line = [&[b'l'; 4095][..], b"\n"].concat();
    let stop = AtomicBool::new(false);
    let grown = thread::scope(|scope| {
        let growing = scope.spawn(|| {
            let mut grown = 0;
            while !stop.load(Ordering::Relaxed) {
                OpenOptions::new().append(true).create(true).open(&path).unwrap().write_all(&line).unwrap();
                grown += line.len();
                thread::sleep(Duration::from_millis(2));
            }
            grown
        });
        for _ in 0..20 {
            assert_prompt(&server, &site);
        }
        stop.store(true, Ordering::Relaxed);
        growing.join().unwrap()
    });
    wait_until("the whole log", || server.get("/log.txt", &[]).body.len() == grown);
    vitals.assert_kept(&server, 64);
}

/// Past the limit it is refused, with one line however much longer it becomes, and the last version stays.
#[test]
fn a_file_grows_beyond_the_limit() {
    let site = site();
    let server = Server::start(&site);
    let vitals = Vitals::of(&server);
    let path = site.data().join("w.txt");
    let mut witness = Witness::new(&server, "/w.txt");
    witness.watching(&[version(0)], || {
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        for megabytes in 1..=65 {
            // Sparse, so that no disk is filled.
            file.set_len(megabytes << 20).unwrap();
            file.write_all(b"more").unwrap();
        }
        drop(file);
        wait_until("the refusal to be told", || told(&server, "w.txt") > 0);
        for _ in 0..20 {
            OpenOptions::new().append(true).open(&path).unwrap().write_all(b"and more\n").unwrap();
            assert_prompt(&server, &site);
        }
    });
    assert!(told(&server, "w.txt") == 1, "{}", server.stderr());
    assert!(server.stderr().contains("limit"), "{}", server.stderr());
    vitals.assert_kept(&server, 16);
    witness.watching(&[version(0), text("short\n")], || sh(&site, "echo short > w.txt"));
}

#[test]
fn names_that_nobody_can_say() {
    let site = site();
    let odd: [&[u8]; 7] =
        [b"new\nline.txt", b"tab\t.txt", b"\x1b[31m.txt", b"\x7f.txt", b"\xff\xfe.txt", b"\xc3(.txt", b"\r.txt"];
    let make = |number: usize| {
        for name in odd {
            fs::write(site.data().join(OsStr::from_bytes(name)), format!("{number}")).unwrap();
            fs::create_dir_all(site.data().join(OsStr::from_bytes(&[b"d", name].concat()))).unwrap();
            fs::write(site.data().join(OsStr::from_bytes(&[b"d", name].concat())).join("in.txt"), "x").unwrap();
        }
    };
    make(0);
    let long = format!("{}.txt", "x".repeat(251));
    site.file(&long, "long")
        .file("per%cent?#&.txt", "special")
        .file("sp ace/絵.txt", "unicode")
        .file("back\\slash.txt", "b");
    let server = Server::start(&site);
    let vitals = Vitals::of(&server);
    for (path, content) in [
        (format!("/{long}"), "long"),
        ("/per%25cent%3F%23&.txt".to_owned(), "special"),
        ("/sp%20ace/%E7%B5%B5.txt".to_owned(), "unicode"),
        ("/back%5Cslash.txt".to_owned(), "b"),
    ] {
        assert_eq!(server.get(&path, &[]).text(), content, "{path}");
    }
    make(1);
    site.file(&format!("n/{long}"), "new");
    Witness::new(&server, &format!("/n/{long}")).watching(&[None, text("new")], || {});
    assert_prompt(&server, &site);
    let said = server.stderr();
    for name in ["new\\nline.txt", "tab\\t.txt", "\\u{1b}[31m.txt", "\\xFF\\xFE.txt", "\\xC3(.txt", "\\r.txt"] {
        let line = said.lines().filter(|line| line.contains(&format!("\"{name}\""))).count();
        assert_eq!(line, 1, "{name} is told of once: {said}");
    }
    assert!(said.bytes().all(|byte| byte == b'\n' || !byte.is_ascii_control()), "a line is a line: {said:?}");
    vitals.assert_kept(&server, 8);
}

/// Deeper than anything is followed, and deeper than a path can be said at all.
#[test]
fn directories_without_a_bottom() {
    let site = site();
    let deep = ["d"; 60].join("/");
    site.file(&format!("{deep}/x.txt"), "deep").file(&format!("{}/x.txt", ["e"; 80].join("/")), "too deep");
    // Below a name of 200 bytes each, beyond the longest path.
    let name = "n".repeat(200);
    sh(&site, &format!("for n in $(seq 30); do mkdir {name}; cd -P {name}; done; echo bottom > x.txt"));
    let server = Server::start(&site);
    let vitals = Vitals::of(&server);
    assert_eq!(server.get(&format!("/{deep}/x.txt"), &[]).text(), "deep");
    assert!(told(&server, "too deep") >= 1, "{}", server.stderr());
    assert_eq!(told(&server, "cannot be watched"), 0, "{}", server.stderr());
    assert_prompt(&server, &site);
    Witness::new(&server, &format!("/{deep}/x.txt"))
        .watching(&[text("deep"), text("later\n")], || sh(&site, &format!("echo later > {deep}/x.txt")));
    // The same while it runs.
    sh(&site, &format!("mkdir f; cd f; for n in $(seq 30); do mkdir {name}; cd -P {name}; done; echo bottom > x.txt"));
    site.file("f/y.txt", "y");
    Witness::new(&server, "/f/y.txt").watching(&[None, text("y")], || {});
    assert_prompt(&server, &site);
    vitals.assert_kept(&server, 16);
    // What cannot be named by a path must be removed from inside.
    sh(&site, &format!("rm -rf f {name}"));
}

/// What is not a file takes the place of one, and gives it back.
#[test]
fn a_pipe_takes_the_place_of_a_file() {
    let site = site();
    let server = Server::start(&site);
    let vitals = Vitals::of(&server);
    let mut witness = Witness::new(&server, "/w.txt");
    for number in 0..3 {
        witness.watching(&[version(number), None], || sh(&site, "mkfifo .p; mv .p w.txt"));
        assert_prompt(&server, &site);
        witness.watching(&[None, version(number + 1)], || {
            site.replace("w.txt", version(number + 1).unwrap(), at(OLD));
        });
    }
    symlink("/dev/zero", site.data().join("zero.txt")).unwrap();
    symlink("/proc/self/mem", site.data().join("mem.txt")).unwrap();
    assert_prompt(&server, &site);
    assert_eq!((server.get("/zero.txt", &[]).status, server.get("/mem.txt", &[]).status), (404, 404));
    vitals.assert_kept(&server, 8);
}

/// So much happens that the events never run dry; new directories are seen and watched all the same.
#[test]
fn new_directories_in_a_storm() {
    let site = site();
    let names: Vec<PathBuf> = (0..50).map(|number| site.data().join(format!("s{number}.txt"))).collect();
    names.iter().for_each(|name| drop(File::create(name).unwrap()));
    let server = Server::start(&site);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let time = at(OLD + turn / 50);
                File::open(&names[turn as usize % 50]).unwrap().set_modified(time).unwrap();
                if turn % 10 == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let stormy = std::panic::AssertUnwindSafe(|| {
            for number in 0..5 {
                let name = format!("late{number}/er/x.txt");
                sh(&site, &format!("mkdir -p late{number}/er"));
                thread::sleep(Duration::from_millis(400));
                site.file(&name, "new");
                let mut witness = Witness::new(&server, &format!("/{name}"));
                witness.watching(&[None, text("new")], || {});
                witness.watching(&[text("new"), text("later\n")], || sh(&site, &format!("echo later > {name}")));
            }
        });
        let done = std::panic::catch_unwind(stormy);
        stop.store(true, Ordering::Relaxed);
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    assert_prompt(&server, &site);
}

/// Thousands of small files, written again and again, are held in little more than they have bytes.
#[test]
fn small_files_take_little_memory() {
    let site = site();
    let server = Server::start(&site);
    let vitals = Vitals::of(&server);
    for round in 0..2 {
        for number in 0..3000 {
            let content = format!("{round}{number:04} of a small file, not worth being compressed");
            fs::write(site.data().join(format!("{number}.txt")), content).unwrap();
        }
    }
    wait_until("the last of them", || server.get("/2999.txt", &[]).text().starts_with("12999"));
    vitals.assert_kept(&server, 24);
}

/// The same when they are loaded by several threads, and there is next to nothing in them.
#[test]
fn tiny_files_are_loaded_into_little_memory() {
    let site = site();
    for number in 0..6000 {
        fs::write(site.data().join(format!("{number}.txt")), format!("{}\n", number % 10)).unwrap();
    }
    let server = Server::start(&site);
    let megabytes = Vitals::of(&server).megabytes();
    assert!(megabytes < 48, "{megabytes} MB for 6000 files of two bytes");
}
