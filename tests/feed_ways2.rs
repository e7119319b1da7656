//! Further ways to publish: links, whole directories, times that say nothing, changes that send few events.

use std::{
    fs::{self, File, FileTimes, OpenOptions},
    io::{Seek, Write},
    os::{fd::AsRawFd, unix::fs::FileExt},
    path::Path,
    thread,
    time::{Duration, SystemTime},
};

use flate2::{Compression, write::GzEncoder};
use rustix::fs::{AtFlags, CWD, RenameFlags};

use crate::{
    harness::{OLD, PATIENCE, Server, Site, at, now},
    witness::{Gap, Version, Witness, on_both, sh, site, text, version, way},
};

fn exchange(one: &Path, other: &Path) {
    rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
}

#[test]
fn hard_links() {
    // `ln -f` links under another name and renames.
    way(Gap::None, |site| sh(site, "ln -f ../new.txt w.txt; rm ../new.txt"));
    way(Gap::Some, |site| sh(site, "rm w.txt; ln ../new.txt w.txt"));
}

/// The other name stays, so the file has two links when it is looked at.
#[test]
fn hard_links_of_a_file_that_stays() {
    let site = site();
    let server = Server::start(&site);
    for number in 1..=5 {
        fs::write(site.outside().join(format!("{number}.txt")), version(number).unwrap()).unwrap();
        let name = format!("l{number}.txt");
        Witness::new(&server, &format!("/{name}"))
            .watching(&[None, version(number)], || sh(&site, &format!("ln ../{number}.txt {name}")));
    }
}

/// What is written under one name of a file changes under its other name, too.
#[test]
fn written_through_the_other_name_of_a_hard_link() {
    on_both(|server, site| {
        let mut witness = Witness::new(server, "/w.txt");
        sh(site, "ln w.txt other.txt");
        Witness::new(server, "/other.txt").watching(&[None, version(0)], || {});
        witness.watching(&[version(0), text("by the other name\n")], || sh(site, "echo by the other name > other.txt"));
        witness.assert_dated();
    });
}

/// A file without a name is written, then gets one.
#[test]
fn an_unnamed_file_is_linked_into_place() {
    let site = site();
    let server = Server::start(&site);
    for number in 1..=3 {
        let mut file = OpenOptions::new();
        use std::os::unix::fs::OpenOptionsExt;
        let file = file.write(true).custom_flags(libc::O_TMPFILE).open(site.data());
        let Ok(mut file) = file else {
            eprintln!("skipped: this file system knows no O_TMPFILE");
            return;
        };
        let name = format!("o{number}.txt");
        Witness::new(&server, &format!("/{name}")).watching(&[None, version(number)], || {
            file.write_all(&version(number).unwrap()).unwrap();
            let from = format!("/proc/self/fd/{}", file.as_raw_fd());
            rustix::fs::linkat(CWD, &from, CWD, site.data().join(&name), AtFlags::SYMLINK_FOLLOW).unwrap();
            drop(file);
        });
    }
}

/// As the kubelet updates a volume: a new directory, a link to it renamed over `..data`, the old directory removed.
#[test]
fn kubernetes_swaps_its_data_link() {
    on_both(|server, site| {
        let paths = ["/k.txt", "/kd/deep.txt"];
        let publish = |number: usize| {
            let at = format!("..2024_{number}");
            let new = version(number).unwrap();
            site.file(&format!("{at}/k.txt"), &new).file(&format!("{at}/kd/deep.txt"), &new);
            sh(
                site,
                &format!("ln -s {at} ..data_tmp; mv -T ..data_tmp ..data; rm -rf ..2024_{}", number.wrapping_sub(1)),
            );
        };
        let mut witnesses = paths.map(|path| Witness::new(server, path));
        witnesses[0].watching(&[None, version(1)], || {
            publish(1);
            sh(site, "ln -s ..data/k.txt k.txt; ln -s ..data/kd kd");
        });
        witnesses[1].watching(&[None, version(1)], || {});
        for number in 2..=4 {
            witnesses[0].watching(&[version(number - 1), version(number)], || publish(number));
            witnesses[1].watching(&[version(number - 1), version(number)], || {});
        }
        witnesses.iter_mut().for_each(Witness::assert_dated);
    });
}

#[test]
fn a_link_to_a_file_is_turned_elsewhere() {
    let site = site();
    site.file("v1.txt", version(1).unwrap()).file("v2.txt", version(2).unwrap()).link("l.txt", "v1.txt");
    let server = Server::start(&site);
    let mut witness = Witness::new(&server, "/l.txt");
    witness.watching(&[version(1), version(2)], || sh(&site, "ln -s v2.txt .l; mv -T .l l.txt"));
    witness.watching(&[version(2), None, version(1)], || sh(&site, "ln -sfn v1.txt l.txt"));
    witness.watching(&[version(1), text("through\n")], || sh(&site, "echo through > l.txt"));
    witness.assert_dated();
}

/// A directory is renamed aside and another one to its name: for a moment there is none.
#[test]
fn a_directory_is_renamed_over() {
    on_both(|server, site| {
        let mut witness = Witness::new(server, "/dir/c.txt");
        let mut before = text("dir/c.txt");
        for number in 1..=4 {
            site.file("../new/c.txt", version(number).unwrap());
            witness.watching(&[before, None, version(number)], || {
                sh(site, "mv -T dir ../old; mv -T ../new dir; rm -r ../old");
            });
            before = version(number);
        }
        // It is watched under its new name.
        witness.watching(&[before, text("later\n")], || sh(site, "echo later > dir/c.txt"));
        witness.assert_dated();
    });
}

#[test]
fn a_directory_is_exchanged() {
    on_both(|server, site| {
        let mut witness = Witness::new(server, "/dir/c.txt");
        let mut before = text("dir/c.txt");
        let aside = site.outside().join("aside");
        for number in 1..=4 {
            fs::create_dir_all(&aside).unwrap();
            fs::write(aside.join("c.txt"), version(number).unwrap()).unwrap();
            witness.watching(&[before, version(number)], || {
                exchange(&aside, &site.data().join("dir"));
                fs::remove_dir_all(&aside).unwrap();
            });
            before = version(number);
        }
        witness.watching(&[before, text("later\n")], || sh(site, "echo later > dir/c.txt"));
        witness.assert_dated();
    });
}

/// An empty directory may be renamed over.
#[test]
fn a_directory_is_renamed_over_an_empty_one() {
    let site = site();
    fs::create_dir(site.data().join("empty")).unwrap();
    site.file("../full/x.txt", "full");
    let server = Server::start(&site);
    let mut witness = Witness::new(&server, "/empty/x.txt");
    witness.watching(&[None, text("full")], || sh(&site, "mv -T ../full empty"));
    witness.watching(&[text("full"), text("later\n")], || sh(&site, "echo later > empty/x.txt"));
}

/// The data directory itself is another one from one moment to the next. It is looked at once a second.
#[test]
fn the_data_directory_is_exchanged() {
    let site = site();
    let server = Server::start(&site);
    let mut witness = Witness::new(&server, "/w.txt").within(PATIENCE);
    let aside = site.outside().join("aside");
    for number in 1..=4 {
        // The new directory may well get the inode of the one that has just been deleted.
        sh(&site, "rm -rf ../aside; cp -r . ../aside");
        fs::write(aside.join("w.txt"), version(number).unwrap()).unwrap();
        witness.watching(&[version(number - 1), version(number)], || exchange(&aside, site.data()));
    }
    let mut witness = witness.within(crate::witness::PROMPT);
    witness.watching(&[version(4), text("later\n")], || sh(&site, "echo later > w.txt"));
    witness.assert_dated();
}

/// As releases are published: the data directory is a link that is turned to the next one.
#[test]
fn the_data_directory_is_a_link_that_is_turned() {
    let site = site();
    for number in 1..=3 {
        sh(&site, &format!("cp -r . ../release{number}"));
        fs::write(site.outside().join(format!("release{number}/w.txt")), version(number).unwrap()).unwrap();
    }
    sh(&site, "ln -s release1 ../current");
    let server = Server::builder(&site).data(site.outside().join("current")).start();
    let mut witness = Witness::new(&server, "/w.txt").within(PATIENCE);
    for number in 2..=3 {
        witness.watching(&[version(number - 1), version(number)], || {
            sh(&site, &format!("ln -s release{number} ../next; mv -T ../next ../current"));
        });
    }
    let mut witness = witness.within(crate::witness::PROMPT);
    witness.watching(&[version(3), text("later\n")], || sh(&site, "echo later > ../release3/w.txt"));
    witness.assert_dated();
}

/// Its files may go one by one, for a moment: that they are all of them is known when they are.
#[test]
fn the_data_directory_is_deleted_and_made_again() {
    let site = site();
    let server = Server::start(&site);
    let mut witness = Witness::new(&server, "/w.txt").within(PATIENCE);
    for number in 0..4 {
        witness.watching(&[version(number), None, version(number), version(number + 1)], || {
            fs::remove_dir_all(site.data()).unwrap();
            fs::create_dir(site.data()).unwrap();
            fs::write(site.data().join("w.txt"), version(number + 1).unwrap()).unwrap();
        });
    }
    let mut witness = witness.within(crate::witness::PROMPT);
    witness.watching(&[version(4), text("later\n")], || sh(&site, "echo later > w.txt"));
    witness.assert_dated();
}

/// While there is no data directory its last content is kept.
#[test]
fn the_data_directory_is_away_for_a_while() {
    let site = site();
    let server = Server::start(&site);
    let mut witness = Witness::new(&server, "/w.txt").within(PATIENCE);
    witness.watching(&[version(0), version(1)], || {
        let aside = site.outside().join("aside");
        fs::rename(site.data(), &aside).unwrap();
        crate::harness::wait_until("the loss to be told", || server.stderr().contains("its last content"));
        fs::write(aside.join("w.txt"), version(1).unwrap()).unwrap();
        fs::rename(&aside, site.data()).unwrap();
    });
    let mut witness = witness.within(crate::witness::PROMPT);
    witness.watching(&[version(1), text("later\n")], || sh(&site, "echo later > w.txt"));
}

#[test]
fn a_file_becomes_a_directory_and_a_file_again() {
    on_both(|server, site| {
        let mut file = Witness::new(server, "/w.txt");
        let mut index = Witness::new(server, "/w.txt/");
        for number in 1..=3 {
            let new = version(number);
            file.watching(&[version(number - 1), None], || {
                sh(site, "rm w.txt; mkdir w.txt; cp a.txt w.txt/index.html");
            });
            index.watching(&[None, text("a.txt")], || {});
            file.watching(&[None, new.clone()], || {
                sh(site, "rm -r w.txt");
                fs::write(site.data().join("w.txt"), new.as_ref().unwrap()).unwrap();
            });
            index.watching(&[text("a.txt"), None], || {});
        }
        file.assert_dated();
    });
}

#[test]
fn a_file_and_a_directory_are_exchanged() {
    let site = site();
    fs::create_dir(site.data().join(".d")).unwrap();
    site.file(".d/index.html", "index");
    let server = Server::start(&site);
    let mut file = Witness::new(&server, "/w.txt");
    let mut index = Witness::new(&server, "/w.txt/");
    let swap = || exchange(&site.data().join("w.txt"), &site.data().join(".d"));
    for _ in 0..3 {
        file.watching(&[version(0), None], swap);
        index.watching(&[None, text("index")], || {});
        file.watching(&[None, version(0)], swap);
        index.watching(&[text("index"), None], || {});
    }
}

#[test]
fn times_in_the_past_and_in_the_future() {
    for time in ["1999-12-31", "1969-07-20", "2100-01-01"] {
        way(Gap::None, |site| sh(site, &format!("cp ../new.txt .new; touch -d {time} .new; mv .new w.txt")));
        way(Gap::None, |site| sh(site, &format!("cp ../new.txt w.txt; touch -d {time} w.txt")));
    }
}

/// A touch is no new version: the tag and the date stay.
#[test]
fn a_touch_changes_nothing() {
    let site = site();
    let server = Server::start(&site);
    let before = server.get("/w.txt", &[]);
    for time in [at(OLD + 1000), SystemTime::now(), at(now() + 5000), at(5)] {
        site.mtime("w.txt", time);
    }
    // Whatever came of it has come before this.
    site.file("b.txt", "later");
    Witness::new(&server, "/b.txt").watching(&[text("b.txt"), text("later")], || {});
    let after = server.get("/w.txt", &[]);
    for field in ["etag", "last-modified"] {
        assert_eq!(before.get(field), after.get(field), "{field}");
    }
}

/// Versions of one size, each with the time of the one before.
fn same_size_and_time(write: impl Fn(&Site, &[u8]) + Sync) {
    on_both(|server, site| {
        let of = |number: u8| -> Version { Some(vec![b'a' + number; 50_000]) };
        let mut witness = Witness::new(server, "/s.txt");
        witness.watching(&[None, of(0)], || {
            site.replace("s.txt", of(0).unwrap(), at(OLD));
        });
        for number in 1..=5 {
            witness.watching(&[of(number - 1), of(number)], || {
                write(site, &of(number).unwrap());
                assert_eq!(fs::metadata(site.data().join("s.txt")).unwrap().modified().unwrap(), at(OLD));
            });
        }
        witness.assert_dated();
    });
}

#[test]
fn the_same_size_and_the_same_time_with_other_bytes() {
    same_size_and_time(|site, new| {
        site.replace("s.txt", new, at(OLD));
    });
    same_size_and_time(|site, new| {
        let mut file = OpenOptions::new().write(true).open(site.data().join("s.txt")).unwrap();
        file.write_all(&new[..20_000]).unwrap();
        thread::sleep(Duration::from_millis(30));
        file.write_all(&new[20_000..]).unwrap();
        file.set_times(FileTimes::new().set_modified(at(OLD))).unwrap();
    });
    same_size_and_time(|site, new| {
        fs::write(site.outside().join("s.txt"), new).unwrap();
        sh(site, &format!("touch -d @{OLD} ../s.txt; cp -p ../s.txt s.txt"));
    });
    same_size_and_time(|site, new| {
        fs::write(site.outside().join("s.txt"), new).unwrap();
        sh(site, &format!("touch -d @{OLD} ../s.txt; rsync -tI --inplace --no-whole-file ../s.txt s.txt"));
    });
}

/// The time is set back after every write, while the file is open: only a close makes a version.
#[test]
fn the_time_is_set_back_in_the_middle_of_a_write() {
    let site = site();
    site.file("s.txt", vec![b'a'; 50_000]);
    let server = Server::start(&site);
    let mut witness = Witness::new(&server, "/s.txt");
    witness.watching(&[Some(vec![b'a'; 50_000]), Some(vec![b'b'; 50_000])], || {
        let file = OpenOptions::new().write(true).open(site.data().join("s.txt")).unwrap();
        for at_byte in (0..50_000).step_by(10_000) {
            file.write_all_at(&[b'b'; 10_000], at_byte).unwrap();
            file.set_times(FileTimes::new().set_modified(at(OLD))).unwrap();
            thread::sleep(Duration::from_millis(30));
        }
    });
}

/// The descriptor is closed while the file is still mapped, and written through the mapping.
#[test]
fn written_through_a_mapping() {
    let site = site();
    site.file("m.txt", vec![b'a'; 50_000]);
    let server = Server::start(&site);
    let mut witness = Witness::new(&server, "/m.txt");
    let script = "import mmap, os, time
fd = os.open('m.txt', os.O_RDWR)
m = mmap.mmap(fd, 50000)
os.close(fd)
m[:25000] = b'b' * 25000
time.sleep(0.1)
os.chmod('m.txt', 0o600)
time.sleep(0.1)
m[25000:] = b'b' * 25000
m.close()
";
    fs::write(site.outside().join("map.py"), script).unwrap();
    witness.watching(&[Some(vec![b'a'; 50_000]), Some(vec![b'b'; 50_000])], || sh(&site, "python3 ../map.py"));
}

/// `truncate(2)` opens nothing, so there is no close; stillness stands for it.
#[test]
fn cut_off_without_an_open() {
    let site = site();
    site.file("c.txt", "kept and cut");
    let server = Server::start(&site);
    let mut witness = Witness::new(&server, "/c.txt").within(Duration::from_secs(4));
    witness.watching(&[text("kept and cut"), text("kept")], || {
        sh(&site, "python3 -c 'import os; os.truncate(\"c.txt\", 4)'");
    });
}

/// A writer that never closes is given two seconds of stillness, counted from its last write.
#[test]
fn a_writer_that_never_closes() {
    on_both(|server, site| {
        let mut witness = Witness::new(server, "/n.txt").within(Duration::from_secs(4));
        let mut file = File::create(site.data().join("n.txt")).unwrap();
        let written = std::cell::Cell::new(None);
        let late = witness.watching(&[None, text("one two three")], || {
            for part in ["one", " two", " three"] {
                file.write_all(part.as_bytes()).unwrap();
                thread::sleep(Duration::from_millis(if part == " three" { 0 } else { 1200 }));
            }
            written.set(Some(SystemTime::now()));
        });
        assert!(late >= Duration::from_millis(1900), "read after {late:?} of stillness");
        // It goes on all the same, and then it is done.
        witness.watching(&[text("one two three"), text("four")], || {
            file.rewind().unwrap();
            file.set_len(0).unwrap();
            file.write_all(b"four").unwrap();
            drop(file);
        });
    });
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// A `.mz` alone is the content, however it comes: half of one is none.
#[test]
fn a_lone_mz_is_written_in_every_way() {
    on_both(|server, site| {
        let mut witness = Witness::new(server, "/z.js");
        let mut before = None;
        let ways = [
            "cp ../z.mz z.js.mz",
            "mv ../z.mz z.js.mz",
            "head -c 20 ../z.mz > z.js.mz; tail -c +21 ../z.mz >> z.js.mz",
            "(head -c 30 ../z.mz; sleep 0.3; tail -c +31 ../z.mz) > z.js.mz",
            "rsync --inplace ../z.mz z.js.mz",
            "ln -f ../z.mz z.js.mz",
        ];
        for (number, way) in ways.iter().enumerate() {
            sh(site, "rm -f ../z.mz");
            fs::write(site.outside().join("z.mz"), gzip(version(number).as_ref().unwrap())).unwrap();
            witness.watching(&[before, version(number)], || sh(site, way));
            before = version(number);
        }
        witness.assert_dated();
    });
}

/// The file and its sidecar are published one after the other, in either order, each in place.
#[test]
fn a_file_and_its_mz_are_written_in_either_order() {
    on_both(|server, site| {
        let mut witness = Witness::new(server, "/w.txt");
        for number in 1..=6 {
            fs::write(site.outside().join("new.txt"), version(number).unwrap()).unwrap();
            fs::write(site.outside().join("new.mz"), gzip(version(number).as_ref().unwrap())).unwrap();
            let ways = ["cp ../new.txt w.txt; cp ../new.mz w.txt.mz", "cp ../new.mz w.txt.mz; cp ../new.txt w.txt"];
            witness.watching(&[version(number - 1), version(number)], || sh(site, ways[number % 2]));
        }
        witness.assert_dated();
    });
}
