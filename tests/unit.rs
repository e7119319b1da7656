//! The unit of systemd: it is well formed, leaves little open, and allows every system call that the server makes. It does not run
//! here; what it would do is judged by systemd's own programs.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    cases::get,
    harness::{Server, Site, own_address, wait_until},
    start::settings,
};

fn unit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/cloudia.service")
}

/// What `systemd-analyze` says, and whether it is content.
fn analyze(arguments: &[&str]) -> (String, bool) {
    let output = Command::new("systemd-analyze").args(arguments).output().expect("tools/test installs systemd");
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&said).into_owned(), output.status.success())
}

#[test]
fn it_is_well_formed() {
    let site = Site::new();
    // The program is not where a package would put it.
    let text = fs::read_to_string(unit()).unwrap().replace("/usr/bin/cloudia", env!("CARGO_BIN_EXE_cloudia"));
    let copy = site.outside().join("cloudia.service");
    fs::write(&copy, text).unwrap();
    let (said, is_good) = analyze(&["verify", copy.to_str().unwrap()]);
    let about_it: Vec<&str> = said.lines().filter(|line| line.contains("cloudia")).collect();
    assert!(is_good && about_it.is_empty(), "{said}");
}

/// From 0, which leaves nothing open, to 10. docs/reliability.md records it.
#[test]
fn it_leaves_little_open() {
    let (said, is_good) = analyze(&["security", "--offline=yes", "--threshold=17", unit().to_str().unwrap()]);
    assert!(is_good, "{said}");
}

/// The calls that `SystemCallFilter` leaves.
fn allowed() -> BTreeSet<String> {
    let text = fs::read_to_string(unit()).unwrap();
    let mut allowed = BTreeSet::new();
    for filter in text.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (words, is_taken) = filter.strip_prefix('~').map_or((filter, false), |words| (words, true));
        for word in words.split_whitespace() {
            let calls = calls_of(word);
            if is_taken {
                allowed.retain(|call| !calls.contains(call));
            } else {
                allowed.extend(calls);
            }
        }
    }
    allowed
}

/// The calls of a group, with those of the groups in it, or the one call.
fn calls_of(word: &str) -> BTreeSet<String> {
    if !word.starts_with('@') {
        return BTreeSet::from([word.to_owned()]);
    }
    let (said, is_good) = analyze(&["syscall-filter", word]);
    assert!(is_good, "{word}: {said}");
    let members = said.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    members.flat_map(calls_of).collect()
}

/// From its start to its end, with a change, a take-over and feeders in between.
#[test]
fn it_allows_what_the_server_does() {
    if !crate::strace::may_trace() {
        return;
    }
    let site = Site::new();
    let trace = site.outside().join("trace");
    let strace = ["strace", "-D", "-ff", "-o", trace.to_str().unwrap()];
    let quotes = site.outside().join("q");
    let snapshot = site.outside().join("s.quotes");
    let file = settings(&site, "unit.toml", &format!("[quotes]\nsocket = {quotes:?}\nsnapshot = {snapshot:?}\n"));
    let mut old = Server::builder(&site).listen(own_address()).flag("--config", &file).under(&strace).start();
    let mut conn = old.connect();
    for number in 0..3 {
        let text = format!("{number}\n").repeat(3000);
        fs::write(site.data().join("changing.txt"), &text).unwrap();
        wait_until("a change", || {
            conn.send(get("/changing.txt"));
            conn.recv().text() == text
        });
    }
    let mut feeder = UnixStream::connect(&quotes).unwrap();
    feeder.write_all(b"a=1\n\n").unwrap();
    wait_until("a quote", || {
        conn.send(get("/list=a"));
        conn.recv().text().contains("\"1\"")
    });
    drop((feeder, conn));
    let mut new = old.successor(&site).flag("--config", &file).under(&strace).start();
    assert_eq!((old.wait().code(), new.stop().code()), (Some(0), Some(0)));
    let allowed = allowed();
    assert!(allowed.contains("io_uring_enter") && allowed.len() > 200 && !allowed.contains("chroot"), "{allowed:?}");
    let mut made = BTreeSet::new();
    for file in fs::read_dir(site.outside()).unwrap().map(|entry| entry.unwrap().path()) {
        if file.file_name().unwrap().to_str().unwrap().starts_with("trace.") {
            let text = fs::read_to_string(file).unwrap();
            let calls = text.lines().filter_map(|line| line.split_once('(')).map(|(call, _)| call.to_owned());
            made.extend(calls.filter(|call| call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')));
        }
    }
    assert!(
        ["landlock_restrict_self", "inotify_add_watch", "memfd_create"].iter().all(|call| made.contains(*call)),
        "{made:?}"
    );
    let forbidden: Vec<_> = made.difference(&allowed).collect();
    assert!(forbidden.is_empty(), "the unit forbids {forbidden:?}");
}
