//! Surroundings in which things go wrong, and whether a server has come through them unharmed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::harness::{Launch, Server, Site, wait_until};

/// The faults of `faults.c`, which are turned on and off while the server runs.
pub(crate) struct Faults {
    directory: PathBuf,
}

impl Faults {
    pub(crate) fn new(site: &Site) -> Faults {
        let directory = site.outside().join("faults");
        fs::create_dir(&directory).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults.c");
        let library = site.outside().join("faults.so");
        let flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"];
        let made = Command::new("cc").args(flags).arg(library).arg(source).arg("-ldl").status();
        assert!(made.expect("tools/test installs cc").success());
        Faults { directory }
    }

    /// A server that they can strike.
    pub(crate) fn builder(&self, site: &Site) -> Launch {
        let library = site.outside().join("faults.so");
        Server::builder(site).env("LD_PRELOAD", library.display()).env("FAULTS", self.directory.display())
    }

    pub(crate) fn on(&self, fault: &str, value: impl ToString) {
        // In one step: the server must not read half a number.
        fs::write(self.directory.join("next"), value.to_string()).unwrap();
        fs::rename(self.directory.join("next"), self.directory.join(fault)).unwrap();
    }

    pub(crate) fn off(&self, fault: &str) {
        fs::remove_file(self.directory.join(fault)).unwrap();
    }
}

/// A server to which modes of files mean something: root reads everything.
pub(crate) fn as_nobody(site: &Site) -> Launch {
    let launch = Server::builder(site);
    if rustix::process::geteuid().is_root() { launch.flag("--user", "nobody") } else { launch }
}

/// Words before a command that run it where `limit`, a file of `/proc/sys/user`, is `value`. None: that cannot be had here.
pub(crate) fn limited(limit: &str, value: u32) -> Option<[String; 7]> {
    let script = format!("echo {value} > /proc/sys/user/{limit}; exec \"$@\"");
    let words = ["unshare", "--user", "--map-root-user", "sh", "-euc", &script, "sh"].map(str::to_owned);
    let tried = Command::new(&words[0]).args(&words[1..]).arg("true").output();
    let is_possible = tried.is_ok_and(|tried| tried.status.success());
    if !is_possible {
        eprintln!("skipped: no user namespace with limits of its own can be had here");
    }
    is_possible.then_some(words)
}

/// What a server holds on to.
pub(crate) struct Vitals {
    descriptors: usize,
    kilobytes: usize,
}

impl Vitals {
    /// As they are when they no longer change: threads may be about to begin, connections about to end.
    pub(crate) fn of(server: &Server) -> Vitals {
        let mut counts = [0; 5];
        wait_until("a lasting number of descriptors", || {
            counts.rotate_left(1);
            counts[4] = Vitals::now(server).descriptors;
            counts.iter().all(|count| *count == counts[0])
        });
        Vitals::now(server)
    }

    fn now(server: &Server) -> Vitals {
        let process = PathBuf::from(format!("/proc/{}", server.pid()));
        let threads = fs::read_dir(process.join("task")).unwrap().flatten();
        let descriptors = threads.filter_map(|thread| Some(fs::read_dir(thread.path().join("fd")).ok()?.count())).sum();
        let status = fs::read_to_string(process.join("status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kilobytes = resident.trim().trim_end_matches(" kB").parse().unwrap();
        Vitals { descriptors, kilobytes }
    }

    pub(crate) fn megabytes(&self) -> usize {
        self.kilobytes / 1024
    }

    /// It serves, has no more descriptors than then, and not much more memory.
    pub(crate) fn assert_kept(&self, server: &Server, megabytes: usize) {
        server.connect().assert_open();
        let mut now = Vitals::now(server);
        wait_until("no more descriptors than before", || {
            now = Vitals::now(server);
            now.descriptors <= self.descriptors
        });
        let grown = now.kilobytes.saturating_sub(self.kilobytes);
        assert!(grown <= megabytes * 1024, "{grown} kB more memory");
    }
}
