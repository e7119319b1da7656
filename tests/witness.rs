//! A reader that asks for one path without pause while something is done to its file, and believes nothing.
//!
//! What the file was at a close or a rename is known to the test; every answer must be one of these versions, in their
//! order, and the last one must come. [`way`] is that for a way to write a file, [`Witness`] for whatever else is done.

use std::{
    collections::HashMap,
    process::Command,
    sync::{Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use crate::{
    cases::get_with,
    conn::parse_date,
    harness::{Conn, PATIENCE, Response, Server, Site},
};

/// The content of a file at a close or a rename; none while there is no file of this name.
pub(crate) type Version = Option<Vec<u8>>;

/// What is written, at the latest, is to be seen so soon: a timer that saves what the events missed is later.
pub(crate) const PROMPT: Duration = Duration::from_millis(1500);

/// The content of version `number`, never of the length of the one before, and long enough to be torn.
pub(crate) fn version(number: usize) -> Version {
    Some(format!("version {number:06}\n").repeat(3000 + number % 3 * 2500).into_bytes())
}

/// A small version, as `echo` writes it.
pub(crate) fn text(text: &str) -> Version {
    Some(text.as_bytes().to_vec())
}

/// Runs a program in the data directory.
///
/// # Panics
/// When it cannot be run or does not succeed.
pub(crate) fn run(site: &Site, program: &str, args: &[&str]) {
    let done = Command::new(program).args(args).current_dir(site.data()).output();
    let done = done.unwrap_or_else(|why| panic!("{program}: {why}; tools/test installs it"));
    assert!(done.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Runs a script in the data directory.
pub(crate) fn sh(site: &Site, script: &str) {
    run(site, "sh", &["-euc", script]);
}

/// A site with `w.txt` in version 0 and enough other files that one that goes is not more than half of them.
pub(crate) fn site() -> Site {
    let site = Site::new();
    site.file("w.txt", version(0).unwrap());
    for name in ["a.txt", "b.txt", "dir/c.txt", "dir/d.txt"] {
        site.file(name, name);
    }
    site
}

/// Whether there is no file for a moment while it is written in some way.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Gap {
    /// The name always has a file.
    None,
    /// The old file goes before the new one comes.
    Some,
}

/// Writes five versions of `w.txt` in one way, each witnessed: `../new.txt` holds the version that is to be written.
///
/// Twice: with a server that the kernel tells of writers, and with one that it does not.
pub(crate) fn way(gap: Gap, write: impl Fn(&Site) + Sync) {
    on_both(|server, site| {
        let mut witness = Witness::new(server, "/w.txt");
        for number in 1..=5 {
            std::fs::write(site.outside().join("new.txt"), version(number).unwrap()).unwrap();
            let mut history = vec![version(number - 1), version(number)];
            if gap == Gap::Some {
                history.insert(1, None);
            }
            witness.watching(&history, || write(site));
        }
        witness.assert_dated();
    });
}

/// The same with a server that the kernel tells of writers, and with one that it does not.
pub(crate) fn on_both(test: impl Fn(&Server, &Site) + Sync) {
    thread::scope(|scope| {
        scope.spawn(|| {
            let site = site();
            test(&Server::start(&site), &site);
        });
        if rustix::process::geteuid().is_root() {
            let site = site();
            test(&without_leases(&site), &site);
        }
    });
}

/// A server that is not the files' owner and has no right to lease them.
fn without_leases(site: &Site) -> Server {
    // A file must have rested for 20 ms before it is believed.
    thread::sleep(Duration::from_millis(30));
    Server::builder(site).under(&["setpriv", "--bounding-set=-lease"]).flag("--user", "nobody").start()
}

/// Asks for one path, and keeps what it was told to hold the next answers against it.
pub(crate) struct Witness<'s> {
    server: &'s Server,
    path: String,
    within: Duration,
    /// Contents by the `Last-Modified` and by the entity tag that they came with.
    dates: HashMap<String, Version>,
    tags: HashMap<String, Version>,
    /// What a client holds that asks with `If-Modified-Since` alone.
    held: Option<(String, Version)>,
    /// What was served during the last [`Witness::watching`], in its order.
    pub(crate) seen: Vec<Version>,
}

impl<'s> Witness<'s> {
    pub(crate) fn new(server: &'s Server, path: &str) -> Witness<'s> {
        let (dates, tags) = (HashMap::new(), HashMap::new());
        Witness { server, path: path.to_owned(), within: PROMPT, dates, tags, held: None, seen: Vec::new() }
    }

    /// The last version may take so long.
    pub(crate) fn within(mut self, within: Duration) -> Witness<'s> {
        self.within = within;
        self
    }

    /// Asks without pause while `work` is done and until the last version of `history` is there. The first one is that
    /// which is served now. Returns how long after the work it was there.
    ///
    /// # Panics
    /// When an answer is none of `history`, or one that is over, or the last one does not come in time.
    pub(crate) fn watching(&mut self, history: &[Version], work: impl FnOnce()) -> Duration {
        let (begun_sent, begun) = mpsc::channel();
        let done = Mutex::new(None);
        thread::scope(|scope| {
            let reading = scope.spawn(|| self.read(history, begun_sent, &done));
            // A reader that fails at once has said why.
            let worked = begun.recv_timeout(PATIENCE).map(|()| {
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    work();
                    *done.lock().unwrap() = Some(Instant::now());
                }))
            });
            if let Ok(Err(panic)) = worked {
                *done.lock().unwrap() = Some(Instant::now() - PATIENCE);
                reading.join().ok();
                std::panic::resume_unwind(panic);
            }
            reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn read(&mut self, history: &[Version], begun: mpsc::Sender<()>, done: &Mutex<Option<Instant>>) -> Duration {
        let mut conn = self.server.connect();
        let mut at = 0;
        self.seen.clear();
        loop {
            // Noted before the answers: what was done by then is to be seen in time.
            let since = done.lock().unwrap().map(|done| done.elapsed());
            for how in [How::Plain, How::Coded, How::Since] {
                let version = self.ask(&mut conn, how);
                at = self.place(history, at, &version);
                if self.seen.last() != Some(&version) {
                    self.seen.push(version);
                }
            }
            begun.send(()).ok();
            match since {
                Some(late) if history.last() == Some(&history[at]) => return late,
                Some(late) if late > self.within => {
                    panic!("{}: {} does not come within {:?}", self.path, show(history.last().unwrap()), self.within);
                }
                _ => thread::sleep(Duration::from_micros(500)),
            }
        }
    }

    /// Where in `history` an answer is, from `at` on.
    fn place(&self, history: &[Version], at: usize, version: &Version) -> usize {
        let later = history[at..].iter().position(|known| known == version);
        later.map(|later| at + later).unwrap_or_else(|| {
            let what = if history.contains(version) { "is over" } else { "it never was at a close or a rename" };
            panic!("{}: served {}, which {what}", self.path, show(version));
        })
    }

    fn ask(&mut self, conn: &mut Conn, how: How) -> Version {
        let since = self.held.as_ref().map(|(date, _)| format!("If-Modified-Since: {date}"));
        let field = match how {
            How::Plain => None,
            How::Coded => Some("Accept-Encoding: gzip, deflate"),
            How::Since => since.as_deref(),
        };
        conn.send(get_with(&self.path, field.as_slice()));
        let answer = conn.recv();
        if answer.status == 304 {
            return self.held.as_ref().expect("a 304 to a condition").1.clone();
        }
        let version = self.check(&answer);
        if matches!(how, How::Since) {
            self.held = answer.get("last-modified").map(|date| (date.to_owned(), version.clone()));
        }
        version
    }

    /// The content of an answer, held against all before.
    fn check(&mut self, answer: &Response) -> Version {
        let path = &self.path;
        if matches!(answer.status, 404 | 301) {
            return None;
        }
        assert_eq!(answer.status, 200, "{path}: {answer}");
        let version = Some(answer.decoded());
        let tag = answer.get("etag").expect("a tag").trim_start_matches("W/").to_owned();
        let tagged = self.tags.entry(tag).or_insert_with(|| version.clone());
        assert_eq!(show(tagged), show(&version), "{path}: one tag on two contents");
        assert!(*tagged == version, "{path}: one tag on two contents");
        let tags = self.tags.values().filter(|tagged| **tagged == version).count();
        assert_eq!(tags, 1, "{path}: two tags on one content");
        if let Some(date) = answer.get("last-modified") {
            let now = answer.get("date").and_then(parse_date).expect("a date");
            assert!(parse_date(date).expect("a date") < now, "{path}: modified in a second that is not over: {answer}");
            let dated = self.dates.entry(date.to_owned()).or_insert_with(|| version.clone());
            assert!(*dated == version, "{path}: {date} on {} and on {}", show(dated), show(&version));
        }
        version
    }

    /// Waits until the version that is served now has a date, which none before it had.
    pub(crate) fn assert_dated(&mut self) {
        let mut conn = self.server.connect();
        crate::harness::wait_until("a Last-Modified", || {
            conn.send(get_with(&self.path, &[]));
            let answer = conn.recv();
            self.check(&answer);
            answer.get("last-modified").is_some()
        });
    }
}

/// How the witness asks.
#[derive(Clone, Copy)]
enum How {
    Plain,
    Coded,
    Since,
}

/// A version for a failure message.
fn show(version: &Version) -> String {
    match version {
        None => "nothing".to_owned(),
        Some(bytes) => {
            let ends = [&bytes[..bytes.len().min(20)], &bytes[bytes.len().saturating_sub(20)..]];
            let [begin, end] = ends.map(String::from_utf8_lossy);
            format!("{} bytes, {begin:?} to {end:?}", bytes.len())
        }
    }
}
