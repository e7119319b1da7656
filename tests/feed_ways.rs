//! Every way to write a file, with the programs that do it: each answer is a whole version, and the last one comes.
//!
//! Scripts run in the data directory, beside which `new.txt` holds what `w.txt` is to become; see [`witness`].
//!
//! [`witness`]: crate::witness

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::PermissionsExt,
    thread,
    time::{Duration, Instant},
};

use crate::{
    harness::{Server, Site},
    witness::{Gap, Version, Witness, on_both, run, sh, site, text, version, way},
};

#[test]
fn cp() {
    way(Gap::None, |site| sh(site, "cp ../new.txt w.txt"));
}

#[test]
fn cp_that_unlinks_first() {
    way(Gap::Some, |site| sh(site, "cp --remove-destination ../new.txt w.txt"));
}

#[test]
fn cp_that_preserves_an_old_time() {
    way(Gap::None, |site| sh(site, "touch -d 2001-02-03 ../new.txt; cp -p ../new.txt w.txt"));
}

#[test]
fn mv() {
    way(Gap::None, |site| sh(site, "mv ../new.txt w.txt"));
}

/// From another file system `mv` deletes, then copies.
#[test]
fn mv_from_elsewhere() {
    way(Gap::Some, |site| {
        let aside = tempfile::tempdir_in("/dev/shm").unwrap();
        fs::copy(site.outside().join("new.txt"), aside.path().join("new.txt")).unwrap();
        run(site, "mv", &[aside.path().join("new.txt").to_str().unwrap(), "w.txt"]);
    });
}

#[test]
fn cat_tee_dd_and_install() {
    way(Gap::None, |site| sh(site, "cat ../new.txt > w.txt"));
    way(Gap::None, |site| sh(site, "cat ../new.txt | tee w.txt >/dev/null"));
    way(Gap::None, |site| sh(site, "cat ../new.txt | dd of=w.txt bs=777 status=none"));
    way(Gap::Some, |site| sh(site, "install -m 644 ../new.txt w.txt"));
}

/// The old bytes stay until they are written over, and the new length comes last.
#[test]
fn written_over_without_truncation() {
    way(Gap::None, |site| {
        let new = fs::read(site.outside().join("new.txt")).unwrap();
        let mut file = OpenOptions::new().write(true).open(site.data().join("w.txt")).unwrap();
        for part in new.chunks(new.len() / 3) {
            file.write_all(part).unwrap();
            thread::sleep(Duration::from_millis(30));
        }
        file.set_len(new.len() as u64).unwrap();
    });
}

/// `sed -i` writes a file of another name and renames it.
#[test]
fn sed_in_place() {
    edit(Gap::None, |site, from, to| run(site, "sed", &["-i", &format!("s/{from}/{to}/"), "w.txt"]));
}

/// As `sed -i`, but the old file goes first.
#[test]
fn perl_in_place() {
    edit(Gap::Some, |site, from, to| run(site, "perl", &["-i", "-pe", &format!("s/{from}/{to}/"), "w.txt"]));
}

/// The file goes to `w.txt~`, a new one is written, the backup is deleted.
#[test]
fn vim_with_backup_and_rename() {
    edit(Gap::Some, |site, from, to| vim(site, "set backup writebackup backupcopy=no", from, to));
    edit(Gap::Some, |site, from, to| vim(site, "set nobackup writebackup backupcopy=no", from, to));
}

#[test]
fn vim_in_place() {
    edit(Gap::None, |site, from, to| vim(site, "set backup writebackup backupcopy=yes", from, to));
    edit(Gap::None, |site, from, to| vim(site, "set nobackup nowritebackup", from, to));
}

fn vim(site: &Site, settings: &str, from: &str, to: &str) {
    run(site, "vim", &["-u", "NONE", "-es", "-c", settings, "-c", &format!("%s/{from}/{to}/"), "-c", "wq", "w.txt"]);
}

/// Emacs renames the file to `w.txt~` before it writes the first time, unless told otherwise.
#[test]
fn emacs_with_backup() {
    edit(Gap::Some, |site, from, to| emacs(site, "(setq make-backup-files t)", from, to));
}

#[test]
fn emacs_in_place() {
    edit(Gap::None, |site, from, to| emacs(site, "(setq backup-by-copying t)", from, to));
}

/// Emacs writes a file of another name and renames it.
#[test]
fn emacs_with_precious_files() {
    edit(Gap::None, |site, from, to| emacs(site, "(setq backup-inhibited t file-precious-flag t)", from, to));
}

fn emacs(site: &Site, settings: &str, from: &str, to: &str) {
    let edit = format!(
        "(progn {settings} (find-file \"w.txt\") (while (search-forward \"{from}\" nil t) (replace-match \"{to}\")) \
         (save-buffer))"
    );
    run(site, "emacs", &["--batch", "-Q", "--eval", &edit]);
}

/// Three edits of `w.txt` in which one text takes the place of another, everywhere.
fn edit(gap: Gap, edit: impl Fn(&Site, &str, &str) + Sync) {
    let words = ["version", "edition", "issue", "printing"];
    let of = |word: &str| -> Version { Some(format!("{word} {:06}\n", 0).repeat(3000).into_bytes()) };
    on_both(|server, site| {
        let mut witness = Witness::new(server, "/w.txt");
        for pair in words.windows(2) {
            let mut history = vec![of(pair[0]), of(pair[1])];
            if gap == Gap::Some {
                history.insert(1, None);
            }
            witness.watching(&history, || edit(site, pair[0], pair[1]));
        }
        witness.assert_dated();
    });
}

#[test]
fn echo() {
    let site = site();
    let server = Server::start(&site);
    let mut witness = Witness::new(&server, "/w.txt");
    let mut before = version(0);
    for number in 0..10 {
        let after = text(&format!("{number}\n"));
        witness.watching(&[before, after.clone()], || sh(&site, &format!("echo {number} > w.txt")));
        before = after;
    }
    let both = text("9\nand more\n");
    witness.watching(&[before, both], || sh(&site, "echo and more >> w.txt"));
    witness.assert_dated();
}

/// The writer pauses for longer than an empty file is given to be filled.
#[test]
fn truncation_and_slow_append_with_one_open() {
    way(Gap::None, |site| {
        let new = fs::read(site.outside().join("new.txt")).unwrap();
        let mut file = File::create(site.data().join("w.txt")).unwrap();
        for (number, part) in new.chunks(new.len() / 3).enumerate() {
            thread::sleep(Duration::from_millis(if number == 0 { 250 } else { 40 }));
            file.write_all(part).unwrap();
        }
        thread::sleep(Duration::from_millis(40));
    });
}

/// Every close makes a version, but for the empty one, which waits for its bytes.
#[test]
fn truncation_and_slow_append_with_many_opens() {
    let site = site();
    let server = Server::start(&site);
    let mut witness = Witness::new(&server, "/w.txt");
    let mut before = version(0);
    for _ in 0..3 {
        let lines = ["one\n", "two\n", "three\n", "four\n"];
        let mut history = vec![before, text("")];
        history.extend((1..=lines.len()).map(|count| text(&lines[..count].concat())));
        before = history.last().unwrap().clone();
        let mut empty = Duration::ZERO;
        witness.watching(&history, || {
            let since = Instant::now();
            File::create(site.data().join("w.txt")).unwrap();
            for line in lines {
                let mut file = OpenOptions::new().append(true).open(site.data().join("w.txt")).unwrap();
                if line == lines[0] {
                    empty = since.elapsed();
                }
                file.write_all(line.as_bytes()).unwrap();
                drop(file);
                thread::sleep(Duration::from_millis(30));
            }
        });
        let seen = &witness.seen;
        assert!(empty >= Duration::from_millis(200) || !seen.contains(&text("")), "an empty file that was filled soon");
        assert!(seen.len() > 2, "what was closed did not become visible: {}", seen.len());
    }
    witness.assert_dated();
}

/// A file that is emptied and stays so is served empty.
#[test]
fn truncation_alone() {
    let site = site();
    let server = Server::start(&site);
    let mut witness = Witness::new(&server, "/w.txt");
    witness.watching(&[version(0), text("")], || sh(&site, ": > w.txt"));
    witness.watching(&[text(""), text("back\n")], || sh(&site, "echo back > w.txt"));
    witness.assert_dated();
}

#[test]
fn rsync() {
    way(Gap::None, |site| run(site, "rsync", &["../new.txt", "w.txt"]));
    way(Gap::None, |site| sh(site, "touch -d 2001-02-03 ../new.txt; rsync -t ../new.txt w.txt"));
    way(Gap::None, |site| run(site, "rsync", &["--delay-updates", "../new.txt", "w.txt"]));
}

#[test]
fn rsync_in_place() {
    // By differences, as it goes over a network.
    way(Gap::None, |site| run(site, "rsync", &["--inplace", "--no-whole-file", "../new.txt", "w.txt"]));
    way(Gap::None, |site| sh(site, "touch -d 2001-02-03 ../new.txt; rsync -t --inplace ../new.txt w.txt"));
}

/// The server of an upload without the network and the keys.
const SFTP: &str = "/usr/lib/openssh/sftp-server";

#[test]
fn sftp() {
    let sftp = |site: &Site, batch: &str| {
        fs::write(site.outside().join("batch"), batch).unwrap();
        run(site, "sftp", &["-q", "-D", SFTP, "-b", "../batch"]);
    };
    way(Gap::None, |site| sftp(site, "put ../new.txt w.txt\n"));
    way(Gap::None, |site| sftp(site, "put -p ../new.txt w.txt\n"));
    way(Gap::None, |site| sftp(site, "put ../new.txt w.txt.part\nrename w.txt.part w.txt\n"));
    way(Gap::Some, |site| sftp(site, "rm w.txt\nput ../new.txt w.txt\n"));
}

/// In place of `ssh` a script that runs on this machine what was meant for the other.
#[test]
fn scp() {
    let scp = |site: &Site, protocol: &str| {
        let ssh = site.outside().join("ssh");
        let last = format!("for last; do :; done; [ \"$last\" != sftp ] || exec {SFTP}; exec sh -c \"$last\"");
        fs::write(&ssh, format!("#!/bin/sh\n{last}\n")).unwrap();
        fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
        let to = format!("here:{}", site.data().join("w.txt").display());
        run(site, "scp", &["-q", protocol, "-S", ssh.to_str().unwrap(), "../new.txt", &to]);
    };
    way(Gap::None, |site| scp(site, "-s"));
    way(Gap::None, |site| scp(site, "-O"));
}

#[test]
fn tar_over_what_is_there() {
    let archive =
        "rm -rf ../in; mkdir ../in; cp ../new.txt ../in/w.txt; touch -d 2001-02-03 ../in/w.txt; tar cC ../in .";
    way(Gap::Some, |site| sh(site, &format!("{archive} | tar x")));
    way(Gap::None, |site| sh(site, &format!("{archive} | tar x --overwrite")));
}

#[test]
fn tar_of_a_new_tree() {
    let site = site();
    let server = Server::start(&site);
    let names: Vec<String> = (0..100).map(|number| format!("t/{}/{}/f{number}.txt", number % 3, number % 7)).collect();
    for name in &names {
        let path = site.outside().join("in").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "tree").unwrap();
    }
    sh(&site, "tar cf ../a.tar -C ../in .");
    let mut witness = Witness::new(&server, "/t/0/1/f99.txt");
    witness.watching(&[None, text("tree")], || sh(&site, "tar xf ../a.tar"));
    for name in &names {
        Witness::new(&server, &format!("/{name}")).watching(&[None, text("tree")], || {});
    }
    // What came before the directories were watched must not be all that is seen of them.
    witness.watching(&[text("tree"), text("later\n")], || sh(&site, "echo later > t/0/1/f99.txt"));
}
