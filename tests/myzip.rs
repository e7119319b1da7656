//! The program myzip from outside: every option, pipes, links, what it leaves alone. What goes wrong is in
//! `myzip_faults`.

use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use cloudia::{
    feed::codec::open_mz,
    mz::{self, Effort},
};
use serde_json::Value;

use crate::harness::{OLD, Rng, Site, at};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_myzip");

/// Runs it in the site's data directory.
pub(crate) fn myzip(site: &Site, arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).current_dir(site.data()).stdin(Stdio::null()).output().unwrap()
}

/// Runs it and insists that it goes well.
#[track_caller]
pub(crate) fn well(site: &Site, arguments: &[&str]) -> String {
    let output = myzip(site, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs it, insists on the exit code and gives what it said on standard error.
#[track_caller]
pub(crate) fn fails(site: &Site, arguments: &[&str], code: i32) -> String {
    let output = myzip(site, arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn piped(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(PROGRAM)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Who refuses its input early closes the pipe.
    stdin.write_all(input).ok();
    drop(stdin);
    child.wait_with_output().unwrap()
}

/// Text that gets smaller, the more so the longer it is, other for each `seed`.
pub(crate) fn text(seed: usize, lines: usize) -> String {
    (seed..seed + lines).map(|n| format!("var hq_str_{}=\"{},{:.2}\";\n", n % 97, n * n, n as f64 / 7.0)).collect()
}

pub(crate) fn content_of(path: impl AsRef<Path>) -> Vec<u8> {
    open_mz(&fs::read(path).unwrap()).unwrap().content
}

/// The names in the data directory, hidden ones too, but for the site's own file.
pub(crate) fn names(site: &Site) -> Vec<String> {
    let mut names = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(below) = directories.pop() {
        for entry in fs::read_dir(site.data().join(&below)).unwrap() {
            let entry = entry.unwrap();
            let name = below.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                directories.push(name);
            } else if name != Path::new("alive.txt") {
                names.push(name.to_str().unwrap().to_owned());
            }
        }
    }
    names.sort();
    names
}

#[test]
fn beside_each_file_with_its_time_and_rights() {
    let site = Site::new();
    let (a, b) = (text(1, 200), text(2, 300));
    site.file("a.js", &a).file("b.js", &b);
    fs::set_permissions(site.data().join("b.js"), fs::Permissions::from_mode(0o640)).unwrap();
    let said = well(&site, &["a.js", "b.js"]);
    assert_eq!(names(&site), ["a.js", "a.js.mz", "b.js", "b.js.mz"]);
    for (name, content) in [("a.js", &a), ("b.js", &b)] {
        let (plain, mz) = (site.data().join(name), site.data().join(format!("{name}.mz")));
        assert_eq!(content_of(&mz), content.as_bytes());
        let [plain, mz] = [plain, mz].map(|path| path.metadata().unwrap());
        assert_eq!((mz.mtime(), mz.mtime_nsec(), mz.mode()), (OLD as i64, 0, plain.mode()), "{name}");
        assert!(said.contains(&format!("made       {name}  {} -> {} bytes", plain.len(), mz.len())), "{said}");
    }
    let total = said.lines().last().unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(total[..3], ["total", "2", (a.len() + b.len()).to_string().as_str()]);
    assert!(said.contains("files       before        after     saved   seconds"));
}

#[test]
fn the_same_bytes_every_time_and_everywhere() {
    let site = Site::new();
    let content = text(3, 500);
    site.file("a.js", &content).file("copy/b.js", &content).mtime("copy/b.js", at(5));
    well(&site, &["-r", "."]);
    let bytes = fs::read(site.data().join("a.js.mz")).unwrap();
    assert_eq!(bytes, fs::read(site.data().join("copy/b.js.mz")).unwrap());
    assert_eq!(bytes, piped(&[], content.as_bytes()).stdout);
    assert_eq!(bytes[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0x10, 255], "no name, no time, a fixed system");
    site.remove("a.js.mz");
    well(&site, &["--jobs", "1", "a.js"]);
    assert_eq!(bytes, fs::read(site.data().join("a.js.mz")).unwrap());
}

#[test]
fn more_effort_is_smaller_and_less_does_not_undo_it() {
    let site = Site::new();
    site.file("a.js", text(4, 60));
    let mut sizes = Vec::new();
    for (flags, effort) in
        [(&["--fast", "a.js"][..], Effort::Fast), (&["a.js"], Effort::Default), (&["--best", "a.js"], Effort::Best)]
    {
        assert!(well(&site, flags).starts_with("made"));
        let mz = fs::read(site.data().join("a.js.mz")).unwrap();
        assert_eq!(mz::effort(&mz), Some(effort));
        sizes.push(mz.len());
    }
    assert!(sizes.is_sorted_by(|more, less| more > less), "{sizes:?}");
    for flags in [&["--fast", "-v", "a.js"][..], &["-v", "a.js"], &["--best", "-v", "a.js"]] {
        assert!(well(&site, flags).starts_with("unchanged  a.js"));
    }
    assert!(well(&site, &["--fast", "--force", "a.js"]).starts_with("made"));
    assert_eq!(fs::read(site.data().join("a.js.mz")).unwrap().len(), sizes[0]);
}

#[test]
fn unchanged_is_what_holds_the_very_bytes() {
    let site = Site::new();
    site.file("a.js", text(5, 100));
    well(&site, &["a.js"]);
    let inode = || site.data().join("a.js.mz").metadata().unwrap().ino();
    let first = inode();
    assert!(!well(&site, &["a.js"]).contains("made"));
    assert_eq!(inode(), first);
    // Same size, same time, other bytes.
    site.file("a.js", text(5, 100).replace("hq", "qh"));
    assert!(well(&site, &["a.js"]).contains("made"));
    assert_eq!(content_of(site.data().join("a.js.mz")), text(5, 100).replace("hq", "qh").as_bytes());
    // Same bytes, another time: that alone is copied.
    let second = inode();
    site.mtime("a.js", at(OLD + 77));
    assert!(!well(&site, &["a.js"]).contains("made"));
    assert_eq!((inode(), site.data().join("a.js.mz").metadata().unwrap().mtime()), (second, OLD as i64 + 77));
    // Damaged: made anew.
    site.file("a.js.mz", b"\x1f\x8b junk");
    assert!(well(&site, &["a.js"]).contains("made"));
}

#[test]
fn what_others_made_gives_way_to_something_smaller_only() {
    let site = Site::new();
    let content = text(6, 400);
    site.file("a.js", &content);
    let gzip = |level: &str| {
        let made = Command::new("gzip").args([level, "-nc"]).arg(site.data().join("a.js")).output().unwrap().stdout;
        site.file("a.js.mz", made);
    };
    gzip("-1");
    assert!(well(&site, &["a.js"]).contains("made"));
    // Of the best effort, but without the mark of it.
    let mut foreign = mz::pack(content.as_bytes(), Effort::Best).unwrap();
    foreign[8] = 2;
    site.file("a.js.mz", &foreign);
    assert!(!well(&site, &["a.js"]).contains("made"));
    assert_eq!(fs::read(site.data().join("a.js.mz")).unwrap(), foreign);
}

#[test]
fn what_does_not_get_smaller_is_skipped_and_said_so() {
    let site = Site::new();
    let mut rng = Rng::with_seed(7);
    let noise: Vec<u8> = (0..10_000).map(|_| rng.next() as u8).collect();
    site.file("noise.dat", noise).file("tiny.txt", "tiny").file("empty.txt", "");
    let said = well(&site, &["noise.dat", "tiny.txt", "empty.txt"]);
    assert_eq!(names(&site), ["empty.txt", "noise.dat", "tiny.txt"]);
    for line in ["noise.dat  does not get smaller", "tiny.txt  does not get smaller", "empty.txt  is empty"] {
        assert!(said.contains(&format!("skipped    {line}")), "{said}");
    }
    // A .mz of what it was before is worse than none.
    site.file("tiny.txt.mz", mz::pack(text(1, 9).as_bytes(), Effort::Fast).unwrap());
    assert!(well(&site, &["tiny.txt"]).contains("its stale .mz is removed"));
    assert_eq!(names(&site), ["empty.txt", "noise.dat", "tiny.txt"]);
    assert!(well(&site, &["--check", "-r", "."]).contains("total             4"));
    site.file("precious.txt", "precious");
    well(&site, &["tiny.txt", "-o", "precious.txt"]);
    assert!(names(&site).contains(&"precious.txt".to_owned()));
}

#[test]
fn directories_with_what_a_server_publishes() {
    let site = Site::new();
    let served = ["a.js", "d/b.json", "d/e/c.css", ".well-known/x.txt", "odd name\u{e9}.txt"];
    let hidden = [".hidden", ".git/x.js", "old.js~", "up.tmp", "v.swp", "w.part", "q.quotes", "#auto#", "d/.x.js"];
    let compressed = ["pic.PNG", "font.woff2", "dump.json.gz", "x.br"];
    for name in served.iter().chain(&hidden).chain(&compressed) {
        site.file(name, text(8, 50));
    }
    site.file("a.js.gz", "sidecar").file("alone.js.mz", mz::pack(b"alone", Effort::Fast).unwrap());
    let said = well(&site, &["-r", "."]);
    let made: Vec<String> = names(&site).into_iter().filter(|name| name.ends_with(".mz")).collect();
    let mut expected: Vec<String> = served.iter().map(|name| format!("{name}.mz")).collect();
    expected.push("alone.js.mz".to_owned());
    expected.sort();
    assert_eq!(made, expected);
    for name in compressed {
        assert!(said.contains(&format!("skipped    ./{name}  is compressed already")), "{said}");
    }
    assert!(!said.contains("a.js.gz") && !said.contains("alone"));
    // Named itself, it is taken.
    well(&site, &["pic.PNG", ".hidden"]);
    assert!(names(&site).contains(&"pic.PNG.mz".to_owned()));
}

#[test]
fn elsewhere() {
    let site = Site::new();
    site.file("in/a.js", text(9, 90)).file("in/d/b.js", text(10, 90));
    well(&site, &["-r", "in", "-o", "out"]);
    assert_eq!(names(&site), ["in/a.js", "in/d/b.js", "out/a.js.mz", "out/d/b.js.mz"]);
    assert!(well(&site, &["-r", "in", "-o", "out"]).contains("unchanged         2"));
    assert!(well(&site, &["-r", "--check", "in", "-o", "out"]).contains("unchanged         2"));
    well(&site, &["-r", "-d", "out", "-o", "back/"]);
    assert_eq!(fs::read(site.data().join("back/d/b.js")).unwrap(), text(10, 90).as_bytes());
    assert_eq!(site.data().join("back/d/b.js").metadata().unwrap().mtime(), OLD as i64);
    well(&site, &["in/a.js", "-o", "named.mz"]);
    assert_eq!(content_of(site.data().join("named.mz")), text(9, 90).as_bytes());
    let stdout = myzip(&site, &["in/a.js", "-o", "-"]).stdout;
    assert_eq!(stdout, fs::read(site.data().join("named.mz")).unwrap());
    site.file("other/a.js", text(11, 90));
    assert!(fails(&site, &["in/a.js", "other/a.js", "-o", "out"], 1).contains("would overwrite"));
}

#[test]
fn pipes() {
    for content in [Vec::new(), b"x".to_vec(), text(12, 900).into_bytes(), vec![0; 3_000_000]] {
        for effort in ["--fast", "-q"] {
            let packed = piped(&[effort], &content);
            assert!(packed.status.success() && packed.stderr.is_empty());
            assert_eq!(open_mz(&packed.stdout).unwrap().content, content);
            assert_eq!(piped(&["-d"], &packed.stdout).stdout, content);
            assert_eq!(piped(&["-d", "-"], &packed.stdout).stdout, content);
            assert!(piped(&["-t"], &packed.stdout).status.success());
            let list = String::from_utf8(piped(&["-l"], &packed.stdout).stdout).unwrap();
            assert!(list.contains(&content.len().to_string()) && list.contains("standard input"), "{list}");
        }
    }
    let site = Site::new();
    let out = site.data().join("x.mz");
    assert!(piped(&["-o", out.to_str().unwrap()], b"some some some some some some content").status.success());
    assert_eq!(content_of(out), b"some some some some some some content");
    let broken = piped(&["-d"], b"not compressed");
    let said = String::from_utf8(broken.stderr).unwrap();
    assert_eq!((broken.status.code(), broken.stdout.len()), (Some(1), 0));
    assert!(said.starts_with("myzip: standard input: is neither gzip"), "{said}");
}

#[test]
fn restored_tested_listed() {
    let site = Site::new();
    site.file("a.js", text(13, 70)).file("b.js", text(14, 70));
    well(&site, &["-r", "."]);
    site.remove("a.js");
    assert!(well(&site, &["-d", "a.js.mz"]).starts_with("restored   a.js.mz"));
    assert_eq!(fs::read(site.data().join("a.js")).unwrap(), text(13, 70).as_bytes());
    assert_eq!(site.data().join("a.js").metadata().unwrap().mtime(), OLD as i64);
    assert!(names(&site).contains(&"a.js.mz".to_owned()), "it stays");
    assert!(well(&site, &["-d", "a.js.mz"]).contains("unchanged         1"));
    site.file("a.js", "something else");
    assert!(fails(&site, &["-d", "a.js.mz"], 1).contains("a.js is there with other content: --force replaces it"));
    assert_eq!(fs::read(site.data().join("a.js")).unwrap(), b"something else");
    well(&site, &["-d", "--force", "a.js.mz"]);
    assert_eq!(fs::read(site.data().join("a.js")).unwrap(), text(13, 70).as_bytes());
    assert!(fails(&site, &["-d", "a.js"], 1).contains("does not end in .mz"));

    assert!(well(&site, &["-t", "-r", "."]).contains("good              2"));
    let list = well(&site, &["-l", "-r", "."]);
    let row: Vec<&str> = list.lines().nth(1).unwrap().split_whitespace().collect();
    let mz = site.data().join("a.js.mz").metadata().unwrap().len().to_string();
    assert_eq!((row[0], row[1], row[4]), (text(13, 70).len().to_string().as_str(), mz.as_str(), "default"), "{list}");
}

#[test]
fn check_fails_for_missing_and_stale() {
    let site = Site::new();
    for name in ["a.js", "b.js", "c.js", "d.js"] {
        site.file(name, text(15, 80));
    }
    well(&site, &["-r", "."]);
    well(&site, &["-r", "--check", "."]);
    site.file("a.js", text(16, 80)).remove("b.js.mz").file("c.js.mz", "junk");
    let before = names(&site);
    let said = fails(&site, &["-r", "--check", "."], 1);
    for line in ["./a.js: its .mz is stale", "./b.js: its .mz is missing", "./c.js: its .mz is neither gzip"] {
        assert!(said.contains(line), "{said}");
    }
    assert_eq!((said.lines().count(), names(&site)), (3, before));
    well(&site, &["-r", "."]);
    well(&site, &["-r", "--check", "."]);
}

#[test]
fn prune_removes_its_own_orphans() {
    let site = Site::new();
    for name in ["a.js", "b.js", "d/c.js"] {
        site.file(name, text(17, 80));
    }
    well(&site, &["-r", "."]);
    site.file("content.js.mz", Command::new("gzip").arg("-nc").arg(site.data().join("a.js")).output().unwrap().stdout);
    site.remove("a.js").remove("d/c.js");
    let before = names(&site);
    let said = well(&site, &["-r", "--prune", "--dry-run", "."]);
    assert!(said.contains("dry run: removed    ./a.js.mz") && said.contains("./d/c.js.mz"), "{said}");
    assert_eq!(names(&site), before);
    let said = well(&site, &["-r", "--prune", "."]);
    assert_eq!(names(&site), ["b.js", "b.js.mz", "content.js.mz"]);
    assert!(said.contains("./content.js.mz  was not made by myzip, so it may be content of its own"), "{said}");
    assert!(well(&site, &["--prune", "b.js.mz", "b.js"]).contains("its file is there"));
    well(&site, &["-r", "--prune", "--force", "."]);
    assert_eq!(names(&site), ["b.js", "b.js.mz"]);
    // Compressing never prunes.
    site.remove("b.js");
    well(&site, &["-r", "."]);
    assert_eq!(names(&site), ["b.js.mz"]);
}

#[test]
fn a_dry_run_changes_nothing() {
    let site = Site::new();
    site.file("a.js", text(18, 80)).file("tiny.txt", "tiny");
    site.file("tiny.txt.mz", mz::pack(text(1, 9).as_bytes(), Effort::Fast).unwrap());
    site.file(".myzip-1-0.tmp", "left behind").file("r.js.mz", mz::pack(b"restore", Effort::Fast).unwrap());
    let before = names(&site);
    for flags in [&["-r", "."][..], &["-d", "-r", "."], &["--prune", "-r", "."], &["-r", ".", "-o", "out"]] {
        let said = myzip(&site, &[flags, &["-n"]].concat());
        assert!(String::from_utf8(said.stdout).unwrap().contains("dry run"));
        assert_eq!(names(&site), before, "{flags:?}");
    }
}

#[test]
fn json_for_scripts() {
    let site = Site::new();
    site.file("a.js", text(19, 80)).file("b.png", "png");
    let parse = |output: Output| -> Value { serde_json::from_slice(&output.stdout).unwrap() };
    let report = parse(myzip(&site, &["--json", "-r", ".", "absent"]));
    assert_eq!((&report["mode"], &report["dry_run"]), (&"compress".into(), &false.into()));
    let of = |path: &str| {
        let files = report["files"].as_array().unwrap();
        files.iter().find(|file| file["path"] == path).unwrap().clone()
    };
    assert_eq!((&of("./a.js")["result"], &of("./a.js")["before"]), (&"made".into(), &text(19, 80).len().into()));
    assert_eq!(of("./b.png")["result"], "skipped");
    assert_eq!(of("absent")["result"], "failed");
    let summary = &report["summary"];
    assert_eq!((&summary["files"], &summary["made"], &summary["failed"]), (&4.into(), &1.into(), &1.into()));
    assert!(summary["seconds"].as_f64().unwrap() >= 0.0);
    let saved = summary["before"].as_u64().unwrap() - summary["after"].as_u64().unwrap();
    assert_eq!(summary["saved"], saved);
    for flags in [&["-l"][..], &["-t"], &["--check"], &["--prune"], &["-d"]] {
        assert!(parse(myzip(&site, &[flags, &["--json", "-r", "."]].concat()))["files"].is_array(), "{flags:?}");
    }
}

#[test]
fn links() {
    let site = Site::new();
    fs::write(site.outside().join("secret.txt"), text(20, 50)).unwrap();
    site.file("real.js", text(21, 50)).file("..now/k.js", text(22, 50)).file("d/x.js", text(23, 50));
    site.link("link.js", "real.js").link("k.js", "..now/k.js").link("secret.txt", "../secret.txt");
    site.link("loop", ".").link("dir", "d").link("nowhere.js", "gone.js").link("hidden.js", "..now");
    let said = well(&site, &["-r", "."]);
    let made: Vec<String> = names(&site).into_iter().filter(|name| name.ends_with(".mz")).collect();
    assert_eq!(made, ["d/x.js.mz", "k.js.mz", "link.js.mz", "real.js.mz"]);
    assert!(said.contains("./secret.txt  is a link out of the directory"), "{said}");
    assert!(said.contains("./nowhere.js  is a link that leads nowhere"), "{said}");
    // Named itself a link is followed, and a .mz that is a link is replaced, not written through.
    fs::write(site.outside().join("precious"), "precious").unwrap();
    site.remove("link.js.mz").link("link.js.mz", "../precious");
    well(&site, &["link.js", "secret.txt"]);
    assert_eq!(fs::read(site.outside().join("precious")).unwrap(), b"precious");
    assert_eq!(content_of(site.data().join("link.js.mz")), text(21, 50).as_bytes());
    assert_eq!(content_of(site.data().join("secret.txt.mz")), text(20, 50).as_bytes());
}

#[test]
fn foreign_decoders_read_it() {
    let site = Site::new();
    let content = text(24, 700);
    site.file("a.js", &content);
    for effort in ["--fast", "--force", "--best"] {
        well(&site, &[effort, "a.js"]);
        let mz = site.data().join("a.js.mz");
        let python = "import gzip, sys; sys.stdout.buffer.write(gzip.open(sys.argv[1]).read())";
        let zlib = "import zlib, sys; d = zlib.decompressobj(31); sys.stdout.buffer.write(d.decompress(open(sys.argv[1], \
                    'rb').read())); assert d.eof and not d.unused_data";
        for command in [&["gzip", "-dc"][..], &["zcat"], &["python3", "-c", python], &["python3", "-c", zlib]] {
            let mut decoder = Command::new(command[0]);
            let stdin = fs::File::open(&mz).unwrap();
            let decoded = match command[0] {
                "python3" => decoder.args(&command[1..]).arg(&mz).output(),
                _ => decoder.args(&command[1..]).stdin(stdin).output(),
            };
            assert_eq!(decoded.unwrap().stdout, content.as_bytes(), "{command:?}");
        }
        let tested = Command::new("gzip").arg("-t").stdin(fs::File::open(&mz).unwrap()).status().unwrap();
        assert!(tested.success());
    }
}

#[test]
fn quiet_and_verbose() {
    let site = Site::new();
    site.file("a.js", text(25, 60));
    assert_eq!(well(&site, &["-q", "a.js"]), "");
    assert!(!well(&site, &["a.js"]).contains("a.js"), "unchanged is counted only");
    assert!(well(&site, &["-v", "a.js"]).contains("unchanged  a.js"));
}

#[test]
fn usage_errors_are_one_line_and_exit_2() {
    let site = Site::new();
    site.file("a.js", "a").file("b.js", "b");
    for (arguments, named) in [
        (&["--bset", "a.js"][..], "--best"),
        (&["--fast", "--best", "a.js"], "--best"),
        (&["-d", "-t", "a.js"], "--restore"),
        (&["--jobs", "0", "a.js"], "at least 1"),
        (&["--jobs", "many", "a.js"], "--jobs"),
        (&["-", "a.js"], "standard input"),
        (&["--check"], "PATH"),
        (&["--prune", "-"], "PATH"),
        (&["-r"], "PATH"),
        (&["a.js", "b.js", "-o", "a.js"], "directory"),
        (&["a.js", "b.js", "-o", "-"], "one file"),
        (&["--json", "a.js", "-o", "-"], "--json"),
        (&["--json"], "--json"),
        (&["-o", "/", "-"], "has no name"),
        (&["-t", "a.js.mz", "-o", "x"], "--output"),
    ] {
        let said = fails(&site, arguments, 2);
        assert!(said.contains(named) && said.trim_end().lines().count() == 1, "{arguments:?}: {said}");
    }
    assert!(well(&site, &["--help"]).contains("Exit status: 0 done, 1 some"));
    assert!(well(&site, &["--version"]).starts_with("myzip "));
}

/// Under a terminal of its own; what it shows and its exit code.
fn at_a_terminal(site: &Site, command: &str) -> (String, Option<i32>) {
    let command = command.replace("myzip", PROGRAM);
    let mut script = Command::new("script");
    let output =
        script.args(["-qec", &command, "/dev/null"]).current_dir(site.data()).stdin(Stdio::null()).output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

#[test]
fn at_terminals() {
    let site = Site::new();
    site.file("a.js", text(26, 60));
    let (said, code) = at_a_terminal(&site, "myzip -o - a.js");
    assert!(code == Some(2) && said.contains("compressed data is not written to a terminal"), "{said}");
    let (said, code) = at_a_terminal(&site, "myzip -f -o - a.js | myzip -d");
    assert_eq!((said.replace("\r\n", "\n"), code), (text(26, 60), Some(0)));
    // Work that takes long shows a bar, on a terminal only.
    site.file("large.js", text(27, 8000));
    let bar = "left";
    assert!(at_a_terminal(&site, "myzip --best large.js").0.contains(bar));
    assert!(!at_a_terminal(&site, "myzip a.js").0.contains(bar), "this does not");
}
