//! The feed where it once went wrong, or easily could: what is told apart only by looking twice.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::PermissionsExt,
    process::Command,
    time::Instant,
};

use crate::{
    feed::{gzip, shows, wait_for, wait_for_404},
    harness::{Server, Site, at, now, wait_until},
};

/// As `git checkout` replaces files: each is deleted and made again, all of them within a second.
#[test]
fn files_that_are_deleted_and_made_again_have_not_vanished() {
    let site = Site::new();
    let names: Vec<String> = (0..6).map(|number| format!("f{number}.txt")).collect();
    for name in &names {
        site.file(name, "old");
    }
    let server = Server::start(&site);
    for name in &names {
        site.remove(name);
        wait_for_404(&server, &format!("/{name}"));
        site.file(name, "new");
        wait_for(&server, &format!("/{name}"), "new");
    }
    for name in &names {
        assert!(shows(&server, &format!("/{name}"), "new"), "{name}: an old version has come back");
    }
    assert!(!server.stderr().contains("vanished"), "{}", server.stderr());
}

/// Most files vanish and are kept for a while; when they are believed gone, they do not come back with the next deletion.
#[test]
fn what_was_held_and_went_stays_gone() {
    let site = Site::new();
    for name in ["a.txt", "b.txt", "c.txt"] {
        site.file(name, "x");
    }
    let server = Server::start(&site);
    let aside = site.outside().join("aside");
    fs::create_dir(&aside).unwrap();
    // One system call each, so that they go within a second on any machine.
    for name in ["a.txt", "b.txt", "c.txt"] {
        fs::rename(site.data().join(name), aside.join(name)).unwrap();
    }
    wait_until("the loss to be told", || server.stderr().contains("have vanished"));
    assert!(["/a.txt", "/b.txt", "/c.txt"].iter().any(|path| server.get(path, &[]).status == 200));
    for path in ["/a.txt", "/b.txt", "/c.txt"] {
        wait_for_404(&server, path);
    }
    site.remove("alive.txt");
    wait_for_404(&server, "/alive.txt");
    for path in ["/a.txt", "/b.txt", "/c.txt"] {
        assert_eq!(server.get(path, &[]).status, 404, "{path} has come back");
    }
}

/// A writer that stalls does not make another file's writer look like one.
#[test]
fn a_stalled_writer_is_not_everybodys_excuse() {
    let site = Site::new();
    site.file("x.js", "whole\n");
    let server = Server::start(&site);
    let mut stalled = File::create(site.data().join("x.js.gz")).unwrap();
    stalled.write_all(b"half").unwrap();
    let stalled_since = Instant::now();
    let mut writing = None;
    // The stalled file is read when it has been still for two seconds; by then another one is in the middle of a write.
    while stalled_since.elapsed().as_millis() < 2600 {
        if writing.is_none() && stalled_since.elapsed().as_millis() > 1500 {
            let mut file = OpenOptions::new().write(true).truncate(true).open(site.data().join("x.js")).unwrap();
            file.write_all(b"torn").unwrap();
            writing = Some(file);
        }
        assert!(shows(&server, "/x.js", "whole\n"), "half a file was served");
    }
    writing.unwrap().write_all(b" no more\n").unwrap();
    wait_for(&server, "/x.js", "torn no more\n");
}

#[test]
fn links_disclose_nothing() {
    let site = Site::new();
    fs::write(site.outside().join("secret.txt"), "secret").unwrap();
    site.file(".git/config", "secret").file("pub/config", "public").file("x.js.mz", gzip(b"content")).file("p.js", "p");
    site.link("raw.bin", "x.js.mz").link("y.js.mz", "x.js.mz");
    let server = Server::start(&site);
    assert!(shows(&server, "/pub/config", "public") && shows(&server, "/y.js", "content"));
    assert_eq!(server.get("/raw.bin", &[]).status, 404, "a .mz under another name");
    fs::remove_dir_all(site.data().join("pub")).unwrap();
    site.link("pub", ".git");
    wait_until("the link to be refused", || server.stderr().contains("pub"));
    wait_for_404(&server, "/pub/config");
    // A file in whose place a link out has come is gone, as it would be after a restart.
    site.link("aside", site.outside().join("secret.txt"));
    fs::rename(site.data().join("aside"), site.data().join("p.js")).unwrap();
    wait_for_404(&server, "/p.js");
}

#[test]
fn a_disowned_mz_is_not_owned_again_by_its_mode() {
    let site = Site::new();
    site.file("x.txt", "new content").file("x.txt.mz", gzip(b"old content")).file("y.txt", "y");
    let server = Server::start(&site);
    assert!(shows(&server, "/x.txt", "new content"));
    site.remove("x.txt");
    wait_for_404(&server, "/x.txt");
    fs::set_permissions(site.data().join("x.txt.mz"), fs::Permissions::from_mode(0o600)).unwrap();
    // Whatever came of it has come before this.
    site.file("y.txt", "later");
    wait_for(&server, "/y.txt", "later");
    assert_eq!(server.get("/x.txt", &[]).status, 404);
}

#[test]
fn what_is_beside_an_unpublished_name_is_its_sidecar() {
    let site = Site::new();
    site.file("q.quotes", "a=1\n").file("q.quotes.gz", gzip(b"a=1\n")).file("backup.tar.gz", gzip(b"tar"));
    let server = Server::start(&site);
    assert_eq!(server.get("/q.quotes.gz", &[]).status, 404);
    assert_eq!(server.get("/backup.tar.gz", &[]).status, 200);
}

/// A brotli stream with a window beyond RFC 7932, which no browser reads, and a zstd frame with a wrong checksum.
#[test]
fn sidecars_that_clients_cannot_read_are_ignored() {
    let site = Site::new();
    let content = "the same line again and again\n".repeat(200);
    site.file("b.txt", &content).file("z.txt", &content).file("good.txt", &content);
    let run = |program: &str, args: &[&str], input: &str, output: &str| {
        let input = site.data().join(input);
        let made = Command::new(program).args(args).arg(input).arg("-o").arg(site.data().join(output)).status();
        assert!(made.unwrap().success(), "{program}; tools/test installs it");
    };
    run("brotli", &["-f", "-q", "9", "--large_window=26"], "b.txt", "b.txt.br");
    run("brotli", &["-f", "-q", "9"], "good.txt", "good.txt.br");
    run("zstd", &["-f", "-q", "--check"], "z.txt", "z.txt.zst");
    let mut damaged = fs::read(site.data().join("z.txt.zst")).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    site.file("z.txt.zst", damaged);
    let server = Server::start(&site);
    let coding = |path: &str| {
        let answer = server.get(path, &["Accept-Encoding: br, zstd"]);
        answer.get("content-encoding").unwrap_or("identity").to_owned()
    };
    assert_eq!(coding("/good.txt"), "br");
    assert_eq!(coding("/b.txt"), "identity");
    assert_eq!(coding("/z.txt"), "identity");
}

/// Two versions within a second, the second one slow to load: `Last-Modified` never names both.
#[test]
fn a_slow_load_does_not_share_the_stamp_of_the_version_before() {
    let site = Site::new();
    site.file("v.txt", "zero");
    let server = Server::start(&site);
    let large: Vec<u8> = (0..6_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    site.replace("v.txt", "one", at(now() + 5));
    wait_for(&server, "/v.txt", "one");
    site.replace("v.txt", &large, at(now() + 5));
    let (mut date_of_one, mut date_of_large) = (None, None);
    wait_until("a date for the second version", || {
        let answer = server.get("/v.txt", &["Range: bytes=0-2"]);
        let date = answer.get("last-modified").map(str::to_owned);
        match answer.get("content-range") {
            Some("bytes 0-2/3") => date_of_one = date.or(date_of_one.take()),
            _ => date_of_large = date,
        }
        date_of_large.is_some()
    });
    assert_ne!(date_of_one, date_of_large);
}

/// The server runs as another user than the files' owner, so that the kernel does not tell it of writers; nothing is torn
/// all the same.
#[test]
fn files_of_another_user_are_not_torn() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let site = Site::new();
    let whole = |number: usize| format!("{number:04}\n").repeat(600);
    site.file("w.txt", whole(0));
    let server = Server::builder(&site).flag("--user", "nobody").start();
    for number in 1..60 {
        let mut file = File::create(site.data().join("w.txt")).unwrap();
        let text = whole(number);
        let (front, back) = text.split_at(1500);
        file.write_all(front.as_bytes()).unwrap();
        for _ in 0..5 {
            let answer = server.get("/w.txt", &[]);
            let text = answer.text();
            assert!(text.len() == 3000 && text == text[..5].repeat(600), "torn: {} bytes", text.len());
        }
        file.write_all(back.as_bytes()).unwrap();
    }
    wait_for(&server, "/w.txt", &whole(59));
}
