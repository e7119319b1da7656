//! myzip when things go wrong: one file fails with its name and its reason, the others go on, and no name ever holds
//! half a file.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use cloudia::{
    feed::codec::open_mz,
    mz::{self, Effort},
};

use crate::{
    harness::{Rng, Site, wait_until},
    myzip::{PROGRAM, content_of, fails, myzip, names, text, well},
};

#[test]
fn the_others_go_on() {
    let site = Site::new();
    site.file("a.js", text(1, 50)).file("b.js", text(2, 50)).file("d/x", "x");
    let said = fails(&site, &["absent.js", "a.js", "d", "/dev/null", "b.js"], 1);
    for line in
        ["absent.js: cannot be looked at: No such file", "d: is a directory: add -r", "/dev/null: is not a regular"]
    {
        assert!(said.contains(line), "{said}");
    }
    assert_eq!(names(&site), ["a.js", "a.js.mz", "b.js", "b.js.mz", "d/x"]);
}

#[test]
fn damage_is_told_by_its_kind() {
    let site = Site::new();
    let good = mz::pack(text(3, 50).as_bytes(), Effort::Default).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 0x10;
    let truncated = &good[..good.len() - 3];
    let (twice, empty) = ([&good[..], &good].concat(), []);
    site.file("flipped.mz", flipped).file("truncated.mz", truncated).file("twice.mz", twice).file("empty.mz", empty);
    site.file("good.mz", &good);
    for flags in [&["-t", "-r", "."][..], &["-l", "-r", "."], &["-d", "-r", "."]] {
        let output = myzip(&site, flags);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 4), "{said}");
        assert!(
            said.contains("./truncated.mz: is truncated") && said.contains("./twice.mz: has bytes after"),
            "{said}"
        );
    }
    let mut expected = ["empty.mz", "flipped.mz", "good", "good.mz", "truncated.mz", "twice.mz"].map(str::to_owned);
    expected.sort();
    assert_eq!(names(&site), expected);
}

#[test]
fn larger_than_the_server_publishes() {
    let site = Site::new();
    let file = fs::File::create(site.data().join("large.bin")).unwrap();
    file.set_len(64 * 1024 * 1024 + 1).unwrap();
    site.file("a.js", text(4, 50));
    let output = myzip(&site, &["-r", "."]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("warning: ./large.bin: is larger than 64 MiB"), "{said}");
    assert_eq!(names(&site), ["a.js", "a.js.mz", "large.bin"]);
}

/// Without the powers of root, so that rights mean something to it as well.
fn powerless(site: &Site, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new("setpriv");
    // SAFETY: geteuid takes nothing, touches nothing and cannot fail.
    if unsafe { libc::geteuid() } == 0 {
        command.args(["--bounding-set=-all", "--inh-caps=-all"]);
    }
    let output = command.args(["--", PROGRAM]).args(arguments).current_dir(site.data()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn without_the_right() {
    let site = Site::new();
    let set = |name: &str, mode| {
        fs::set_permissions(site.data().join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    site.file("a.js", text(5, 50)).file("secret.js", text(6, 50)).file("shut/b.js", text(7, 50)).file("dark/c.js", "c");
    set("secret.js", 0);
    set("shut", 0o555);
    set("dark", 0);
    let (code, said) = powerless(&site, &["-r", "."]);
    set("shut", 0o755);
    set("dark", 0o755);
    assert_eq!(code, Some(1), "{said}");
    for line in [
        "./secret.js: cannot be read: Permission denied",
        "./shut/b.js: ./shut/b.js.mz cannot be written: Permission denied",
        "./dark: cannot be read: Permission denied",
    ] {
        assert!(said.contains(line), "{said}");
    }
    assert_eq!(names(&site), ["a.js", "a.js.mz", "dark/c.js", "secret.js", "shut/b.js"]);
}

#[test]
fn on_a_full_disk() {
    let site = Site::new();
    let mut rng = Rng::with_seed(8);
    let noise: String = (0..200_000).map(|_| char::from(b'a' + rng.below(20) as u8)).collect();
    site.file("large.js", noise).file("small.js", text(9, 20));
    // A file system of 64 kB in a mount namespace of its own: it is gone with the program.
    let script =
        "mount -t tmpfs -o size=64k none full && \"$0\" large.js small.js -o full; code=$?; ls -A full; exit $code";
    fs::create_dir(site.data().join("full")).unwrap();
    let run = |flags: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(flags).args(["sh", "-c", script, PROGRAM]).current_dir(site.data());
        command.output().unwrap()
    };
    let mut output = run(&["--mount"]);
    if output.status.code() != Some(1) || !String::from_utf8_lossy(&output.stderr).contains("large.js") {
        output = run(&["--mount", "--user", "--map-root-user"]);
    }
    let (told, said) = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).into();
    if said.contains("unshare") || said.contains("mount:") {
        eprintln!("skipped: nothing can be mounted here: {said}");
        return;
    }
    assert!(said.contains("large.js: full/large.js.mz cannot be written: No space left on device"), "{said}");
    assert!(said.contains("make room and run it again"), "{said}");
    assert_eq!((output.status.code(), told.lines().last()), (Some(1), Some("small.js.mz")), "{told}");
}

#[test]
fn onto_a_full_device() {
    let site = Site::new();
    site.file("small.js", text(9, 20));
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(PROGRAM);
    let output = command.args(["-o", "-", "small.js"]).current_dir(site.data()).stdout(full).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("small.js: cannot be written: No space left on device"), "{said}");
}

#[test]
fn over_the_file_size_limit() {
    let site = Site::new();
    let mut rng = Rng::with_seed(10);
    let noise: String = (0..60_000).map(|_| char::from(b'a' + rng.below(20) as u8)).collect();
    site.file("large.js", noise).file("small.js", text(11, 20));
    let script = "ulimit -f 8; exec \"$0\" large.js small.js";
    let output = Command::new("sh").args(["-c", script, PROGRAM]).current_dir(site.data()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("large.js.mz cannot be written") && said.contains("ulimit -f"), "{said}");
    assert_eq!(names(&site), ["large.js", "small.js", "small.js.mz"]);
}

/// Many files, so that a signal comes while some are being written.
fn busy_site() -> Site {
    let site = Site::new();
    for n in 0..300 {
        site.file(&format!("{}/{n}.js", n % 5), text(n, 40));
    }
    site
}

#[test]
fn killed_at_any_moment() {
    let site = busy_site();
    let mut rng = Rng::seeded();
    for round in 0..12 {
        let mut child = Command::new(PROGRAM)
            .args(["-r", "-q", "--force", "."])
            .current_dir(site.data())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(rng.below(60) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        for name in names(&site).iter().filter(|name| name.ends_with(".mz")) {
            let plain = fs::read(site.data().join(name.trim_end_matches(".mz"))).unwrap();
            assert_eq!(content_of(site.data().join(name)), plain, "round {round}: {name}");
        }
    }
    well(&site, &["-r", "-q", "."]);
    assert_eq!(names(&site).len(), 600, "nothing is left behind, nothing is missing");
}

#[test]
fn ctrl_c_leaves_a_clean_tree() {
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let site = busy_site();
        let child = Command::new(PROGRAM)
            .args(["-r", "-q", "."])
            .current_dir(site.data())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_until("it has begun", || names(&site).len() > 310);
        let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let output = child.wait_with_output().unwrap();
        // It may have been faster.
        if output.status.code() != Some(0) {
            assert_eq!(output.status.code(), Some(code));
            assert!(String::from_utf8(output.stderr).unwrap().contains("stopped; what was finished is in place"));
        }
        for name in names(&site) {
            assert!(!name.contains(".myzip-"), "{name} is left");
            if name.ends_with(".mz") {
                content_of(site.data().join(name));
            }
        }
    }
}

#[test]
fn ctrl_c_does_not_wait_for_a_large_file() {
    let site = Site::new();
    site.file("large.js", text(1, 100_000));
    let mut child = Command::new(PROGRAM)
        .args(["--best", "large.js"])
        .current_dir(site.data())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Its signals are caught once it has more than one thread.
    let tasks = format!("/proc/{}/task", child.id());
    wait_until("it has threads", || fs::read_dir(&tasks).is_ok_and(|tasks| tasks.count() > 2));
    Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(names(&site), ["large.js"]);
}

#[test]
fn what_a_killed_run_left_is_cleaned_up_and_what_a_running_one_holds_is_not() {
    let site = Site::new();
    site.file("a.js", text(1, 50)).file(".myzip-999999-0.tmp", "half").file(".myzip-1-1.tmp", "in use");
    let held = fs::File::open(site.data().join(".myzip-1-1.tmp")).unwrap();
    held.lock_shared().unwrap();
    well(&site, &["a.js"]);
    assert_eq!(names(&site), [".myzip-1-1.tmp", "a.js", "a.js.mz"]);
    drop(held);
    well(&site, &["a.js"]);
    assert_eq!(names(&site), ["a.js", "a.js.mz"]);
}

#[test]
fn two_runs_at_once() {
    let site = busy_site();
    let run = || Command::new(PROGRAM).args(["-r", "-q", "--force", "."]).current_dir(site.data()).spawn().unwrap();
    for mut child in [run(), run(), run()] {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(names(&site).len(), 600);
}

#[test]
fn names_that_are_too_long_or_would_speak_to_the_terminal() {
    let site = Site::new();
    let (long, longest) = ("n".repeat(252), "m".repeat(253));
    site.file(&long, text(1, 50)).file(&longest, text(1, 50)).file("b\x1b[31m.js", text(2, 50));
    assert!(fails(&site, &[&longest], 1).contains("its name with .mz is too long"));
    well(&site, &[&long]);
    let output = myzip(&site, &["-v", "-r", ".", "b\x1b[31m.js"]);
    let said = [output.stdout, output.stderr].concat();
    assert!(!said.contains(&0x1b) && String::from_utf8(said).unwrap().contains("b\\u{1b}[31m.js"));
    let mz = fs::read(site.data().join(format!("{long}.mz"))).unwrap();
    assert!(open_mz(&mz).is_ok());
}
